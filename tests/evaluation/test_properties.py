"""Clarity, redundancy and polysemanticity against loops over pairs, and against all splits."""

import numpy as np
import pytest

from jaxdesc.evaluation import properties as module
from jaxdesc.evaluation.properties import properties
from jaxdesc.exemplars import Slots
from tests.reference import properties as reference

WIDTH, SLOTS = 24, 9


def made_up(seed=0):
    """Units with exemplars of one kind, of two kinds, or of all; some with few, or none."""
    rng = np.random.default_rng(seed)
    kinds = rng.normal(size=(5, WIDTH))
    features = np.repeat(kinds, 20, axis=0) + 0.4 * rng.normal(size=(100, WIDTH))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    counts = np.array([9, 9, 9, 9, 0, 1, 2, 3, 5, 9, 9])
    rows = np.zeros((len(counts), SLOTS), np.int64)
    for unit, count in enumerate(counts):
        pools = [[0], [1], [0, 1], [2, 3], [0], [0], [4], [2], [3, 4], [0, 1, 2, 3, 4], [0]][unit]
        members = np.concatenate([np.arange(20 * kind, 20 * kind + 20) for kind in pools])
        rows[unit, :count] = rng.choice(members, count, replace=False)
    return features.astype(np.float32), Slots(rows, counts)


@pytest.mark.parametrize("at_once", [3, 512])
def test_properties_are_those_of_the_oracle(at_once, monkeypatch):
    monkeypatch.setattr(module, "_UNITS", at_once)
    features, slots = made_up()
    found = properties(features, slots)
    groups = {
        unit: features[slots.rows[unit, :count]].astype(np.float64)
        for unit, count in enumerate(slots.counts)
        if count >= 2
    }
    for unit in range(len(slots.counts)):
        if unit not in groups:
            assert np.isnan([found.clarity[unit], found.redundancy[unit]]).all()
            assert np.isnan(found.polysemanticity[unit])
            continue
        own = groups[unit]
        assert found.clarity[unit] == pytest.approx(reference.clarity(own), abs=1e-5)
        value = reference.redundancy(groups, unit)
        assert found.redundancy[unit] == pytest.approx(value, abs=1e-5)
    # Where there are two kinds, or two images, k-means finds the best of all splits.
    for unit in (2, 3, 6):
        best = reference.polysemanticity(groups[unit])
        assert found.polysemanticity[unit] == pytest.approx(best, abs=1e-5)
    assert found.polysemanticity[[2, 3]].min() > 1.5 * found.polysemanticity[[0, 1]].max()
    assert found.clarity[[0, 1]].min() > found.clarity[[2, 3, 9]].max()


def test_few_exemplars_are_not_measured():
    features, slots = made_up()
    found = properties(features, slots, fewest=5)
    assert np.isnan(found.clarity[[4, 5, 6, 7]]).all()
    assert not np.isnan(found.clarity[8])


def test_equal_exemplars_and_single_units():
    features = np.eye(3, dtype=np.float32)[[0, 0, 0]]
    found = properties(features, Slots.full(np.array([[0, 1, 2]])))
    assert (found.clarity[0], found.polysemanticity[0]) == (pytest.approx(1), pytest.approx(0))
    assert np.isnan(found.redundancy[0])
