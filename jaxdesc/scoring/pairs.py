"""Pairs program: pairs of a unit and a concept, whose scores do not depend on what else is scored.

Pairs are laid out in tiles of one unit and a fixed number of concepts; exemplars are taken a fixed
number at a time and added in order, so that neither other pairs nor further exemplars change a bit
of a score. Concepts of equal features, such as the duplicates of a vocabulary, are scored once, so
that they tie.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float32, Int, Int32, Shaped

from jaxdesc.runtime.ahead import ahead
from jaxdesc.runtime.compiler import contraction
from jaxdesc.scoring.problem import Problem

# Concepts per tile, tiles at a time on each device, and exemplars at a time.
WIDTH = 128
TILES = 16
SLOTS = 8

# Unit or concept of each pair.
Indices = Int[np.ndarray, "pair"]


def exact_scores(
    problem: Problem, count: int, units: Indices, concepts: Indices
) -> Float32[np.ndarray, "kappa pair"]:
    """Score pairs under each κ; the concepts' features have been read before."""
    kappas, filled = problem.kappas, problem.exemplars[count].counts
    several = np.resize(kappas, max(2, len(kappas)))  # with a single one XLA drops the loop
    keys = units.astype(np.int64) * len(problem) + _originals(problem, concepts)
    keys, inverse = np.unique(keys, return_inverse=True)
    scores, distinct = np.empty((len(kappas), len(keys)), np.float32), np.divmod(keys, len(problem))
    for pairs, values in _of_pairs(problem, count, *distinct, pair_means, several, filled):
        scores[:, pairs] = values[: len(kappas)]
    return scores[:, inverse]


def resampled_scores(
    problem: Problem,
    count: int,
    units: Indices,
    concepts: Indices,
    weights: Float32[np.ndarray, "unit resample exemplar"],
) -> Iterator[tuple[Int[np.ndarray, "some"], Float32[np.ndarray, "resample some"]]]:
    """Score pairs under the problem's only κ, with the exemplars' weights of each resample.

    Yields some of the pairs, sorted by unit, and their scores.
    """
    weights = np.pad(weights, ((0, 0), (0, 0), (0, -weights.shape[2] % SLOTS)))
    (kappa,) = problem.kappas
    return _of_pairs(problem, count, units, concepts, pair_sums, kappa, weights)


def _of_pairs(
    problem: Problem,
    count: int,
    units: Indices,
    concepts: Indices,
    combine: Callable[..., Array],
    kappas: Any,
    of_units: Shaped[np.ndarray, "unit ..."],
) -> Iterator[tuple[Int[np.ndarray, "some"], Float32[np.ndarray, "value some"]]]:
    """Combine the cosines of pairs over exemplars, a part of the concepts at a time."""
    rows, put = problem.exemplars[count].rows, problem.put
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % SLOTS)))
    chunks = np.moveaxis(rows.reshape(len(rows), -1, SLOTS), 1, 0)
    combine = partial(combine, difference=problem.similarity.difference)
    with_base = np.asarray(problem.with_base)
    numbers, within = np.divmod(concepts, problem.part_size)

    def start(texts: Array, of_tiles: np.ndarray, wanted: np.ndarray) -> Array:
        chosen = chunks[:, of_tiles]
        base = np.moveaxis(with_base[chosen], 2, 1).reshape(-1, len(of_tiles))
        cosines = pair_cosines(problem.images, texts, put(chosen, 1), put(wanted, 0))
        return combine(cosines, put(base, 1), kappas, put(of_units[of_tiles], 0))

    for number in np.unique(numbers).tolist():
        here = np.flatnonzero(numbers == number)
        here = here[np.argsort(units[here], kind="stable")]
        every = _tiles(units[here], within[here], TILES * problem.devices)
        started = (
            (pairs, cells, start(problem.part(number), *laid)) for pairs, cells, *laid in every
        )
        for pairs, cells, values in ahead(started):
            yield here[pairs], np.asarray(values).reshape(len(values), -1)[:, cells]


