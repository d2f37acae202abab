"""Exemplars of a unit: the probe images on which it is most active.

A unit that fires on three images has three exemplars, not three and the first 37 images of the
folder. From the n images with the largest activations two kinds are removed:

(a) images tied at the unit's lowest value, if there are two or more of them: it rests there;
(b) images tied at the n-th largest value, if the next image has that value too: a cut through a tie
    is arbitrary.

If no image is left although the unit is not constant, more than n images share its largest value.
Then n of these are drawn by a seeded hash of their names, regardless of the images' order, and the
unit is flagged.

Activations are merged batch by batch into the best candidates of every unit, so memory is units ×
(n + batch) for any number of images. Equal activations are ordered by image index, the lower first,
so batches may come in any order.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Float32, Int, Int32, Integer

# Sorts after every image, so that an empty slot loses even to an activation of minus infinity.
_LAST = np.iinfo(np.int32).max

# A unit is weak if its last exemplar is below the share _WEAK of the way from its lowest to its
# largest value. A unit with values of both signs rests at 0: it is weak if its last exemplar is
# below _TINY of the largest, or below _WEAK of it with no exemplar between _WEAK and _GAP of it.
_WEAK, _GAP, _TINY = 0.1, 0.25, 1e-4

# Activations [batch, unit], image indices [batch], and which rows are not padding [batch].
Batch = tuple[np.ndarray, np.ndarray, np.ndarray]


class Slots(NamedTuple):
    """Exemplars of each unit as rows of an array of features, best first.

    Row 0 fills empty slots, which come last; `counts` says how many of a unit's slots are filled.
    """

    rows: Integer[np.ndarray, "unit slot"]
    counts: Integer[np.ndarray, "unit"]

    @classmethod
    def full(cls, rows: Int[ArrayLike, "unit slot"]) -> "Slots":
        """Slots that all hold an exemplar."""
        filled = np.asarray(rows)
        return cls(filled, np.full(len(filled), filled.shape[1], np.int32))

    @property
    def taken(self) -> Bool[np.ndarray, "unit slot"]:
        """True for slots that hold an exemplar."""
        return np.arange(self.rows.shape[1])[None] < self.counts[:, None]

    @property
    def weights(self) -> Float32[np.ndarray, "unit slot"]:
        """Weight of each slot in the unit's score: 1/m for m exemplars, 0 for empty slots."""
        return (self.taken / np.maximum(self.counts, 1)[:, None]).astype(np.float32)

    def distinct(self) -> tuple[Integer[np.ndarray, "row"], "Slots"]:
        """Rows that any unit has, ascending, and the slots as positions among them."""
        taken, positions = self.taken, np.zeros(self.rows.shape, np.int32)
        rows, positions[taken] = np.unique(self.rows[taken], return_inverse=True)
        return rows, Slots(positions, self.counts)


