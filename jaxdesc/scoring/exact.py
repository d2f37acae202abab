"""Scores of single pairs, by one program, so that they do not depend on what is asked beside them.

Pairs are laid out in tiles of one neuron and a fixed number of concepts; exemplars are taken a
fixed number at a time and added in order, so that neither other pairs nor further exemplars change
a bit. Concepts of equal features, such as the duplicates of a vocabulary, are scored once, so that
they tie.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float32, Int, Int32

from jaxdesc.runtime.ahead import ahead
from jaxdesc.runtime.compiler import contraction
from jaxdesc.scoring.problem import PART, Problem
from jaxdesc.scoring.tiles import Tiles, tiles
from jaxdesc.similarity import t_vmf_difference

# Concepts in a tile, tiles that are scored at a time on each device, and exemplars at a time.
_WIDTH = 32
_TILES = 32
_EXEMPLARS = 8


def exact_scores(
    problem: Problem,
    kappas: Float32[np.ndarray, "kappa"],
    count: int,
    neurons: Int32[np.ndarray, "pair"],
    concepts: Int32[np.ndarray, "pair"],
) -> Float32[np.ndarray, "kappa pair"]:
    """Scores of pairs of a neuron and a concept whose features have been read before.

    Args:
        problem: the features.
        kappas: concentrations κ.
        count: number of exemplars asked for.
        neurons: of each pair.
        concepts: of each pair.

    Returns:
        The score of each pair under each κ.
    """
    size = -(-len(problem) // -(-len(problem) // PART))  # parts of one size
    part, within = np.divmod(_originals(problem, concepts), size)
    keys = (part * problem.neurons + neurons) * size + within
    keys, place = np.unique(keys, return_inverse=True)
    keys, within = np.divmod(keys, size)
    part, owners = np.divmod(keys, problem.neurons)
    scores = np.empty((len(kappas), len(keys)), np.float32)
    for number in np.unique(part).tolist():
        texts = problem.part(number * size, size)
        own = slice(*np.searchsorted(part, (number, number + 1)))
        scores[:, own] = _of_part(problem, kappas, count, texts, owners[own], within[own])
    return scores[:, place]


def _of_part(
    problem: Problem,
    kappas: Float32[np.ndarray, "kappa"],
    count: int,
    texts: Float32[Array, "concept feature"],
    neurons: Int[np.ndarray, "pair"],
    concepts: Int[np.ndarray, "pair"],
) -> Float32[np.ndarray, "kappa pair"]:
    """Scores of pairs that are sorted by neuron."""
    exemplars, filled = _chunked(np.asarray(problem.exemplars[count])), problem.filled[count]
    several = np.resize(kappas, max(2, len(kappas)))  # for one alone, XLA drops the loop
    with_base = np.asarray(problem.with_base)

    def start(some: Tiles) -> Float32[Array, "kappa tile concept"]:
        split, chosen = problem.devices.split, exemplars[:, some.neurons]
        base = np.moveaxis(with_base[chosen], 2, 1).reshape(-1, len(some.neurons))
        rows = split(chosen, axis=1), split(some.concepts)
        cosines = _cosines(problem.images, texts, *rows)
        return _means(cosines, split(base, axis=1), several, split(filled[some.neurons]))

    scores = np.empty((len(kappas), len(neurons)), np.float32)
    every = tiles(neurons, concepts, _WIDTH, _TILES * problem.devices.count)
    for some, means in ahead((some, start(some)) for some in every):
        of_cells = np.asarray(means).reshape(len(several), -1)[: len(kappas)]
        scores[:, some.pairs] = of_cells.take(some.cells, axis=1)
    return scores


def _chunked(
    exemplars: Int32[np.ndarray, "neuron exemplar"],
) -> Int32[np.ndarray, "chunk neuron some"]:
    """Exemplars a few at a time; image 0 fills up the last few."""
    rows = np.pad(exemplars, ((0, 0), (0, -exemplars.shape[1] % _EXEMPLARS)))
    return np.moveaxis(rows.reshape(len(rows), -1, _EXEMPLARS), 1, 0)


def _originals(problem: Problem, concepts: Int32[np.ndarray, "pair"]) -> Int[np.ndarray, "pair"]:
    """For each pair's concept the first one whose features are equal bit for bit."""
    there = np.zeros(len(problem), bool)
    there[concepts] = True
    distinct = np.flatnonzero(there)
    # Few distinct features have equal first components, so few rows are compared as a whole.
    first = problem.first[distinct]
    _, place, counts = np.unique(first, return_inverse=True, return_counts=True)
    originals = np.arange(len(problem))
    seen: dict[bytes, int] = {}
    for concept in distinct[counts[place] > 1].tolist():
        features = problem.block(concept, 1).tobytes()
        originals[concept] = seen.setdefault(features, concept)
    return originals[concepts]


@jax.jit
def _cosines(
    images: Float32[Array, "image feature"],
    texts: Float32[Array, "part feature"],
    exemplars: Int32[Array, "chunk tile some"],
    concepts: Int32[Array, "tile concept"],
) -> Float32[Array, "exemplar tile concept"]:
    chosen = texts.at[concepts].get(mode="promise_in_bounds")
    views = images.at[exemplars].get(mode="promise_in_bounds")

    def of_chunk(few: Float32[Array, "tile some feature"]) -> Float32[Array, "tile concept some"]:
        return jnp.minimum(contraction("tcf,tof->tco", chosen, few), 1)

    cosines = jnp.moveaxis(jax.lax.map(of_chunk, views), 3, 1)
    return cosines.reshape(-1, *cosines.shape[2:])


@jax.jit
def _means(
    cosines: Float32[Array, "exemplar tile concept"],
    with_base: Float32[Array, "exemplar tile"],
    kappas: Float32[ArrayLike, "kappa"],
    filled: Int32[Array, "tile"],
) -> Float32[Array, "kappa tile concept"]:
    """Means over the exemplars of each tile: the same loops for every κ and number of them."""
    taken = jnp.arange(len(cosines))[:, None] < filled[None]

    def under(kappa: Float32[Array, ""]) -> Float32[Array, "tile concept"]:
        def add(total: Array, of_slot: tuple[Array, Array, Array]) -> tuple[Array, None]:
            cosine, base, counts = of_slot
            difference = t_vmf_difference(cosine, base[:, None], kappa)
            return total + jnp.where(counts[:, None], difference, 0), None

        nothing = jnp.zeros(cosines.shape[1:], cosines.dtype)
        return jax.lax.scan(add, nothing, (cosines, with_base, taken))[0]

    return jax.lax.map(under, jnp.asarray(kappas)) / filled.astype(cosines.dtype)[None, :, None]
