"""The search for exemplars, in one pass over batches of activations."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int, Int32, Integer
from scipy import sparse

from jaxdesc.exemplars.rule import Exemplars, key

# Sorts after every image and every hash: the key of an empty slot.
_LAST = np.iinfo(np.uint64).max

# Activations [batch, unit], an array or a sparse array of `scipy`, and image indices [batch].
Batch = tuple[Any, np.ndarray]

_ROWS = 1024  # of a matrix that are merged at a time
_CELLS = 1 << 24  # of a sparse matrix with negative values that are held at a time


class _Entries(NamedTuple):
    """Activations of units on images, in any order."""

    units: Int[np.ndarray, "entry"]
    images: Int[np.ndarray, "entry"]
    values: Float32[np.ndarray, "entry"]


class _Dense:
    """A batch of activations; NaN is none."""

    def __init__(self, rows: np.ndarray, images: Int[np.ndarray, "batch"]):
        self.rows, self.images = np.asarray(rows, np.float32), images
        self.lowest = np.fmin.reduce(self.rows, axis=0)
        self.highest = np.fmax.reduce(self.rows, axis=0)
        self.sums = np.nansum(self.rows, axis=0, dtype=np.float64)
        self.active = (self.rows > 0).sum(axis=0)

    def count(self, values: Float32[np.ndarray, "unit"]) -> Int[np.ndarray, "unit"]:
        """Count the images on which each unit has a value."""
        return np.asarray((self.rows == values).sum(axis=0))

    def above(self, least: Float32[np.ndarray, "unit"]) -> _Entries:
        """List what is not below a value of each unit."""
        rows, units = np.nonzero(self.rows >= least)
        return _Entries(units, self.images[rows], self.rows[rows, units])


class _Sparse:
    """A batch of sparse activations, all of them above zero, by unit."""

    def __init__(self, rows: Any, images: Int[np.ndarray, "batch"]):
        columns = sparse.csc_array(rows, dtype=np.float32, copy=True)
        columns.sum_duplicates()
        columns.eliminate_zeros()
        if columns.nnz and not columns.data.min() > 0:
            raise ValueError(
                "a sparse batch has an activation below zero: give batches of dense arrays, or the "
                "whole sparse matrix."
            )
        stored = np.diff(columns.indptr)
        units = np.repeat(np.arange(len(stored)), stored)
        self.places, self.images = columns.indices, images
        self.entries = _Entries(units, images[columns.indices], columns.data)
        self.zeros = len(images) - stored
        self.lowest = np.where(self.zeros, np.float32(0), np.float32(np.inf))
        self.highest = np.where(self.zeros, np.float32(0), np.float32(-np.inf))
        np.minimum.at(self.lowest, units, columns.data)
        np.maximum.at(self.highest, units, columns.data)
        self.sums = np.bincount(units, columns.data, len(stored))
        self.active = stored

    def count(self, values: Float32[np.ndarray, "unit"]) -> Int[np.ndarray, "unit"]:
        """Count the images on which each unit has a value."""
        units = self.entries.units[self.entries.values == values[self.entries.units]]
        stored = np.bincount(units, minlength=len(values))
        return np.asarray(stored + np.where(values == 0, self.zeros, 0))

    def above(self, least: Float32[np.ndarray, "unit"]) -> _Entries:
        """List what is stored, and not below a value of each unit."""
        kept = self.entries.values >= least[self.entries.units]
        return _Entries(*(column[kept] for column in self.entries))

    def at_zero(self, units: Int[np.ndarray, "some"]) -> _Entries:
        """List the zeros of some units."""
        zero = np.ones((len(units), len(self.images)), bool)
        place = np.full(len(self.zeros), -1)
        place[units] = np.arange(len(units))
        stored = place[self.entries.units]
        zero[stored[stored >= 0], self.places[stored >= 0]] = False
        rows, images = np.nonzero(zero)
        return _Entries(units[rows], self.images[images], np.zeros(len(rows), np.float32))


class _Best:
    """The first images of each unit, by activation, the largest first, and then by a key."""

    def __init__(self, units: int, slots: int):
        self.values = np.full((units, slots), -np.inf, np.float32)
        self.keys = np.full((units, slots), _LAST, np.uint64)
        self.images = np.full((units, slots), -1, np.int32)  # in empty slots, which come last

    def add(self, entries: _Entries, keys: Integer[np.ndarray, "entry"]) -> None:
        """Merge entries; each may come only once."""
        worst, last = self.values[entries.units, -1], self.keys[entries.units, -1]
        better = (entries.values > worst) | ((entries.values == worst) & (keys < last))
        order = np.lexsort((keys[better], -entries.values[better], entries.units[better]))
        chosen = np.flatnonzero(better)[order]
        units, starts, counts = np.unique(
            entries.units[chosen], return_index=True, return_counts=True
        )
        ranks = np.arange(len(chosen)) - np.repeat(starts, counts)
        slots = self.values.shape[1]
        few = ranks < slots
        chosen, place = chosen[few], (np.repeat(np.arange(len(units)), counts)[few], ranks[few])
        # Behind the slots of each unit, as many for its new entries.
        values, ordered, images = (
            np.concatenate([old[units], np.full((len(units), slots), empty, old.dtype)], axis=1)
            for old, empty in ((self.values, -np.inf), (self.keys, _LAST), (self.images, -1))
        )
        for both, new in ((values, entries.values), (ordered, keys), (images, entries.images)):
            both[:, slots:][place] = new[chosen]
        first = np.lexsort((ordered, -values), axis=1)[:, :slots]
        for old, both in ((self.values, values), (self.keys, ordered), (self.images, images)):
            old[units] = np.take_along_axis(both, first, axis=1)


class _Search:
    """The exemplars of the images seen so far.

    Attributes:
        best: the largest activations, one more than exemplars are asked for, which shows whether
            the cut goes through a tie.
        drawn: images at the largest activation of units where more than n share it, by hash.
        drawn_at: activation of these; NaN for other units.
        lowest, highest: smallest and largest activation over all images.
        resting: how many images have the smallest.
        zeros: how many of a unit's zeros were not stored.
        sums, active: sum of all activations, and how many are above zero.
        seen: the images of each batch.
    """

    def __init__(self, units: int, n: int, name: Callable[[int], str]):
        self.best, self.drawn = _Best(units, n + 1), _Best(units, n)
        self.drawn_at = np.full(units, np.nan, np.float32)
        self.lowest = np.full(units, np.inf, np.float32)
        self.highest = np.full(units, -np.inf, np.float32)
        self.resting, self.zeros = np.zeros(units, np.int64), np.zeros(units, np.int64)
        self.sums, self.active = np.zeros(units), np.zeros(units, np.int64)
        self.seen: list[np.ndarray] = []
        self.hashed = cache(lambda image: int.from_bytes(key(name(image))[:8], "big"))

    def add(self, rows: Any, images: Int[np.ndarray, "batch"]) -> None:
        """Merge a batch."""
        block = _Sparse(rows, images) if sparse.issparse(rows) else _Dense(rows, images)
        constant = np.where(self.lowest == self.highest, self.highest, np.float32("nan"))
        lowest = np.fmin(self.lowest, block.lowest)
        before = np.where(lowest == self.lowest, self.resting, 0)
        self.resting = before + block.count(lowest)
        self.lowest, self.highest = lowest, np.fmax(self.highest, block.highest)
        earlier = self.best.values.copy(), self.best.images.copy()
        found = block.above(self.best.values[:, -1])
        self.best.add(found, found.images.astype(np.uint64))
        if isinstance(block, _Sparse):
            # A unit rests at two zeros or more. A single one may be an exemplar.
            self.zeros += block.zeros
            single = block.at_zero(np.flatnonzero((self.zeros == 1) & (block.zeros == 1)))
            self.best.add(single, single.images.astype(np.uint64))
        self._draw(block, constant, *earlier)
        self.sums, self.active = self.sums + block.sums, self.active + block.active
        self.seen.append(images)

    def _draw(
        self,
        block: _Dense | _Sparse,
        constant: Float32[np.ndarray, "unit"],
        values: Float32[np.ndarray, "unit slot"],
        images: Int32[np.ndarray, "unit slot"],
    ) -> None:
        """Draw among the images of units where more than n share the largest activation.

        `constant` is the activation of units that were the same on all earlier images, and `values`
        and `images` the best among these.
        """
        full = self.best.images[:, -1] >= 0
        tied = full & (self.best.values[:, -1] == self.highest) & (self.lowest < self.highest)
        if not tied.any():
            return
        parts = [block.above(np.where(tied, self.highest, np.float32(np.inf)))]
        for unit in np.flatnonzero(tied & (self.drawn_at != self.highest)).tolist():
            # Earlier images with this activation are all among the best, or all images there were.
            earlier = images[unit, values[unit] == self.highest[unit]]
            if constant[unit] == self.highest[unit]:
                earlier = np.concatenate(self.seen)
            units = np.full(len(earlier), unit)
            parts.append(_Entries(units, earlier, np.full(len(units), self.highest[unit])))
        self.drawn_at = np.where(tied, self.highest, self.drawn_at)
        found = _Entries(*map(np.concatenate, zip(*parts, strict=True)))
        keys = np.array([self.hashed(image) for image in found.images.tolist()], np.uint64)
        self.drawn.add(found, keys)

    def result(self) -> Exemplars:
        """Apply the rule."""
        every, which = self.best.values, self.best.images
        n = every.shape[1] - 1
        values, images = every[:, :n], which[:, :n]
        last, following = every[:, n - 1 : n], every[:, n:]
        through_tie = (which[:, n:] >= 0) & (following == last)
        at_rest = (values == self.lowest[:, None]) & (self.resting > 1)[:, None]
        kept = (images >= 0) & ~at_rest & ~(through_tie & (values == last))
        tied = ~kept.any(axis=1) & (self.lowest < self.highest)
        images, values = np.where(kept, images, 0), np.where(kept, values, np.float32(0))
        images_seen = sum(map(len, self.seen))
        images[tied] = np.sort(self.drawn.images[tied], axis=1)
        values[tied] = self.highest[tied, None]
        return Exemplars(
            images=images,
            values=values,
            counts=np.where(tied, n, kept.sum(axis=1)).astype(np.int32),
            lowest=self.lowest,
            highest=self.highest,
            tied=tied,
            mean=(self.sums / images_seen).astype(np.float32),
            density=(self.active / images_seen).astype(np.float32),
        )


def find(batches: Iterable[Batch], n: int, name: Callable[[int], str]) -> Exemplars:
    """Find at most n exemplars per unit of activations that come in batches.

    Only images that share some unit's largest activation with n others are asked for their `name`.

    Raises:
        ValueError: there are no batches, or a sparse one has an activation below zero.
    """
    search: _Search | None = None
    for rows, images in batches:
        search = search or _Search(rows.shape[1], n, name)
        if len(images):
            search.add(rows, np.asarray(images))
    if search is None:
        raise ValueError("there are no activations.")
    return search.result()


def exemplars(activations: Any, n: int, names: Sequence[str] | None = None) -> Exemplars:
    """Find at most n exemplars per unit of a whole matrix of activations, a row per image.

    Args:
        activations: one row per image; an array or a sparse array of `scipy`.
        n: at most the number of images.
        names: names of the images; their indices by default.
    """
    name: Callable[[int], str] = str if names is None else names.__getitem__
    if not sparse.issparse(activations):
        return find(_parts(np.asarray(activations), _ROWS), n, name)
    if not activations.nnz or activations.data.min() >= 0:
        return find(_parts(sparse.csr_array(activations), _ROWS), n, name)
    # Zeros among negative values count: dense, a few units at a time.
    columns, parts = sparse.csc_array(activations), []
    count, units = columns.shape
    few = max(1, _CELLS // count)
    for first in range(0, units, few):
        dense = columns[:, first : first + few].toarray()
        parts.append(find(_parts(dense, _ROWS), n, name))
    return Exemplars(*map(np.concatenate, zip(*parts, strict=True)))


def _parts(rows: Any, each: int) -> Iterator[Batch]:
    """Cut a matrix into batches of rows."""
    for first in range(0, rows.shape[0], each):
        part = rows[first : first + each]
        yield part, np.arange(first, first + part.shape[0], dtype=np.int32)
