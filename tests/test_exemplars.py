"""Exemplars against the rule, in any order of batches and images, and at each n of a sweep."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from jaxdesc.exemplars import Slots, exemplars, find, search
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


def batches(matrix, parts, kind=np.asarray):
    return [(kind(matrix[rows]), rows.astype(np.int32)) for rows in parts]


@pytest.mark.parametrize(("seed", "n"), [(0, 1), (1, 5), (0, 30), (1, 53)])
def test_equals_the_rule_in_any_order(seed, n):
    matrix = activations(seed)
    order = np.random.default_rng(seed + 100).permutation(len(matrix))
    for rows in (np.arange(len(matrix)), order):
        found = find(batches(matrix, np.array_split(rows, [3, 19, 20, 36, 52])), n, str)
        check(found, matrix, n)
        np.testing.assert_array_equal(found.lowest, matrix.min(axis=0))
        np.testing.assert_array_equal(found.highest, matrix.max(axis=0))
        np.testing.assert_allclose(found.mean, matrix.mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(found.density, (matrix > 0).mean(axis=0))


def codes(seed, images=53):
    """Non-negative units of every kind in the rule: how often they are above zero, and tied."""
    rng = np.random.default_rng(seed)
    counts = [0, 1, 2, 5, 6, 20, images - 2, images - 1, images]
    matrix = np.zeros((images, 3 * len(counts) + 2), np.float32)
    for unit, count in enumerate(counts):
        for kind in range(3):
            values = rng.random(count) + 0.1, rng.integers(1, 3, count), np.ones(count)
            matrix[rng.permutation(images)[:count], 3 * unit + kind] = values[kind]
    matrix[:, -2] = np.where(np.arange(images) < 40, 1, 0.5)  # constant at first, then below
    matrix[:, -1] = np.where(np.arange(images) < 40, 1, 2)  # constant at first, then above
    return matrix


@pytest.mark.parametrize(("seed", "n"), [(0, 1), (1, 5), (0, 30), (1, 52), (1, 53)])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array, sparse.coo_array])
def test_sparse_batches_give_what_dense_ones_do(seed, n, kind):
    matrix = codes(seed)
    order = np.random.default_rng(seed + 100).permutation(len(matrix))
    for rows in (np.arange(len(matrix)), order):
        found = find(batches(matrix, np.array_split(rows, [3, 19, 20, 36, 52]), kind), n, str)
        check(found, matrix, n)
        for one, other in zip(found, exemplars(matrix, n), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("make", [activations, codes])
def test_a_whole_sparse_matrix_gives_what_a_dense_one_does(make, monkeypatch):
    monkeypatch.setattr(search, "_CELLS", 200)  # a few units at a time
    matrix = make(0)
    for n in (1, 8, 53):
        found = exemplars(sparse.coo_matrix(matrix), n)
        for one, other in zip(found, exemplars(matrix, n), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
        check(found, matrix, n)


def test_zeros_that_are_stored_and_entries_that_are_split_change_nothing():
    matrix = codes(0)
    stored = sparse.coo_array(matrix)
    rows, columns = np.nonzero(matrix == 0)
    half = np.concatenate([stored.data / 2, stored.data / 2, np.zeros(len(rows))])
    zeros = zip(stored.coords, (rows, columns), strict=True)
    places = tuple(np.concatenate([one, one, zero]) for one, zero in zeros)
    split = sparse.coo_array((half, places), matrix.shape)
    for one, other in zip(exemplars(split, 5), exemplars(matrix, 5), strict=True):
        np.testing.assert_array_equal(one, other)


def test_sparse_batches_below_zero_are_refused():
    matrix = sparse.csr_array(activations(0))
    with pytest.raises(ValueError, match="below zero"):
        find([(matrix, np.arange(53))], 5, str)
    with pytest.raises(ValueError, match="no activations"):
        find([], 5, str)


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
    def name(image):
        raise AssertionError("asked for a name")

    matrix, images = np.delete(activations(0), [6, 7], axis=1), np.arange(53)
    find([(matrix, images)], 8, name)
    with pytest.raises(AssertionError, match="asked for a name"):
        find([(1 - np.eye(53, dtype=np.float32)[:, :1], images)], 8, name)


@pytest.mark.parametrize("n", [2, 10])
def test_nan_is_never_chosen(n):
    matrix = activations(0)[:, :7]
    matrix[4, 5] = np.nan
    matrix[:, 6] = np.nan
    found = exemplars(matrix, n)
    assert 4 not in found.images[5, : found.counts[5]]
    assert found.counts[6] == 0
    without = np.delete(matrix[:, 5], 4)
    assert (found.lowest[5], found.highest[5]) == (without.min(), without.max())


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
