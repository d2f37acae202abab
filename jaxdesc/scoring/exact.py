"""Scores of single pairs, by one program, so that they do not depend on what is asked beside them.

Pairs are laid out in tiles of one neuron and a fixed number of concepts. Concepts of equal
features, such as the duplicates of a vocabulary, are scored once, so that they tie.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float32, Int32, Int64

from jaxdesc.compiler import contraction, jit
from jaxdesc.scoring.problem import Problem
from jaxdesc.similarity import t_vmf_difference

# Concepts in a tile, and tiles that are scored at a time.
_WIDTH = 128
_TILES = 32

# Rows that are read at a time to find copies.
_ROWS = 1 << 14


def exact_scores(
    problem: Problem,
    kappas: Float32[np.ndarray, "kappa"],
    neurons: Int32[np.ndarray, "pair"],
    concepts: Int32[np.ndarray, "pair"],
) -> Float32[np.ndarray, "kappa pair"]:
    """Scores of pairs of a neuron and a concept.

    Args:
        problem: the features.
        kappas: concentrations κ.
        neurons: of each pair.
        concepts: of each pair.

    Returns:
        The score of each pair under each κ.
    """
    distinct, place = np.unique(concepts, return_inverse=True)
    originals = _originals(problem, distinct)[place].astype(np.int64)
    keys, place = np.unique(neurons * len(problem) + originals, return_inverse=True)
    exemplars, with_base = np.asarray(problem.exemplars), np.asarray(problem.with_base)
    scores = np.empty((len(kappas), len(keys)), np.float32)
    for pairs, owners, wanted, cells in _tiles(*np.divmod(keys, len(problem))):
        rows = exemplars[owners]
        texts = problem.rows(wanted.ravel()).reshape(*wanted.shape, -1)
        cosines = _cosines(problem.images, rows, texts)
        for k, kappa in enumerate(kappas):
            means = _exact_scores(cosines, with_base[rows], kappa)
            scores[k, pairs] = np.asarray(means)[cells]
    return scores[:, place]


def _tiles(
    neurons: Int64[np.ndarray, "pair"], concepts: Int64[np.ndarray, "pair"]
) -> Iterator[tuple[slice, np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]]:
    """Lay sorted pairs out, a program's tiles at a time.

    Yields:
        Which pairs, the neuron of each tile, its concepts, and the cells that the pairs are in.
    """
    _, start, counts = np.unique(neurons, return_index=True, return_counts=True)
    tiles = -(-counts // _WIDTH)
    rank = np.arange(len(neurons)) - np.repeat(start, counts)
    tile = np.repeat(np.cumsum(tiles) - tiles, counts) + rank // _WIDTH
    for first in range(0, int(tiles.sum()), _TILES):
        pairs = slice(*np.searchsorted(tile, (first, first + _TILES)))
        cells = tile[pairs] - first, rank[pairs] % _WIDTH
        owners = np.zeros(_TILES, np.int64)
        wanted = np.full((_TILES, _WIDTH), concepts[pairs][0])
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


@jit
def _cosines(
    images: Float32[Array, "image feature"],
    exemplars: Int32[ArrayLike, "tile exemplar"],
    texts: Float32[ArrayLike, "tile concept feature"],
) -> Float32[Array, "tile exemplar concept"]:
    rows = images[jnp.asarray(exemplars)]
    return jnp.minimum(contraction("tof,tcf->toc", rows, texts), 1)


@jax.jit
def _exact_scores(
    cosines: Float32[Array, "tile exemplar concept"],
    with_base: Float32[ArrayLike, "tile exemplar"],
    kappa: Float32[ArrayLike, ""],
) -> Float32[Array, "tile concept"]:
    return t_vmf_difference(cosines, jnp.asarray(with_base)[:, :, None], kappa).mean(axis=1)
