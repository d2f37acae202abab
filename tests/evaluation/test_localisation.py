import numpy as np
import pytest

from jaxdesc.evaluation.localisation import localisation
from tests.reference import attention


def test_it_equals_the_definitions():
    rng = np.random.default_rng(0)
    maps = np.maximum(rng.normal(size=(60, 3, 5)), 0).astype(np.float32)
    boxes = np.sort(rng.random((60, 2, 2)), axis=1).reshape(60, 4)  # left, top, right, bottom
    found = localisation(maps, boxes)
    for cam, box, pointing, energy, chance in zip(maps, boxes, *found, strict=True):
        (y, x), there = attention.peak(cam)
        left, top, right, bottom = box
        assert pointing == (there and left <= x <= right and top <= y <= bottom)
        assert energy == pytest.approx(attention.energy(cam, box), abs=1e-12)
        assert chance == pytest.approx((right - left) * (bottom - top))
    assert 5 < found.pointing.sum() < 55


def test_by_hand():
    maps = np.repeat([[[0.0, 1.0], [3.0, 0.0]]], 3, axis=0)
    boxes = [[0.0, 0.5, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0], [0.0, 0.5, 0.25, 1.0]]
    found = localisation(maps, np.array(boxes))
    np.testing.assert_array_equal(found.energy, [0.75, 0.25, 0.375])
    np.testing.assert_array_equal(found.pointing, [True, False, True])
    np.testing.assert_array_equal(found.chance, [0.25, 0.5, 0.125])


def test_an_even_map_reaches_chance_and_an_empty_one_finds_nothing():
    boxes = np.array([[0.1, 0.2, 0.65, 0.9], [0.0, 0.0, 1.0, 1.0]])
    found = localisation(np.ones((2, 7, 7)), boxes)
    np.testing.assert_allclose(found.energy, found.chance, atol=1e-12)
    empty = np.zeros((2, 3, 3))
    empty[1, 1, 1] = np.nan
    found = localisation(empty, boxes)
    assert not found.pointing.any()
    assert np.isnan(found.energy).all()
