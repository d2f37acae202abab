"""Exemplars against the rule, in any order of batches and images, and at each n of a sweep."""

import hashlib

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdesc.exemplars import Slots, exemplars, find
from tests.reference import exemplars as reference


def key(name):
    """The hash by which images are drawn."""
    return hashlib.sha256(f"0 {name}".encode()).hexdigest()


def activations(seed, images=53, units=12):
    """Dense units, and units of every kind in the rule."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(images, units)).astype(np.float32)
    matrix[:, 1] = np.round(matrix[:, 1])  # ties everywhere
    matrix[:, 2] = 3.5  # dead
    matrix[:, 3] = np.where(rng.random(images) < 0.5, -0.0, 0.0)  # dead: both zeros are equal
    matrix[:, 4] = np.maximum(matrix[:, 4] - 1.5, 0)  # a sparse ReLU
    matrix[:, 5] = np.where(np.abs(matrix[:, 5]) > 1.5, matrix[:, 5], 0)  # a sparse signed code
    matrix[:, 6] = rng.random(images) < 0.5  # its largest value is shared by half of the images
    matrix[:, 7] = np.minimum(matrix[:, 7], 0)  # likewise, with others below it
    matrix[:, 8] = np.maximum(matrix[:, 4], 1e-6)  # a floor
    matrix[:, 9] = matrix[:, 4] + 1e-6 * rng.random(images)  # noise instead of ties
    matrix[:, 10] = matrix[:, 5] + 1e-6 * rng.random(images)
    matrix[:, 11] = np.round(4 * matrix[:, 11]) / 4
    return matrix


def check(found, matrix, n, names=None):
    names = names or list(map(str, range(len(matrix))))
    expected = reference.exemplars(matrix, n, names, key)
    for unit, images in enumerate(expected):
        assert found.images[unit, : found.counts[unit]].tolist() == images
        np.testing.assert_array_equal(found.values[unit, : len(images)], matrix[images, unit])
    assert not found.images[~found.slots.taken].any()
    np.testing.assert_array_equal(found.dead, reference.dead(matrix))
    for fewest in (1, 5):
        flags = reference.flags(matrix, n, names, key, fewest)
        assert [set(of_unit) for of_unit in found.flags(fewest)] == flags


def merged(matrix, n, batches):
    """Exemplars by given batches, each padded to 16 with poisonous rows."""

    def padded():
        for rows in batches:
            padding = 16 - len(rows)
            block = np.concatenate([matrix[rows], np.full((padding, matrix.shape[1]), np.nan)])
            images = np.concatenate([rows, np.full(padding, len(matrix) + 9)]).astype(np.int32)
            yield block.astype(np.float32), images, np.arange(16) < len(rows)

    return find(padded, n, lambda: list(map(str, range(len(matrix)))))


@pytest.mark.parametrize(("seed", "n"), [(0, 1), (1, 5), (0, 30), (1, 53)])
def test_equals_the_rule_in_any_order(seed, n):
    matrix = activations(seed)
    order = np.random.default_rng(seed + 100).permutation(len(matrix))
    for rows in (np.arange(len(matrix)), order):
        found = merged(matrix, n, np.array_split(rows, [3, 19, 20, 36, 52]))
        check(found, matrix, n)
        np.testing.assert_array_equal(found.lowest, matrix.min(axis=0))
        np.testing.assert_array_equal(found.highest, matrix.max(axis=0))


@pytest.mark.parametrize(("seed", "most"), [(0, 8), (1, 53)])
def test_fewer_exemplars_are_those_of_a_search_for_fewer(seed, most):
    matrix = activations(seed)
    found = exemplars(matrix, most)
    for n in (1, 5, 8):
        fewer, expected = found.first(n, str), exemplars(matrix, n)
        for name in ("images", "values", "counts", "tied"):
            np.testing.assert_array_equal(getattr(fewer, name), getattr(expected, name), name)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_the_order_of_images_and_units_does_not_matter(seed):
    """Neither for the drawing among tied images; only the order of equal ones may change."""
    rng = np.random.default_rng(seed)
    matrix = activations(seed)
    names = [f"photo {i}.jpg" for i in range(len(matrix))]
    images, units = rng.permutation(len(matrix)), rng.permutation(matrix.shape[1])
    plain = exemplars(matrix, 4, names)
    permuted = exemplars(matrix[images][:, units], 4, [names[i] for i in images])
    np.testing.assert_array_equal(permuted.counts, plain.counts[units])
    for index, unit in enumerate(units):
        taken = slice(0, plain.counts[unit])
        assert set(images[permuted.images[index, taken]]) == set(plain.images[unit, taken])
    assert permuted.flags(5) == [plain.flags(5)[unit] for unit in units]
    check(permuted, matrix[images][:, units], 4, [names[i] for i in images])


def test_names_are_read_only_if_they_decide():
    def names():
        raise AssertionError("asked for names")

    matrix = np.delete(activations(0), [6, 7], axis=1)
    batch = matrix, np.arange(53, dtype=np.int32), np.ones(53, bool)
    find(lambda: [batch], 8, names)
    with pytest.raises(AssertionError, match="asked for names"):
        find(lambda: [(1 - np.eye(53, dtype=np.float32)[:, :1], *batch[1:])], 8, names)


@pytest.mark.parametrize("n", [2, 10])
def test_nan_is_never_chosen(n):
    matrix = activations(0)[:, :7]
    matrix[4, 5] = np.nan
    matrix[:, 6] = np.nan
    found = exemplars(matrix, n, batch=8)
    assert 4 not in found.images[5, : found.counts[5]]
    assert found.counts[6] == 0
    without = np.delete(matrix[:, 5], 4)
    assert (found.lowest[5], found.highest[5]) == (without.min(), without.max())


def test_one_trace(monkeypatch):
    traces = []
    sort = jax.lax.sort
    monkeypatch.setattr(jax.lax, "sort", lambda *a, **k: traces.append(1) or sort(*a, **k))
    # A shape that no other test has, so that nothing is cached.
    exemplars(np.random.default_rng(0).normal(size=(41, 5)).astype(np.float32), 4, batch=6)
    assert len(traces) == 1


def test_slots():
    slots = Slots(np.array([[3, 1, 7], [7, 9, 9], [0, 0, 0]]), np.array([3, 1, 0]))
    np.testing.assert_allclose(slots.weights, [[1 / 3] * 3, [1, 0, 0], [0, 0, 0]])
    rows, positions = slots.distinct()
    assert rows.tolist() == [1, 3, 7]
    assert positions.rows.tolist() == [[1, 0, 2], [2, 0, 0], [0, 0, 0]]
    assert positions.counts.tolist() == [3, 1, 0]


@pytest.mark.parametrize("floor", [1e-3, 5e-2])
def test_a_code_with_both_signs_is_weak_if_its_floor_is_among_the_exemplars(floor):
    """It rests just above 0 on some images, fires on five, and is below 0 on others."""
    rng = np.random.default_rng(0)
    matrix = floor * rng.uniform(0.5, 1.5, (60, 4)).astype(np.float32)
    matrix[:5], matrix[5:11] = rng.uniform(1, 2, (5, 4)), -rng.uniform(1, 2, (6, 4))
    found = exemplars(matrix, 20)
    assert found.weak.all()
    assert found.flags(5) == [("weak",)] * 4
    assert reference.flags(matrix, 20) == [{"weak"}] * 4
    assert not exemplars(matrix, 5).weak.any()
