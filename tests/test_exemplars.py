import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdesc.exemplars import dead, empty, exemplars, update
from tests.reference import exemplars as reference


def activations(seed, images=53, neurons=7):
    """Activations with many ties, a dead neuron, and one of nothing but both zeros."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(images, neurons)).astype(np.float32)
    matrix[:, 1::2] = np.round(matrix[:, 1::2])
    matrix[:, 2] = 3.5
    matrix[:, 3] = np.where(rng.random(images) < 0.5, -0.0, 0.0)
    return matrix


def merged(matrix, n, batches):
    """The state after merging the given rows, each batch padded to 16 with poisonous rows."""
    state = empty(matrix.shape[1], n)
    for rows in batches:
        padding = 16 - len(rows)
        block = np.concatenate([matrix[rows], np.full((padding, matrix.shape[1]), np.nan)])
        images = np.concatenate([rows, np.full(padding, 2)]).astype(np.int32)
        state = update(state, block.astype(np.float32), images, np.arange(16) < len(rows))
    return state


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n", [1, 5, 53])
def test_equals_the_definition_in_any_order(seed, n):
    matrix = activations(seed)
    order = np.random.default_rng(seed + 100).permutation(len(matrix))
    for rows in (np.arange(len(matrix)), order):
        state = merged(matrix, n, np.array_split(rows, [3, 19, 20, 36, 52]))
        expected = reference.exemplars(matrix, n)
        np.testing.assert_array_equal(state.images, expected)
        np.testing.assert_array_equal(state.values, np.take_along_axis(matrix.T, expected, axis=1))
        np.testing.assert_array_equal(dead(state), reference.dead(matrix))
        np.testing.assert_array_equal(state.lowest, matrix.min(axis=0))
        np.testing.assert_array_equal(state.highest, matrix.max(axis=0))
        assert not np.any(state.nan)


@pytest.mark.parametrize("batch", [1, 7, 53, 1000])
def test_whole_matrix(batch):
    matrix = activations(0)
    state = exemplars(matrix, 5, batch=batch)
    np.testing.assert_array_equal(state.images, reference.exemplars(matrix, 5))
    np.testing.assert_array_equal(dead(state), reference.dead(matrix))


def test_an_empty_slot_loses_to_every_activation():
    matrix = np.array([[-np.inf], [-7.0]], np.float32)
    state = merged(matrix, 3, [[0, 1]])
    np.testing.assert_array_equal(state.images, [[1, 0, -1]])
    np.testing.assert_array_equal(state.values, [[-7.0, -np.inf, -np.inf]])


def test_padding_leaves_no_trace():
    before = merged(activations(0), 5, [np.arange(16)])
    after = update(
        before, np.full((16, 7), 1e9, np.float32), np.arange(16, dtype=np.int32), np.zeros(16, bool)
    )
    jax.tree.map(np.testing.assert_array_equal, before, after)


@pytest.mark.parametrize("n", [2, 10])
def test_nan_is_flagged_and_never_chosen(n):
    matrix = activations(0)
    matrix[4, 5] = np.nan
    matrix[:, 6] = np.nan
    state = exemplars(matrix, n, batch=8)
    np.testing.assert_array_equal(state.nan, [False] * 5 + [True] * 2)
    assert 4 not in np.asarray(state.images[5])
    assert np.isfinite(state.values[5]).all()
    np.testing.assert_array_equal(state.images[6], -1)
    np.testing.assert_array_equal(dead(state), [False, False, True, True, False, False, False])
    without = np.delete(matrix[:, 5], 4)
    assert (state.lowest[5], state.highest[5]) == (without.min(), without.max())


def test_a_neuron_without_images_is_not_dead():
    assert not np.any(dead(empty(3, 2)))


def test_one_trace(monkeypatch):
    traces = []
    sort = jax.lax.sort
    monkeypatch.setattr(jax.lax, "sort", lambda *a, **k: traces.append(1) or sort(*a, **k))
    # A shape that no other test has, so that nothing is cached.
    exemplars(activations(0, images=41, neurons=5), 4, batch=6)
    assert len(traces) == 1


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_permuting_images_and_neurons_permutes_exemplars(seed):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(30, 6)).astype(np.float32)
    images, neurons = rng.permutation(30), rng.permutation(6)
    plain = np.asarray(exemplars(matrix, 4, batch=8).images)
    permuted = np.asarray(exemplars(matrix[images][:, neurons], 4, batch=8).images)
    np.testing.assert_array_equal(images[permuted], plain[neurons])


def test_errors():
    with pytest.raises(ValueError, match="at least 1 neuron and 1 exemplar each, but got 0 and 4"):
        empty(0, 4)
    with pytest.raises(ValueError, match=r"6 exemplars were asked for .* there are 5 images"):
        exemplars(np.zeros((5, 2), np.float32), 6)
    with pytest.raises(ValueError, match="for a batch of at least 1"):
        exemplars(np.zeros((5, 2), np.float32), 2, batch=0)
