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
        cells: where each pair lies, its tile and its place in the tile.
    """

    pairs: slice
    neurons: Int32[np.ndarray, "tile"]
    concepts: Int32[np.ndarray, "tile concept"]
    cells: tuple[Int[np.ndarray, "pair"], Int[np.ndarray, "pair"]]


def tiles(
    neurons: Int[np.ndarray, "pair"], concepts: Int[np.ndarray, "pair"], width: int, many: int
) -> Iterator[Tiles]:
    """Lay pairs that are sorted by neuron out, `many` tiles of `width` concepts at a time."""
    starts = np.flatnonzero(np.diff(neurons, prepend=-1))
    counts = np.diff(starts, append=len(neurons))
    of_neuron = -(-counts // width)
    rank = np.arange(len(neurons), dtype=np.int32)
    rank -= np.repeat(starts.astype(np.int32), counts)
    before = (np.cumsum(of_neuron) - of_neuron).astype(np.int32)
    tile = np.repeat(before, counts) + rank // width
    place = rank % width
    # Of the type of `tile`, which else would be copied for each search.
    firsts = np.arange(0, int(of_neuron.sum()), many, dtype=tile.dtype)
    ends = np.append(np.searchsorted(tile, firsts), len(tile))
    for first, pairs in zip(firsts, map(slice, ends, ends[1:]), strict=True):
        cells = tile[pairs] - first, place[pairs]
        owners, wanted = np.zeros(many, np.int32), np.zeros((many, width), np.int32)
        owners[cells[0]], wanted[cells] = neurons[pairs], concepts[pairs]
        yield Tiles(pairs, owners, wanted, cells)
