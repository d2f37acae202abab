"""Means and differences over probe sets."""

import numpy as np

from jaxdesc.evaluation.statistics import bootstrap, mcnemar, paired
from jaxdesc.evidence.measured import differences, means

RNG = np.random.default_rng(0)
OWN, OTHER = (
    [{"hit": RNG.integers(0, 2, 12).astype(float), "f1": RNG.uniform(size=12)} for _ in range(3)]
    for _ in range(2)
)


def test_each_neuron_is_averaged_over_the_probe_sets_first():
    hit, f1 = means(OWN)
    assert hit == bootstrap((OWN[0]["hit"] + OWN[1]["hit"] + OWN[2]["hit"]) / 3)
    assert f1 == bootstrap((OWN[0]["f1"] + OWN[1]["f1"] + OWN[2]["f1"]) / 3)


def test_differences_are_paired_and_p_is_of_the_first_probe_set():
    hit, f1, p = differences(OWN, OTHER)
    for found, kind in ((hit, "hit"), (f1, "f1")):
        own, other = (sum(values[kind] for values in side) / 3 for side in (OWN, OTHER))
        np.testing.assert_allclose(found, paired(own, other), atol=1e-12)
    each = [mcnemar(a["hit"] > 0, b["hit"] > 0).p for a, b in zip(OWN, OTHER, strict=True)]
    assert p == each[0]
    assert p not in each[1:]


def test_nothing_is_compared_with_itself():
    assert differences(OWN, OWN) == (None, None, None)
