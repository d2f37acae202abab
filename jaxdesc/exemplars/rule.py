"""The exemplars of each unit, and what is doubtful about them."""

import hashlib
from collections.abc import Callable, Iterator
from itertools import compress
from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Bool, Float32, Int, Int32, Integer

# A unit is weak if its last exemplar is below the share _WEAK of the way from its lowest to its
# largest value. A unit with values of both signs rests at 0: it is weak if its last exemplar is
# below _TINY of the largest, or below _WEAK of it with no exemplar between _WEAK and _GAP of it.
_WEAK, _GAP, _TINY = 0.1, 0.25, 1e-4


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
        mean: mean activation of each unit over all images.
        density: share of the images on which it is above zero.
    """

    images: Int32[np.ndarray, "unit slot"]
    values: Float32[np.ndarray, "unit slot"]
    counts: Int32[np.ndarray, "unit"]
    lowest: Float32[np.ndarray, "unit"]
    highest: Float32[np.ndarray, "unit"]
    tied: Bool[np.ndarray, "unit"]
    mean: Float32[np.ndarray, "unit"]
    density: Float32[np.ndarray, "unit"]

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
        last = np.where(taken, self.images, np.iinfo(np.int32).max)
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
            chosen = sorted(same.tolist(), key=lambda image: (key(name(image)), image))[:n]
            images[unit, :n] = sorted(chosen)
        empty = np.arange(n)[None] >= counts[:, None]
        return self._replace(
            images=np.where(empty, 0, images[:, :n]),
            values=np.where(empty, np.float32(0), values[:, :n]),
            counts=counts,
            tied=tied,
        )


def key(name: str) -> bytes:
    """Hash that decides which of the images tied at a unit's largest value are drawn."""
    return hashlib.sha256(f"0 {name}".encode("utf-8", "backslashreplace")).digest()
