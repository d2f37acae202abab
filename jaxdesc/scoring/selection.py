"""The rule of selection: S > α · max_j S, strictly; nothing where the maximum isn't positive."""

import operator
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import SupportsIndex

import numpy as np
from jaxtyping import ArrayLike, Bool, Float32, Float64, Int, Int32


@dataclass(frozen=True)
class Selection:
    """The selected concepts of all neurons, one after the other (CSR), best first in each neuron.

    Attributes:
        counts: how many concepts each neuron has.
        concepts: concept indices, `counts[0]` of neuron 0, then `counts[1]` of neuron 1, ...
        scores: their scores S.
        maximum: the largest score of each neuron over all concepts.
        threshold: τ = α · maximum, in float64, so that comparing reproduces the selection.
    """

    counts: Int[np.ndarray, "neuron"]
    concepts: Int32[np.ndarray, "selected"]
    scores: Float32[np.ndarray, "selected"]
    maximum: Float32[np.ndarray, "neuron"]
    threshold: Float64[np.ndarray, "neuron"]

    def without(self, neurons: Bool[ArrayLike, "neuron"]) -> "Selection":
        """Drop every concept of some neurons, such as dead ones."""
        dropped = np.asarray(neurons)
        kept = ~np.repeat(dropped, self.counts)
        return replace(
            self,
            counts=np.where(dropped, 0, self.counts),
            concepts=self.concepts[kept],
            scores=self.scores[kept],
        )

    def part(self, first: int, last: int) -> "Selection":
        """The selection of the neurons from `first` on, up to but without `last`."""
        own = slice(first, last)
        pairs = slice(int(self.counts[:first].sum()), int(self.counts[:last].sum()))
        return Selection(
            self.counts[own],
            self.concepts[pairs],
            self.scores[pairs],
            self.maximum[own],
            self.threshold[own],
        )

    def among(self, neurons: Int[np.ndarray, "neuron"], count: int) -> "Selection":
        """The same as a selection of `count` neurons; nothing of all others, whose maximum is 0.

        Args:
            neurons: which of them these are, ascending.
            count: how many there are.
        """

        def spread(values: np.ndarray) -> np.ndarray:
            every = np.zeros(count, values.dtype)
            every[neurons] = values
            return every

        counts, maximum, threshold = map(spread, (self.counts, self.maximum, self.threshold))
        return replace(self, counts=counts, maximum=maximum, threshold=threshold)

    def of(self, neuron: SupportsIndex) -> list[tuple[int, float]]:
        """One neuron's (concept index, score) pairs, best first.

        Raises:
            IndexError: there is no such neuron.
        """
        index = operator.index(neuron)
        if not 0 <= index < len(self.counts):
            raise IndexError(f"neuron {index} of a selection of {len(self.counts)} neurons.")
        start = int(self.counts[:index].sum())
        rows = slice(start, start + int(self.counts[index]))
        return list(zip(self.concepts[rows].tolist(), self.scores[rows].tolist(), strict=True))


def least_selected(lower: Float64[np.ndarray, "..."], alpha: float) -> Float64[np.ndarray, "..."]:
    """What is reached by every selected score, and by the largest, if that is at least `lower`.

    Of a negative `lower`, α · lower would lie above it.
    """
    return np.minimum(alpha * lower, lower)


def rounded_down(values: Float64[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
    """In float32, never above what they were."""
    return np.nextafter(values.astype(np.float32), np.float32(-np.inf))


def select(
    neurons: Int32[np.ndarray, "pair"],
    concepts: Int32[np.ndarray, "pair"],
    scores: Float32[np.ndarray, "pair"],
    alpha: float,
    count: int,
) -> Selection:
    """Apply the rule to scored pairs, sorted by neuron, among which is every neuron's best.

    Args:
        neurons: of each pair.
        concepts: of each pair.
        scores: of each pair.
        alpha: concept sensitivity α.
        count: how many neurons there are.

    Returns:
        The selection.
    """
    maximum = np.full(count, -np.inf, np.float32)
    starts = np.flatnonzero(np.diff(neurons, prepend=-1))
    maximum[neurons[starts]] = np.maximum.reduceat(scores, starts)
    # In float64: rounded to float32 it could cross a score that lies next to it.
    threshold = alpha * maximum.astype(np.float64)
    kept = np.flatnonzero(scores > np.maximum(threshold, 0)[neurons])
    order = kept[np.lexsort((concepts[kept], -scores[kept], neurons[kept]))]
    return Selection(
        counts=np.bincount(neurons[order], minlength=count),
        concepts=concepts[order],
        scores=scores[order],
        maximum=maximum,
        threshold=threshold,
    )


def nothing(count: int) -> Selection:
    """The selection of neurons that have no exemplars."""
    return Selection(
        counts=np.zeros(count, np.int64),
        concepts=np.zeros(0, np.int32),
        scores=np.zeros(0, np.float32),
        maximum=np.zeros(count, np.float32),
        threshold=np.zeros(count, np.float64),
    )


def joined(parts: Iterable[Selection]) -> Selection:
    """Selections of neurons that follow each other, as one."""
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return Selection(*map(np.concatenate, columns))
