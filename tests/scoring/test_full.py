"""The full engine: room for rounding, bounded memory."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdesc.scoring import discover, full
from tests.reference import scoring as reference
from tests.scoring.features import problem


@pytest.mark.parametrize("kappa", [0.0, 1e-3, 16.0, 1e5])
def test_it_allows_for_rounding(kappa, monkeypatch):
    """Its product may round otherwise than the exact program: here by as much as float32 does."""
    arrays = problem(3, neurons=1, width=64)
    cosines = arrays[0][arrays[1][0]].astype(np.float64) @ arrays[2].T.astype(np.float64)
    moved = reference.t_vmf(cosines + 4e-7, kappa).mean(0) - reference.t_vmf(cosines, kappa).mean(0)
    largest = discover(*arrays, kappa, 0.5, engine="full").maximum[0]
    (_, first), (second, value), *_ = discover(*arrays, kappa, 0.01, engine="full").of(0)
    assert first == largest
    alpha = value / float(largest) * (1 - 1e-9)  # the second best one is selected by a hair
    expected = discover(*arrays, kappa, alpha, engine="full")
    assert second in expected.concepts
    compute = full._look

    def rounded(*given, **options):
        look = compute(*given, **options)
        reach = np.array(look.reach)
        reach[0, 0, second] -= np.float32(moved[second])
        return look._replace(reach=jnp.asarray(reach), largest=jnp.asarray(reach.max(axis=2)))

    monkeypatch.setattr(full, "_look", rounded)
    found = discover(*arrays, kappa, alpha, engine="full")
    np.testing.assert_array_equal(found.concepts, expected.concepts)
    np.testing.assert_array_equal(found.scores, expected.scores)


def compiled(arrays, block, counts=(40,)):
    views, exemplars, texts, base = arrays
    return full._look.compiled.lower(
        jnp.asarray(views),
        jnp.asarray(views @ base),
        tuple(jnp.asarray(exemplars[:, :count], "int32") for count in counts),
        tuple(np.full(len(exemplars), count, np.int32) for count in counts),
        jnp.asarray(texts[:block]),
        np.ones(1, np.float32),
        np.zeros((len(counts), len(exemplars), 1), np.float32),
        np.int32(block),
    ).compile()


def test_memory_is_bounded_by_images_and_neurons_times_block():
    images, neurons, n, concepts, width, block = 64, 256, 40, 4096, 8, 128
    arrays = problem(0, images, neurons, n, concepts, width)
    bound = 4 * block * (3 * images + 4 * neurons)
    used = compiled(arrays, block).memory_analysis().temp_size_in_bytes
    assert used < bound < 4 * neurons * concepts
