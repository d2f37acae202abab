"""Scores of single pairs, by one program, so that they do not depend on what is asked beside them.

Pairs are laid out in tiles of one neuron and a fixed number of concepts; exemplars are taken a
fixed number at a time and added in order, so that neither other pairs nor further exemplars change
a bit.
Concepts of equal features, such as the duplicates of a vocabulary, are scored once, so that they
tie.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float32, Int32, Int64

from jaxdesc.compiler import contraction
from jaxdesc.scoring.problem import Conditions, Problem
from jaxdesc.similarity import t_vmf_difference

# Concepts in a tile, tiles that are scored at a time, and exemplars that are taken at a time.
_WIDTH = 32
_TILES = 128
_EXEMPLARS = 8

# Rows that are read at a time to find copies.
_ROWS = 1 << 14


def exact_scores(
    problem: Problem,
    conditions: Conditions,
    neurons: Int32[np.ndarray, "pair"],
    concepts: Int32[np.ndarray, "pair"],
) -> Float32[np.ndarray, "kappa count pair"]:
    """Scores of pairs of a neuron and a concept.

    Args:
        problem: the features.
        conditions: concentrations κ and numbers of exemplars.
        neurons: of each pair.
        concepts: of each pair.

    Returns:
        The score of each pair under each κ, from each number of exemplars.
    """
    distinct, place = np.unique(concepts, return_inverse=True)
    originals = _originals(problem, distinct)[place].astype(np.int64)
    keys, place = np.unique(neurons * len(problem) + originals, return_inverse=True)
    exemplars, with_base = _chunked(problem.exemplars), np.asarray(problem.with_base)
    counts = np.array(conditions.counts, np.int32)
    scores = np.empty((len(conditions.kappas), len(counts), len(keys)), np.float32)
    split = problem.devices.split
    tiles = _tiles(*np.divmod(keys, len(problem)), _TILES * problem.devices.count)
    for pairs, owners, wanted, cells in tiles:
        chosen = exemplars[:, owners]
        of_base = split(np.moveaxis(with_base[chosen], 2, 1).reshape(-1, len(owners)), axis=1)
        texts = problem.rows(wanted.ravel()).reshape(*wanted.shape, -1)
        cosines = _cosines(problem.images, split(chosen, axis=1), split(texts))
        for k, kappa in enumerate(conditions.kappas):
            means = _means(cosines, of_base, kappa, counts)
            scores[k, :, pairs] = np.asarray(means)[:, *cells]
    return scores[:, :, place]


def _chunked(
    exemplars: Int32[Array, "neuron exemplar"],
) -> Int32[np.ndarray, "chunk neuron some"]:
    """Exemplars a few at a time; image 0 fills up the last few."""
    rows = np.asarray(exemplars)
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % _EXEMPLARS)))
    return np.moveaxis(rows.reshape(len(rows), -1, _EXEMPLARS), 1, 0)


def _tiles(
    neurons: Int64[np.ndarray, "pair"], concepts: Int64[np.ndarray, "pair"], many: int
) -> Iterator[tuple[slice, np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]]:
    """Lay sorted pairs out, `many` tiles at a time.

    Yields:
        Which pairs, the neuron of each tile, its concepts, and the cells that the pairs are in.
    """
    _, start, counts = np.unique(neurons, return_index=True, return_counts=True)
    of_neuron = -(-counts // _WIDTH)
    rank = np.arange(len(neurons)) - np.repeat(start, counts)
    tile = np.repeat(np.cumsum(of_neuron) - of_neuron, counts) + rank // _WIDTH
    for first in range(0, int(of_neuron.sum()), many):
        pairs = slice(*np.searchsorted(tile, (first, first + many)))
        cells = tile[pairs] - first, rank[pairs] % _WIDTH
        owners = np.zeros(many, np.int64)
        wanted = np.full((many, _WIDTH), concepts[pairs][0])
        owners[cells[0]], wanted[cells] = neurons[pairs], concepts[pairs]
        yield pairs, owners, wanted, cells


def _originals(
    problem: Problem, concepts: Int32[np.ndarray, "concept"]
) -> Int32[np.ndarray, "concept"]:
    """For each concept the first one whose features are equal bit for bit."""
    starts = range(0, len(concepts), _ROWS)
    parts = [problem.rows(concepts[start : start + _ROWS])[:, 0] for start in starts]
    # Few distinct features have equal first components, so few rows are compared as a whole.
    _, place, counts = np.unique(np.concatenate(parts), return_inverse=True, return_counts=True)
    alike = np.flatnonzero(counts[place] > 1)
    originals = concepts.copy()
    seen: dict[bytes, int] = {}
    for start in range(0, len(alike), _ROWS):
        part = alike[start : start + _ROWS]
        for index, row in zip(part, problem.rows(concepts[part]), strict=True):
            originals[index] = seen.setdefault(row.tobytes(), concepts[index])
    return originals


@jax.jit
def _cosines(
    images: Float32[Array, "image feature"],
    exemplars: Int32[ArrayLike, "chunk tile some"],
    texts: Float32[ArrayLike, "tile concept feature"],
) -> Float32[Array, "exemplar tile concept"]:
    texts = jnp.asarray(texts)

    def of_chunk(rows: Int32[Array, "tile some"]) -> Float32[Array, "some tile concept"]:
        return jnp.minimum(contraction("tof,tcf->otc", images[rows], texts), 1)

    cosines = jax.lax.map(of_chunk, jnp.asarray(exemplars))
    return cosines.reshape(-1, *cosines.shape[2:])


@jax.jit
def _means(
    cosines: Float32[Array, "exemplar tile concept"],
    with_base: Float32[ArrayLike, "exemplar tile"],
    kappa: Float32[ArrayLike, ""],
    counts: Int32[ArrayLike, "count"],
) -> Float32[Array, "count tile concept"]:
    """Means over the first so many exemplars: the same program for every κ and number of them."""

    def add(total: Array, of_exemplar: tuple[Array, Array]) -> tuple[Array, Array]:
        cosine, base = of_exemplar
        total += t_vmf_difference(cosine, base[:, None], kappa)
        return total, total

    nothing = jnp.zeros(cosines.shape[1:], cosines.dtype)
    _, totals = jax.lax.scan(add, nothing, (cosines, jnp.asarray(with_base)))
    counts = jnp.asarray(counts)
    return totals[counts - 1] / counts.astype(totals.dtype)[:, None, None]
