"""The tables of windows of units against runs of their own."""

import numpy as np
import pytest

import jaxdesc as jd
from jaxdesc.config import Config
from jaxdesc.evaluation.statistics import bootstrap, paired
from jaxdesc.evidence import units
from jaxdesc.evidence.world import SETTING
from tests.evidence.conftest import PHRASES

PROBES = tuple(f"scenes:split=probe,seed={seed},count=48" for seed in (6, 7))
FIELD, FEW = 0.65, ("class", "unit", "unit and whole image")


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "WINDOWS", {name: units.WINDOWS[name] for name in FEW})
        return units.tables(
            tmp_path_factory.mktemp("units"),
            worlds={"probe": PROBES},
            networks={"classes": "scenes"},
            fields=(FIELD,),
        )


def hits(**options):
    """Share of probe sets on which each class is among its neuron's concepts."""
    right = []
    target, clip = jd.load_target("scenes"), jd.load_clip("scenes")
    for probe in PROBES:
        found = jd.describe(
            target, clip, images=probe, concepts=PHRASES, config=SETTING, quiet=True, **options
        )
        right.append([bool({t for t, _ in n.concepts} & set(n.names)) for n in found])
    return np.mean(right, axis=0)


@pytest.mark.full
def test_rows_are_runs_of_their_own(tables):
    windows, gaps = tables
    assert len(windows.rows) == (len(FEW) + 1) * len(units.KAPPAS)
    own, whole = hits(of="unit", view="attention"), hits(view="full")
    row = {"world": "probe", "network": "classes", "kappa": 16.0}
    for window, field, values in (("unit", FIELD, own), ("whole image", None, whole)):
        cell = windows.at("all", window=window, field=field, **row)
        np.testing.assert_allclose(cell, bootstrap(values), atol=1e-6)
    gap = gaps.at("− whole image", window="unit", field=FIELD, **row)
    np.testing.assert_allclose(gap, paired(own, whole), atol=1e-6)
    assert gaps.at("− class", window="class", field=FIELD, **row) is None


def test_kinds_of_windows_are_configs():
    assert set(units.NETWORKS) == {"attributes", "classes", "ViT"}
    for changes in units.WINDOWS.values():
        Config.from_dict(changes)
    assert not set(units.WORLDS["validation"]) & set(units.WORLDS["probe"])
