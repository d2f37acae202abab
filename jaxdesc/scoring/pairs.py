"""Pairs program: a unit with some concepts, scored alike regardless of what else is asked.

Pairs are laid out in tiles of one unit and a fixed number of concepts; exemplars are taken a fixed
number at a time and added in order, so that neither other pairs nor further exemplars change a bit
of a score. Concepts of equal features, such as the duplicates of a vocabulary, are scored once, so
that they tie.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float32, Int, Int32

from jaxdesc.runtime.ahead import ahead
from jaxdesc.runtime.compiler import contraction
from jaxdesc.scoring.problem import Problem

# Concepts per tile, tiles at a time on each device, and exemplars at a time.
WIDTH = 128
_TILES = 8
_EXEMPLARS = 8


class Tiles(NamedTuple):
    """Some tiles, and which pairs they hold.

    Attributes:
        pairs: which of the pairs.
        units: unit of each tile.
        concepts: concepts of each tile, as places in the part of the features.
        cells: where each pair is, counted along the tiles.
    """

    pairs: slice
    units: Int32[np.ndarray, "tile"]
    concepts: Int32[np.ndarray, "tile concept"]
    cells: Int[np.ndarray, "pair"]


def exact_scores(
    problem: Problem,
    count: int,
    units: Int[np.ndarray, "pair"],
    concepts: Int[np.ndarray, "pair"],
) -> Float32[np.ndarray, "kappa pair"]:
    """Score pairs of a unit and a concept, whose features have been read before, under each κ."""
    kappas, filled = problem.kappas, problem.exemplars[count].counts
    several = np.resize(kappas, max(2, len(kappas)))  # with a single one XLA drops the loop

    def means(cosines: Array, with_base: Array, tiled: Int32[np.ndarray, "tile"]) -> Array:
        split = problem.devices.split(filled[tiled])
        return _means(cosines, with_base, several, split, difference=problem.similarity.difference)

    keys = units.astype(np.int64) * len(problem) + _originals(problem, concepts)
    keys, place = np.unique(keys, return_inverse=True)
    scores = np.empty((len(kappas), len(keys)), np.float32)
    for pairs, values in _of_pairs(problem, count, *np.divmod(keys, len(problem)), means):
        scores[:, pairs] = values[: len(kappas)]
    return scores[:, place]


def resampled_scores(
    problem: Problem,
    count: int,
    units: Int[np.ndarray, "pair"],
    concepts: Int[np.ndarray, "pair"],
    weights: Float32[np.ndarray, "unit resample exemplar"],
) -> Iterator[tuple[Int[np.ndarray, "some"], Float32[np.ndarray, "resample some"]]]:
    """Score pairs under the problem's only κ, with the exemplars' weights of each resample.

    Yields some of the pairs, sorted by unit, and their scores.
    """
    weights = np.pad(weights, ((0, 0), (0, 0), (0, -weights.shape[2] % _EXEMPLARS)))
    (kappa,) = problem.kappas

    def sums(cosines: Array, with_base: Array, tiled: Int32[np.ndarray, "tile"]) -> Array:
        split = problem.devices.split(weights[tiled])
        return _sums(cosines, with_base, kappa, split, difference=problem.similarity.difference)

    return _of_pairs(problem, count, units, concepts, sums)


def _of_pairs(
    problem: Problem,
    count: int,
    units: Int[np.ndarray, "pair"],
    concepts: Int[np.ndarray, "pair"],
    combine: Callable[[Array, Array, Int32[np.ndarray, "tile"]], Array],
) -> Iterator[tuple[Int[np.ndarray, "some"], Float32[np.ndarray, "value some"]]]:
    """Combine the cosines of pairs over exemplars, a part of the concepts at a time."""
    rows = problem.exemplars[count].rows
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % _EXEMPLARS)))
    chunks = np.moveaxis(rows.reshape(len(rows), -1, _EXEMPLARS), 1, 0)
    with_base, split = np.asarray(problem.with_base), problem.devices.split
    numbers, within = np.divmod(concepts, problem.part_size)

    def start(some: Tiles, texts: Array) -> Float32[Array, "value tile concept"]:
        chosen = chunks[:, some.units]
        base = np.moveaxis(with_base[chosen], 2, 1).reshape(-1, len(some.units))
        cosines = _cosines(problem.images, texts, split(chosen, axis=1), split(some.concepts))
        return combine(cosines, split(base, axis=1), some.units)

    for number in np.unique(numbers).tolist():
        here = np.flatnonzero(numbers == number)
        here = here[np.argsort(units[here], kind="stable")]
        every = tiles(units[here], within[here], _TILES * problem.devices.count)
        started = ((some, start(some, problem.part(number))) for some in every)
        for some, values in ahead(started):
            yield here[some.pairs], np.asarray(values).reshape(len(values), -1)[:, some.cells]


def tiles(
    units: Int[np.ndarray, "pair"], concepts: Int[np.ndarray, "pair"], many: int
) -> Iterator[Tiles]:
    """Lay out pairs that are sorted by unit, `many` tiles at a time."""
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
        places, wanted = cells[pairs] - first * WIDTH, np.zeros(many * WIDTH, np.int32)
        wanted[places] = concepts[pairs]
        of_tiles = np.pad(of_tiles, (0, many - len(of_tiles)))
        yield Tiles(pairs, of_tiles, wanted.reshape(many, WIDTH), places)


def _originals(problem: Problem, concepts: Int[np.ndarray, "pair"]) -> Int[np.ndarray, "pair"]:
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


@partial(jax.jit, static_argnames=("difference",))
def _means(
    cosines: Float32[Array, "exemplar tile concept"],
    with_base: Float32[Array, "exemplar tile"],
    kappas: Float32[ArrayLike, "kappa"],
    filled: Int32[Array, "tile"],
    *,
    difference: Callable[..., Any],
) -> Float32[Array, "kappa tile concept"]:
    """Means over the exemplars of each tile: the same loops for every κ and number of them."""
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
def _sums(
    cosines: Float32[Array, "exemplar tile concept"],
    with_base: Float32[Array, "exemplar tile"],
    kappa: ArrayLike,
    weights: Float32[Array, "tile resample exemplar"],
    *,
    difference: Callable[..., Any],
) -> Float32[Array, "resample tile concept"]:
    rows = difference(cosines, with_base[:, :, None], kappa)
    return contraction("tro,otc->rtc", weights, rows)