class Exemplars(NamedTuple):
    """Exemplars of each unit.

    Attributes:
        images: their indices, best first; 0 in empty slots. For windows of units, those of
            the windows (`stages.look`).
        values: their activations; 0 in empty slots.
        counts: number of slots of each unit that hold an exemplar.
        lowest, highest: smallest and largest activation of each unit over all images.
        tied: whether the exemplars were drawn from more images with the same largest activation.
    """

    images: Int32[np.ndarray, "unit slot"]
    values: Float32[np.ndarray, "unit slot"]
    counts: Int32[np.ndarray, "unit"]
    lowest: Float32[np.ndarray, "unit"]
    highest: Float32[np.ndarray, "unit"]
    tied: Bool[np.ndarray, "unit"]

    @property
    def slots(self) -> Slots:
        """Exemplars as rows of an array over all images."""
        return Slots(self.images, self.counts)

    def among(self, images: Integer[np.ndarray, "row"]) -> Slots:
        """Exemplars as rows of an array over some of their images, which are ascending."""
        taken = self.slots.taken
        rows = np.where(taken, np.searchsorted(images, self.images), 0)
        return Slots(rows.astype(np.int32), self.counts)

    @property
    def dead(self) -> Bool[np.ndarray, "unit"]:
        """True for units whose activation was the same on all images."""
        return self.lowest == self.highest

    @property
    def weak(self) -> Bool[np.ndarray, "unit"]:
        """True for units whose last exemplar is hardly more active than their resting value."""
        last = self.values[np.arange(len(self.counts)), np.maximum(self.counts - 1, 0)]
        low, high = self.lowest.astype(np.float64), self.highest.astype(np.float64)
        near_lowest = last < low + _WEAK * (high - low)
        values, top = np.where(self.slots.taken, self.values, np.inf), high[:, None]
        between = (values >= _WEAK * top) & (values < _GAP * top)
        apart = (last >= 0) & (last < _WEAK * high) & ~between.any(axis=1)
        near_zero = (low < 0) & (high > 0) & (apart | (last < _TINY * high))
        return (self.counts > 0) & ~self.dead & (near_lowest | near_zero)

    def ranked(self) -> Iterator[list[tuple[int, float]]]:
        """Each unit's exemplars as (image, activation), best first."""
        units = zip(self.images.tolist(), self.values.tolist(), self.counts.tolist(), strict=True)
        for images, values, count in units:
            yield list(zip(images[:count], values[:count], strict=True))

    def flags(self, fewest: int) -> list[tuple[str, ...]]:
        """Doubts about the exemplars of each unit; units with fewer than `fewest` are flagged."""
        doubts = {
            "dead": self.dead,
            "tied": self.tied,
            "few exemplars": (self.counts < fewest) & ~self.dead,
            "weak": self.weak,
        }
        return [tuple(compress(doubts, holds)) for holds in zip(*doubts.values(), strict=True)]

    def again(self, values: Float32[np.ndarray, "unit slot"], n: int) -> "Exemplars":
        """Order these by other activations, and keep the first n of each unit.

        Equal ones stay in the order of their images.
        """
        taken = self.slots.taken
        last = np.where(taken, self.images, _LAST)
        order = np.lexsort((last, np.where(taken, -values, np.inf)), axis=1)[:, :n]
        images, ranked = (np.take_along_axis(part, order, 1) for part in (self.images, values))
        counts = np.minimum(self.counts, n)
        empty = np.arange(images.shape[1])[None] >= counts[:, None]
        largest = np.where(empty, -np.inf, ranked).max(axis=1).astype(np.float32)
        return self._replace(
            images=np.where(empty, 0, images),
            values=np.where(empty, np.float32(0), ranked),
            counts=counts,
            highest=np.maximum(self.highest, largest),
        )

    def first(self, n: int, name: Callable[[int], str]) -> "Exemplars":
        """Apply the rule at a smaller n; ties at the top are drawn by the images' names."""
        if n == self.images.shape[1]:
            return self
        images, values, counts = (part.copy() for part in (self.images, self.values, self.counts))
        cut = np.flatnonzero(counts > n)
        following, last = values[cut, n], values[cut, n - 1]
        above = (values[cut] > last[:, None]).sum(axis=1)
        counts[cut] = np.where(following == last, above, n)
        tied = self.tied.copy()
        for unit in cut[counts[cut] == 0].tolist():
            tied[unit], counts[unit] = True, n
            same = self.images[unit, values[unit] == values[unit, 0]]
            same = same[: self.counts[unit]]  # empty slots hold 0, which may be the largest value
            chosen = sorted(same.tolist(), key=lambda image: (_key(name(image)), image))[:n]
            images[unit, :n] = sorted(chosen)
        empty = np.arange(n)[None] >= counts[:, None]
        return self._replace(
            images=np.where(empty, 0, images[:, :n]),
            values=np.where(empty, np.float32(0), values[:, :n]),
            counts=counts,
            tied=tied,
        )


class Candidates(NamedTuple):
    """State of the search after the images seen so far; a pytree.

    Attributes:
        values: largest activations, best first, one more than exemplars are asked for, which shows
            whether the cut goes through a tie; minus infinity in empty slots.
        images: their image indices; −1 in empty slots.
        lowest: smallest activation over all images; plus infinity before the first.
        resting: how many images have that activation.
        highest: largest activation; minus infinity before the first.
    """

    values: Float32[Array, "unit slot"]
    images: Int32[Array, "unit slot"]
    lowest: Float32[Array, "unit"]
    resting: Int32[Array, "unit"]
    highest: Float32[Array, "unit"]


def empty(units: int, n: int) -> Candidates:
    """State before the first image, for `n` exemplars of each unit."""
    return Candidates(
        values=jnp.full((units, n + 1), -jnp.inf, jnp.float32),
        images=jnp.full((units, n + 1), -1, jnp.int32),
        lowest=jnp.full(units, jnp.inf, jnp.float32),
        resting=jnp.zeros(units, jnp.int32),
        highest=jnp.full(units, -jnp.inf, jnp.float32),
    )


