import numpy as np

from jaxdesc.evaluation import contrast as module
from jaxdesc.evaluation.contrast import contrast
from tests.reference import contrast as oracle


def test_equals_the_definitions(rng, monkeypatch):
    """Pairs rounded so that many values tie, far from zero in part."""
    monkeypatch.setattr(module, "RESAMPLES", 200)
    for shift in (0, 0.5, 1000):
        present = np.round(rng.normal(size=12) + 0.5, 1) + shift
        absent = np.round(rng.normal(size=12), 1) + shift
        found = contrast(present, absent)
        ends = oracle.interval(oracle.auc, present, absent, 0.95, 200, 0)
        np.testing.assert_allclose(found.auc, [oracle.auc(present, absent), *ends], rtol=1e-9)
        np.testing.assert_allclose(found.smd, oracle.smd(present, absent), rtol=1e-9)


def test_constant_activations_have_none():
    found = contrast(np.ones(3), np.ones(3))
    assert np.isnan([*found.auc, found.smd]).all()
    found = contrast(np.ones(3), np.full(3, 0.1))  # constant on each side, but not on both
    assert found.auc == (1, 1, 1)
    assert np.isnan(found.smd)
