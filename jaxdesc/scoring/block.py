"""Block program: every unit against a block of concepts.

An image is an exemplar of many units, so cosines are taken once for each distinct image: one
[image, block] product, with φ fused behind it. Then each unit gathers and adds its exemplars' rows.
Units are the neurons of a layer, or the random image sets of the null.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Float32, Float64, Int, Int32

from jaxdesc.runtime.ahead import ahead
from jaxdesc.runtime.compiler import jit, product
from jaxdesc.scoring.problem import Problem, cosine_error, mean_error
from jaxdesc.scoring.selection import least_selected, rounded_down

# Exemplars' rows that are added in one pass over the sums.
_ROWS_AT_ONCE = 8

# Pairs that are held before those below a risen floor are dropped: 100 MB with three bounds.
_HELD = 1 << 23


class Look(NamedTuple):
    """Result of one block of concepts; on the device, perhaps still being computed.

    Attributes:
        reach: score or upper bound of each pair of a unit and a concept, under each bound; there is
            a bound per number of exemplars, or per κ and number of exemplars.
        groups: group of each concept; floors differ by group.
        within: True for pairs that reach the floor that the engine had when it looked.
        largest: largest reach of each unit in the block.
    """

    reach: Float32[Array, "bound unit block"]
    groups: Int32[Array, "block"]
    within: Bool[Array, "unit block"]
    largest: Float32[Array, "bound unit"]


class Pairs(NamedTuple):
    """Pairs of a unit and a concept, with the concept's group and the pair's reach (`Look`)."""

    units: Int32[np.ndarray, "pair"]
    concepts: Int32[np.ndarray, "pair"]
    groups: Int32[np.ndarray, "pair"]
    reach: Float32[np.ndarray, "bound pair"]

    def above(
        self, floor: Float32[np.ndarray, "bound unit group"], bounds: Any = slice(None)
    ) -> "Pairs":
        """Pairs that reach the floor of at least one of the bounds."""
        cells = self.units * floor.shape[2] + self.groups
        kept = np.zeros(len(cells), bool)
        for reach, least in zip(self.reach[bounds], floor[bounds], strict=True):
            kept |= reach >= least.ravel().take(cells)
        if kept.all():
            return self
        chosen = np.flatnonzero(kept)
        return Pairs(*(part.take(chosen, axis=-1) for part in self))


@runtime_checkable
class Engine(Protocol):
    """Looks at every concept once and excludes those that no unit can select.

    `counts` holds the number of exemplars of each bound. A pair that reaches less than `floor`,
    which only ever rises, under every bound can't be selected.
    """

    counts: Int[np.ndarray, "bound"]
    floor: Float32[np.ndarray, "bound unit group"]

    def look(self, texts: Float32[Array, "block feature"], count: int) -> Look:
        """Start on a block's first `count` concepts, without waiting for the result."""

    def raise_floor(self, largest: Float32[np.ndarray, "bound unit"]) -> None:
        """Take the largest reach over all concepts seen so far into account."""


def candidates(problem: Problem, engine: Engine, block: int) -> Pairs:
    """Find the pairs that an engine can't exclude: a unit's selected and best concepts, and others.

    Pairs are dropped as soon as they are known to be too low. Dropping early is exact: the largest
    reach so far never exceeds the final one, so the floor only rises.
    """
    looks = ((first, engine.look(texts, count)) for first, count, texts in problem.blocks(block))
    pieces: list[Pairs] = []
    largest, raised, held, most = np.array(-np.inf, np.float32), 0, 0, _HELD
    for seen, (first, look) in enumerate(ahead(looks), 1):
        largest = np.maximum(largest, np.asarray(look.largest))
        if seen >= 4 * raised:  # the more has been seen, the less the floor still rises
            engine.raise_floor(largest)
            raised = seen
        cells = np.flatnonzero(look.within)
        units, columns = np.divmod(cells.astype(np.int32), look.within.shape[1])
        reach = np.asarray(look.reach).reshape(len(look.reach), -1).take(cells, axis=1)
        piece = Pairs(units, first + columns, np.asarray(look.groups).take(columns), reach)
        pieces.append(piece.above(engine.floor))
        held += len(pieces[-1].units)
        if held > most:
            pieces = [piece.above(engine.floor) for piece in pieces]
            held = sum(len(piece.units) for piece in pieces)
            most = max(_HELD, 2 * held)
    engine.raise_floor(largest)
    pieces = [piece.above(engine.floor) for piece in pieces]
    return Pairs(*(np.concatenate(part, axis=-1) for part in zip(*pieces, strict=True)))


