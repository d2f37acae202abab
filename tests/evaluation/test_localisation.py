import numpy as np
import pytest

from jaxdesc.evaluation.localisation import localisation
from tests.reference import attention


def test_it_equals_the_definitions():
    rng = np.random.default_rng(0)
    maps = np.maximum(rng.normal(size=(60, 3, 5)), 0).astype(np.float32)
    maps[0] = maps[1] = 0  # empty, so that nothing is found
    maps[1, 1, 1] = np.nan
    boxes = np.sort(rng.random((60, 2, 2)), axis=1).reshape(60, 4)  # left, top, right, bottom
    found = localisation(maps, boxes)
    for cam, box, pointing, energy, chance in zip(maps, boxes, *found, strict=True):
        (y, x), there = attention.peak(cam)
        left, top, right, bottom = box
        assert pointing == (there and left <= x <= right and top <= y <= bottom)
        expected = attention.energy(cam, box) if there else np.nan
        assert energy == pytest.approx(expected, abs=1e-12, nan_ok=True)
        assert chance == pytest.approx((right - left) * (bottom - top))
    assert 5 < found.pointing.sum() < 55
    assert not found.pointing[:2].any()
    assert np.isnan(found.energy).nonzero()[0].tolist() == [0, 1]


def test_by_hand():
    maps = np.repeat([[[0.0, 1.0], [3.0, 0.0]]], 3, axis=0)
    boxes = [[0.0, 0.5, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0], [0.0, 0.5, 0.25, 1.0]]
    found = localisation(maps, np.array(boxes))
    np.testing.assert_array_equal(found.energy, [0.75, 0.25, 0.375])
    np.testing.assert_array_equal(found.pointing, [True, False, True])
    np.testing.assert_array_equal(found.chance, [0.25, 0.5, 0.125])