@jax.jit
def update(
    state: Candidates,
    activations: Float[ArrayLike, "batch unit"],
    images: Int[ArrayLike, "batch"],
    valid: Bool[ArrayLike, "batch"],
) -> Candidates:
    """Merge one batch of activations into the state.

    NaN and rows that are not `valid` (padding) are ignored. `images` are indices ≥ 0, each merged
    only once.
    """
    activations = jnp.asarray(activations, jnp.float32).T
    images = jnp.asarray(images, jnp.int32)[None]
    seen = jnp.asarray(valid)[None] & ~jnp.isnan(activations)
    values = jnp.concatenate([state.values, jnp.where(seen, activations, -jnp.inf)], axis=1)
    indices = jnp.concatenate([state.images, jnp.where(seen, images, -1)], axis=1)
    # The first slots by (value descending, image ascending), empty slots last.
    order = jnp.where(indices < 0, _LAST, indices)
    descending, order = jax.lax.sort((-values, order), dimension=1, num_keys=2)
    slots = state.values.shape[1]
    descending, order = descending[:, :slots], order[:, :slots]
    lowest = jnp.minimum(state.lowest, jnp.where(seen, activations, jnp.inf).min(axis=1))
    here = (seen & (activations == lowest[:, None])).sum(axis=1, dtype=jnp.int32)
    return Candidates(
        values=-descending,
        images=jnp.where(order == _LAST, -1, order),
        lowest=lowest,
        resting=here + jnp.where(state.lowest == lowest, state.resting, 0),
        highest=jnp.maximum(state.highest, jnp.where(seen, activations, -jnp.inf).max(axis=1)),
    )


def find(
    batches: Callable[[], Iterable[Batch]], n: int, names: Callable[[], Sequence[str]]
) -> Exemplars:
    """Find at most n exemplars per unit of activations that come in batches.

    `batches` yields all batches, and `names` returns the names of all images. If more than n images
    share some unit's largest value, `batches` is called again, and `names` once.
    """
    state: Candidates | None = None
    for rows, images, valid in batches():
        state = update(state or empty(rows.shape[1], n), rows, images, valid)
    assert state is not None  # a source is never empty
    chosen = _ruled(state)
    units = np.flatnonzero(chosen.tied)
    if len(units):
        chosen.images[units] = _drawn(batches, n, units, chosen.highest[units], names())
        chosen.values[units] = chosen.highest[units, None]
        chosen.counts[units] = n
    return chosen


def exemplars(
    activations: Float[ArrayLike, "image unit"],
    n: int,
    names: Sequence[str] | None = None,
    batch: int = 1024,
) -> Exemplars:
    """Find at most n exemplars per unit of a whole matrix of activations, a row per image.

    Args:
        activations: one row per image.
        n: at most the number of images.
        names: names of the images; their indices by default.
        batch: rows merged at a time.
    """
    matrix = np.asarray(activations)
    count = len(matrix)
    size = min(batch, count)

    def batches() -> Iterable[Batch]:
        for start in range(0, count, size):
            rows = np.arange(start, start + size, dtype=np.int32)
            # The last batch repeats its last row as padding: one shape, so one trace.
            yield matrix[np.minimum(rows, count - 1)], rows, rows < count

    return find(batches, n, lambda: names if names is not None else list(map(str, range(count))))


def _ruled(state: Candidates) -> Exemplars:
    """Apply the rule to the candidates of all images."""
    every, which, lowest, resting, highest = map(np.asarray, state)
    n = every.shape[1] - 1
    values, images = every[:, :n], which[:, :n]
    last, following = every[:, n - 1 : n], every[:, n:]
    through_tie = (which[:, n:] >= 0) & (following == last)
    at_rest = (values == lowest[:, None]) & (resting > 1)[:, None]
    kept = (images >= 0) & ~at_rest & ~(through_tie & (values == last))
    return Exemplars(
        images=np.where(kept, images, 0),
        values=np.where(kept, values, np.float32(0)),
        counts=kept.sum(axis=1, dtype=np.int32),
        lowest=lowest,
        highest=highest,
        tied=~kept.any(axis=1) & (lowest < highest),
    )


def _drawn(
    batches: Callable[[], Iterable[Batch]],
    n: int,
    units: Int[np.ndarray, "unit"],
    highest: Float32[np.ndarray, "unit"],
    names: Sequence[str],
) -> Int32[np.ndarray, "unit slot"]:
    """Draw n of the images at each unit's largest value: those with the lowest hashes."""
    order = sorted(range(len(names)), key=lambda image: (_key(names[image]), image))
    rank = np.empty(len(order), np.float32)
    rank[order] = np.arange(len(order))
    state = empty(len(units), n)
    for rows, images, valid in batches():
        largest = np.asarray(rows, np.float32)[:, units] == highest[None]
        ranks = rank.take(images, mode="clip")[:, None]
        state = update(state, np.where(largest, -ranks, np.float32(-np.inf)), images, valid)
    return np.sort(np.asarray(state.images)[:, :n], axis=1)


def _key(name: str) -> bytes:
    """Hash that decides which of the images tied at a unit's largest value are drawn."""
    return hashlib.sha256(f"0 {name}".encode("utf-8", "backslashreplace")).digest()