class Full:
    """The full engine: scores all pairs, and excludes those too low for rounding to matter."""

    def __init__(self, problem: Problem):
        """Start with no concept seen."""
        self.problem, slots = problem, list(problem.exemplars.values())
        self.base = problem.base_rise.reshape(-1, problem.neurons)
        self.kappas = np.repeat(problem.kappas.astype(np.float64), len(slots))[:, None]
        self.counts = np.tile([*problem.exemplars], len(problem.kappas))
        self.filled = np.tile(np.stack([each.counts for each in slots]), (len(problem.kappas), 1))
        self.floor = np.full((*self.base.shape, 1), -np.inf, np.float32)
        self.rows = tuple(problem.put(each.rows) for each in slots)

    def look(self, texts: Float32[Array, "block feature"], count: int) -> Look:
        """Scores of the concepts, a bound for each κ and number of exemplars."""
        problem, filled = self.problem, self.filled[: len(self.rows)]
        return score_block(
            *(problem.images, problem.with_base, self.rows, filled, texts),
            *(problem.kappas, self.floor, count),
            difference=problem.similarity.difference,
        )

    def raise_floor(self, largest: Float32[np.ndarray, "bound unit"]) -> None:
        """No score below α of the largest can be selected, rounding allowed for."""
        least = least_selected(largest - self._margin(largest), self.problem.alpha)
        self.floor = rounded_down(least - self._margin(least))[:, :, None]

    def _margin(self, scores: Float[np.ndarray, "bound unit"]) -> Float64[np.ndarray, "..."]:
        """Largest distance of such a score, or a smaller one, from the pairs program's."""
        error = cosine_error(self.problem.images.shape[1])
        rise = np.maximum(scores + self.base, 0)
        slope = self.problem.similarity.slope(rise, self.filled, error, self.kappas)
        return slope * error + mean_error(max(self.problem.exemplars)) * (rise + np.abs(self.base))


def seen_above(
    reach: Float32[Array, "bound unit block"],
    floor: Float32[ArrayLike, "bound unit group"],
    groups: Int32[Array, "block"],
    count: Int[ArrayLike, ""],
) -> Look:
    """Compare the reach of a block's first `count` concepts with the floor."""
    seen = jnp.arange(reach.shape[2]) < count
    reach, floor = jnp.where(seen[None, None], reach, -jnp.inf), jnp.asarray(floor)
    # Groups index the floor only if there are several: with one, XLA fuses the comparison.
    lowest = floor if floor.shape[2] == 1 else floor[:, :, groups]
    within = (reach >= lowest).any(axis=0) & seen[None]
    return Look(reach, groups, within, reach.max(axis=2))


@partial(jit, static=("difference",))
def score_block(
    images: Float32[Array, "image feature"],
    with_base: Float32[Array, "image"],
    exemplars: tuple[Int32[Array, "unit _"], ...],
    filled: Int32[ArrayLike, "count unit"],
    texts: Float32[Array, "block feature"],
    kappas: Float32[ArrayLike, "kappa"],
    floor: Float32[ArrayLike, "bound unit 1"],
    count: Int[ArrayLike, ""],
    difference: Callable[..., Any],
) -> Look:
    """Score each unit against a block's first `count` concepts, for every κ and exemplar count."""
    cosines = jnp.minimum(product(images, texts.T), 1)
    nothing = jnp.zeros((len(exemplars[0]), len(texts)), cosines.dtype)

    def under(kappa: Float32[Array, ""]) -> Float32[Array, "count unit block"]:
        rows = difference(cosines, with_base[:, None], kappa)
        sums = jnp.stack([add_rows(nothing, rows, chosen) for chosen in exemplars])
        return sums / jnp.asarray(filled, rows.dtype)[:, :, None]

    scores = jax.lax.map(under, jnp.asarray(kappas))
    scores = scores.reshape(-1, *scores.shape[2:])
    return seen_above(scores, floor, jnp.zeros(len(texts), jnp.int32), count)


def add_rows(
    sums: Float32[Array, "unit block"],
    rows: Float32[Array, "image block"],
    chosen: Int32[Array, "unit exemplar"],
) -> Float32[Array, "unit block"]:
    """Add each unit's rows: a loop over exemplars, so that no gathered copy is written."""

    def add(total: Array, images: Array) -> tuple[Array, None]:
        return total + rows.at[images].get(mode="promise_in_bounds"), None

    return jax.lax.scan(add, sums, chosen.T, unroll=_ROWS_AT_ONCE)[0]
