"""The pairs of neuron and concept that may still be selected, after the concepts seen so far."""

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Float32, Int, Int32

from jaxdesc.runtime.ahead import ahead
from jaxdesc.scoring.problem import Problem


class Pairs(NamedTuple):
    """Neurons and concepts, and how far each pair may reach under each bound.

    The bound's floor for a pair is that of its neuron and of its concept's group.
    """

    neurons: Int32[np.ndarray, "pair"]
    concepts: Int32[np.ndarray, "pair"]
    groups: Int32[np.ndarray, "pair"]
    reach: Float32[np.ndarray, "bound pair"]

    def where(self, kept: Bool[np.ndarray, "pair"]) -> "Pairs":
        """Some of them."""
        if kept.all():
            return self
        places = np.flatnonzero(kept)
        return Pairs(*(part.take(places, axis=-1) for part in self))


class Look(NamedTuple):
    """What an engine makes of a block of concepts; on the device, perhaps still being computed.

    Attributes:
        reach: how far each pair may reach under each bound.
        groups: of the concepts.
        within: the pairs that reach the floor that the engine had when it looked.
        largest: the largest reach of each neuron.
    """

    reach: Float32[Array, "bound neuron block"]
    groups: Int32[Array, "block"]
    within: Bool[Array, "neuron block"]
    largest: Float32[Array, "bound neuron"]


@runtime_checkable
class Engine(Protocol):
    """What looks at every concept once.

    Attributes:
        counts: which number of exemplars each bound is for.
        floor: a pair that reaches less under every bound can't be selected; only ever rises.
    """

    counts: Int[np.ndarray, "bound"]
    floor: Float32[np.ndarray, "bound neuron group"]

    def look(self, texts: Float32[Array, "block feature"], count: int) -> Look:
        """Start with the first `count` of a block's concepts, without waiting for the result."""

    def raise_floor(self, largest: Float32[np.ndarray, "bound neuron"]) -> None:
        """Take the largest reach over all concepts seen so far into account."""

    def closer(self, count: int, pairs: Pairs) -> Bool[np.ndarray, "pair"]:
        """Which pairs may still be selected for a number of exemplars, looked at one by one."""


def candidates(problem: Problem, engine: Engine, block: int) -> "Found":
    """All pairs that an engine can't exclude; among them are each neuron's selected and its best.

    Args:
        problem: the features.
        engine: looks at the concepts.
        block: how many at a time, on each device.

    Returns:
        What it has found.
    """
    found = Found(engine)
    blocks = problem.blocks(block * problem.devices.count)
    looks = ((first, look(problem, engine, texts, block)) for first, texts in blocks)
    for first, own in ahead(looks):
        found.add(own, first)
    found.finish()
    return found


def look(
    problem: Problem, engine: Engine, texts: Float32[np.ndarray, "some feature"], block: int
) -> Look:
    """Start an engine on some concepts, shared out among the devices, `block` on each."""
    shape = block * problem.devices.count
    return engine.look(problem.devices.split(padded(texts, shape)), len(texts))


def padded(
    texts: Float32[np.ndarray, "rows feature"], block: int
) -> Float32[np.ndarray, "block feature"]:
    """Append zero rows, so that the shape never changes and there is one trace."""
    missing = block - len(texts)
    return np.pad(texts, ((0, missing), (0, 0))) if missing else texts


@dataclass
class Found:
    """Pairs as they are found, those that a risen floor excludes dropped now and then.

    Attributes:
        engine: what looks.
        largest: the largest reach of each neuron so far.
    """

    engine: Engine
    largest: np.ndarray = field(default_factory=lambda: np.array(-np.inf, np.float32))
    pieces: list[Pairs] = field(default_factory=list)
    size: int = 0
    least: int = 1 << 22  # so many are no burden: 100 MB with three bounds
    looks: int = 0
    raised: int = 0

    def add(self, look: Look, first: int) -> None:
        """Take in a look at the concepts `first`, `first` + 1, ..."""
        self.largest = np.maximum(self.largest, np.asarray(look.largest))
        self.looks += 1
        if self.looks >= 4 * self.raised:  # the more has been seen, the less it still rises
            self.engine.raise_floor(self.largest)
            self.raised = self.looks
        cells = np.flatnonzero(look.within)
        neurons, columns = np.divmod(cells.astype(np.int32), look.within.shape[1])
        reach = np.asarray(look.reach).reshape(len(look.reach), -1).take(cells, axis=1)
        groups = np.asarray(look.groups).take(columns)
        piece = Pairs(neurons, first + columns, groups, reach)
        if self.looks - self.raised < 2:  # it was started before
            piece = self._above(piece)
        self.pieces.append(piece)
        self.size += len(piece.neurons)
        if self.size > 2 * self.least:
            self._drop()

    def finish(self) -> None:
        """Drop all pairs that what has been seen so far excludes."""
        self.engine.raise_floor(self.largest)
        self._drop()
        parts = zip(*self.pieces, strict=True)
        self.pieces = [Pairs(*(np.concatenate(part, axis=-1) for part in parts))]

    def of_count(self, count: int) -> Pairs:
        """Those that are left for a number of exemplars, once it is finished."""
        kept = self.reaching(count)
        return kept.where(self.engine.closer(count, kept))

    def reaching(self, count: int) -> Pairs:
        """The same, but for a closer look."""
        own, (pairs,) = self.engine.counts == count, self.pieces
        return pairs if own.all() else pairs.where(self._reaching(pairs, own))

    def _drop(self) -> None:
        # Piece by piece, as each fits a cache.
        self.pieces = [self._above(piece) for piece in self.pieces]
        self.size = sum(len(piece.neurons) for piece in self.pieces)
        self.least = max(self.least, self.size)

    def _above(self, pairs: Pairs) -> Pairs:
        return pairs.where(self._reaching(pairs, np.full(len(pairs.reach), True)))

    def _reaching(
        self, pairs: Pairs, bounds: Bool[np.ndarray, "bound"]
    ) -> Bool[np.ndarray, "pair"]:
        """Which pairs reach the floor of one of some bounds."""
        kept, floor = np.zeros(len(pairs.neurons), bool), self.engine.floor
        places = pairs.neurons * floor.shape[2] + pairs.groups
        for bound in np.flatnonzero(bounds):
            kept |= pairs.reach[bound] >= floor[bound].ravel().take(places)
        return kept
