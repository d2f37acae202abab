"""The rule of selection: S > α · max_j S, strictly; nothing if the maximum is not positive."""

import operator
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import SupportsIndex

import numpy as np
from jaxtyping import ArrayLike, Bool, Float32, Float64, Int, Int32


@dataclass(frozen=True)
class Selection:
    """The selected concepts of all neurons, one after the other (CSR), best first in each neuron.

    `counts[0]` concepts and scores are of neuron 0, the next `counts[1]` of neuron 1, ... `maximum`
    is the largest score of each neuron over all concepts, `threshold` τ = α · maximum, in float64,
    so that comparing reproduces the selection.
    """

    counts: Int[np.ndarray, "neuron"]
    concepts: Int32[np.ndarray, "selected"]
    scores: Float32[np.ndarray, "selected"]
    maximum: Float32[np.ndarray, "neuron"]
    threshold: Float64[np.ndarray, "neuron"]

    def without(self, neurons: Bool[ArrayLike, "neuron"]) -> "Selection":
        """Drop every concept of some neurons, such as dead ones."""
        dropped = np.asarray(neurons)
        kept, counts = ~np.repeat(dropped, self.counts), np.where(dropped, 0, self.counts)
        return replace(self, counts=counts, concepts=self.concepts[kept], scores=self.scores[kept])

    def part(self, first: int, last: int) -> "Selection":
        """Selection of the neurons from `first` on, up to but without `last`."""
        neurons = slice(first, last)
        pairs = slice(int(self.counts[:first].sum()), int(self.counts[:last].sum()))
        rows = self.counts[neurons], self.concepts[pairs], self.scores[pairs]
        return Selection(*rows, self.maximum[neurons], self.threshold[neurons])

    def among(self, neurons: Int[np.ndarray, "neuron"], count: int) -> "Selection":
        """Renumber the neurons as some of `count`; the others have nothing, and a maximum of 0."""
        whole = nothing(count)
        for name in ("counts", "maximum", "threshold"):
            getattr(whole, name)[neurons] = getattr(self, name)
        return replace(whole, concepts=self.concepts, scores=self.scores)

    def of(self, neuron: SupportsIndex) -> list[tuple[int, float]]:
        """List one neuron's (concept index, score) pairs, best first.

        Raises:
            IndexError: there is no such neuron.
        """
        index = operator.index(neuron)
        if not 0 <= index < len(self.counts):
            raise IndexError(f"neuron {index} of a selection of {len(self.counts)} neurons.")
        one = self.part(index, index + 1)
        return list(zip(one.concepts.tolist(), one.scores.tolist(), strict=True))


def least_selected(lower: Float64[np.ndarray, "..."], alpha: float) -> Float64[np.ndarray, "..."]:
    """Bound every selected score, and the largest one, from below if the largest is ≥ `lower`.

    For a negative `lower`, α · lower would be above `lower`.
    """
    return np.minimum(alpha * lower, lower)


def rounded_down(values: Float64[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
    """Round to float32, never up."""
    return np.nextafter(values.astype(np.float32), np.float32(-np.inf))


def select(
    neurons: Int32[np.ndarray, "pair"],
    concepts: Int32[np.ndarray, "pair"],
    scores: Float32[np.ndarray, "pair"],
    alpha: float,
    count: int,
) -> Selection:
    """Apply the rule to scored pairs of `count` neurons: sorted, each neuron's best among them."""
    maximum = np.full(count, -np.inf, np.float32)
    starts = np.flatnonzero(np.diff(neurons, prepend=-1))
    maximum[neurons[starts]] = np.maximum.reduceat(scores, starts)
    # In float64: rounding to float32 could take it past the nearest score.
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
    """Selection of neurons that have no exemplars."""
    return Selection(
        counts=np.zeros(count, np.int64),
        concepts=np.zeros(0, np.int32),
        scores=np.zeros(0, np.float32),
        maximum=np.zeros(count, np.float32),
        threshold=np.zeros(count, np.float64),
    )


def joined(parts: Iterable[Selection]) -> Selection:
    """Join selections of neurons that follow each other."""
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return Selection(*map(np.concatenate, columns))
