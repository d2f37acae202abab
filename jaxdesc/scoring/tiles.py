"""Pairs of a neuron and a concept, laid out for products of one neuron with several concepts."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32


class Tiles(NamedTuple):
    """Some tiles, and which pairs they hold.

    Attributes:
        pairs: which of the pairs.
        neurons: of each tile.
        concepts: of each tile, as places in what its features are read from.
        cells: where each pair lies, counted along the tiles.
    """

    pairs: slice
    neurons: Int32[np.ndarray, "tile"]
    concepts: Int32[np.ndarray, "tile concept"]
    cells: Int[np.ndarray, "pair"]


def tiles(
    neurons: Int[np.ndarray, "pair"], concepts: Int[np.ndarray, "pair"], width: int, many: int
) -> Iterator[Tiles]:
    """Lay pairs that are sorted by neuron out, `many` tiles of `width` concepts at a time."""
    starts = np.flatnonzero(np.diff(neurons, prepend=-1))
    counts = np.diff(starts, append=len(neurons))
    of_neuron = -(-counts // width)
    ends = np.cumsum(of_neuron)
    owners = np.repeat(neurons[starts], of_neuron).astype(np.int32)
    # A neuron's pairs lie one after the other, from the start of its first tile on.
    cells = np.arange(len(neurons)) + np.repeat((ends - of_neuron) * width - starts, counts)
    firsts = np.arange(0, len(owners), many)
    bounds = np.append(np.searchsorted(cells, firsts * width), len(cells))
    for first, pairs in zip(firsts, map(slice, bounds, bounds[1:]), strict=True):
        own = owners[first : first + many]
        places, wanted = cells[pairs] - first * width, np.zeros(many * width, np.int32)
        wanted[places] = concepts[pairs]
        yield Tiles(pairs, np.pad(own, (0, many - len(own))), wanted.reshape(many, width), places)