def _tiles(
    units: Indices, concepts: Indices, many: int
) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
    """Lay out pairs that are sorted by unit, `many` tiles at a time.

    Yields which pairs, their cells along the tiles, and the unit and the concepts of each tile.
    """
    starts = np.flatnonzero(np.diff(units, prepend=-1))
    counts = np.diff(starts, append=len(units))
    per_unit = -(-counts // WIDTH)
    ends = np.cumsum(per_unit)
    owners = np.repeat(units[starts], per_unit).astype(np.int32)
    # A unit's pairs follow each other from the start of its first tile on.
    cells = np.arange(len(units)) + np.repeat((ends - per_unit) * WIDTH - starts, counts)
    firsts = np.arange(0, len(owners), many)
    bounds = np.append(np.searchsorted(cells, firsts * WIDTH), len(cells))
    for first, pairs in zip(firsts, map(slice, bounds, bounds[1:]), strict=True):
        of_tiles = owners[first : first + many]
        local, wanted = cells[pairs] - first * WIDTH, np.zeros(many * WIDTH, np.int32)
        wanted[local] = concepts[pairs]
        of_tiles = np.pad(of_tiles, (0, many - len(of_tiles)))
        yield pairs, local, of_tiles, wanted.reshape(many, WIDTH)


def _originals(problem: Problem, concepts: Indices) -> Indices:
    """Replace each pair's concept by the first one whose features are equal bit for bit."""
    there = np.zeros(len(problem), bool)
    there[concepts] = True
    distinct = np.flatnonzero(there)
    # Few distinct features have equal first components, so few rows are compared as a whole.
    _, inverse, counts = np.unique(problem.first[distinct], return_inverse=True, return_counts=True)
    originals, seen = np.arange(len(problem)), dict[bytes, int]()
    for concept in distinct[counts[inverse] > 1].tolist():
        originals[concept] = seen.setdefault(problem.block(concept, 1).tobytes(), concept)
    return originals[concepts]


@jax.jit
def pair_cosines(
    images: Float32[Array, "image feature"],
    texts: Float32[Array, "part feature"],
    exemplars: Int32[Array, "chunk tile some"],
    concepts: Int32[Array, "tile concept"],
) -> Float32[Array, "exemplar tile concept"]:
    """Cosines of each tile's exemplars and concepts."""
    chosen = texts.at[concepts].get(mode="promise_in_bounds")
    views = images.at[exemplars].get(mode="promise_in_bounds")

    def of_chunk(few: Float32[Array, "tile some feature"]) -> Float32[Array, "tile concept some"]:
        return jnp.minimum(contraction("tcf,tof->tco", chosen, few), 1)

    cosines = jnp.moveaxis(jax.lax.map(of_chunk, views), 3, 1)
    return cosines.reshape(-1, *cosines.shape[2:])


@partial(jax.jit, static_argnames=("difference",))
def pair_means(
    cosines: Float32[Array, "exemplar tile concept"],
    with_base: Float32[Array, "exemplar tile"],
    kappas: Float32[ArrayLike, "kappa"],
    filled: Int32[Array, "tile"],
    difference: Callable[..., Any],
) -> Float32[Array, "kappa tile concept"]:
    """Means over the exemplars of each tile, by the same loops for any κ and any number of them."""
    taken = jnp.arange(len(cosines))[:, None] < filled[None]

    def under(kappa: Float32[Array, ""]) -> Float32[Array, "tile concept"]:
        def add(total: Array, slot: tuple[Array, Array, Array]) -> tuple[Array, None]:
            cosine, base, holds = slot
            values = difference(cosine, base[:, None], kappa)
            return total + jnp.where(holds[:, None], values, 0), None

        nothing = jnp.zeros(cosines.shape[1:], cosines.dtype)
        return jax.lax.scan(add, nothing, (cosines, with_base, taken))[0]

    return jax.lax.map(under, jnp.asarray(kappas)) / filled.astype(cosines.dtype)[None, :, None]


@partial(jax.jit, static_argnames=("difference",))
def pair_sums(
    cosines: Float32[Array, "exemplar tile concept"],
    with_base: Float32[Array, "exemplar tile"],
    kappa: ArrayLike,
    weights: Float32[Array, "tile resample exemplar"],
    difference: Callable[..., Any],
) -> Float32[Array, "resample tile concept"]:
    """Sums over the exemplars of each tile, weighted for each resample."""
    rows = difference(cosines, with_base[:, :, None], kappa)
    return contraction("tro,otc->rtc", weights, rows)
