"""Latents of dictionaries: activations that are 0 nearly everywhere, held and stored without zeros.

The device packs each batch: of an image the indices of the latents above zero, their activations,
and the peaks of their maps. A shard stores them one image after the other (CSR).
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int, UInt16
from scipy import sparse

from jaxdesc.attention.units import NOWHERE
from jaxdesc.runtime.compiler import jit
from jaxdesc.store import Artifact

FIRST = 1024  # latents of an image that are packed at first; doubled while some image has more
_ROWS = 1024  # images of a block that is read


class Packed(NamedTuple):
    """Latents of a batch on the device; after an image's count, its slots are empty."""

    counts: Int[Array, "image"]
    finite: Bool[Array, "image"]
    latents: Int[Array, "image slot"]
    values: Float32[Array, "image slot"]
    peaks: UInt16[Array, "image slot"] | None


class Latents(NamedTuple):
    """Latents of a batch on the host, without zeros, one image after the other."""

    counts: Int[np.ndarray, "image"]
    latents: Int[np.ndarray, "entry"]
    values: Float32[np.ndarray, "entry"]
    peaks: UInt16[np.ndarray, "entry"] | None

    def part(self, first: int, last: int) -> "Latents":
        """Restrict them to some images."""
        entries = slice(int(self.counts[:first].sum()), int(self.counts[:last].sum()))
        peaks = None if self.peaks is None else self.peaks[entries]
        return Latents(self.counts[first:last], self.latents[entries], self.values[entries], peaks)

    def arrays(self, shard: int) -> dict[str, np.ndarray]:
        """The arrays of a shard that holds them, by name."""
        found = {"latents": self.latents, "values": self.values, "peaks": self.peaks}
        return {f"{name} {shard}": array for name, array in found.items() if array is not None}


class Packer:
    """Packs the latents of batches; each image keeps its `most` largest ones, all if that is 0."""

    def __init__(self, most: int):
        self.most, self.slots = most, most or FIRST

    def start(self, values: Array, peaks: Array | None) -> Packed:
        """Start to pack activations [B, N] and peaks [B, N], and wait for nothing."""
        slots = min(self.slots, values.shape[1])
        packed: Packed = pack(values, peaks, slots=slots, largest=bool(self.most))
        return packed

    def finish(
        self, packed: Packed, values: Array, peaks: Array | None, used: Bool[np.ndarray, "image"]
    ) -> Latents:
        """Wait for the latents of a batch, and leave out those of images that are not used."""
        largest = int(np.asarray(packed.counts).max())
        if largest > packed.values.shape[1]:
            self.slots = 1 << (largest - 1).bit_length()
            packed = self.start(values, peaks)
        counts = np.where(used, np.asarray(packed.counts)[: len(used)], 0)
        taken = np.arange(packed.values.shape[1])[None] < counts[:, None]
        latents, kept = (np.asarray(each)[: len(used)][taken] for each in packed[2:4])
        cells = None if packed.peaks is None else np.asarray(packed.peaks)[: len(used)][taken]
        return Latents(counts.astype(np.int32), latents, kept, cells)


@partial(jit, static=("slots", "largest"))
def pack(values: Any, peaks: Any, slots: int, largest: bool) -> Packed:
    """Pack activations [B, N]: those above zero, or of these the largest only, by index."""
    count = values.shape[1]
    every = jnp.broadcast_to(jnp.arange(count, dtype=jnp.int32)[None], values.shape)
    if largest:
        kept, every = jax.lax.top_k(values, slots)
        order = jnp.where(kept > 0, every, count)
    else:
        order = jnp.where(values > 0, every, count)
    counts = (order < count).sum(axis=1)
    order = jnp.sort(order, axis=1)[:, :slots]
    index = jnp.minimum(order, count - 1)
    return Packed(
        counts=counts,
        finite=jnp.isfinite(values).all(axis=1),
        latents=order,
        values=jnp.take_along_axis(values.astype(jnp.float32), index, axis=1),
        peaks=None if peaks is None else jnp.take_along_axis(peaks, index, axis=1),
    )


def are_packed(activated: Artifact) -> bool:
    """Return True if the activations of an artifact of `activate` are stored without zeros."""
    return "latents" in activated.values


def packed_blocks(activated: Artifact) -> Iterator[tuple[int, sparse.csr_array]]:
    """Read the activations in blocks of images: the first one's index, and a sparse array."""
    units, first = activated.values["latents"], 0
    for counts, shards in _blocks(activated):
        latents, values = (
            np.concatenate([activated.read(f"{name} {shard}") for shard in shards])
            for name in ("latents", "values")
        )
        ends = np.concatenate([[0], np.cumsum(counts)])
        yield first, sparse.csr_array((values, latents, ends), (len(counts), units))
        first += len(counts)


def activations_of(activated: Artifact, units: Sequence[int]) -> Float32[np.ndarray, "image unit"]:
    """Read the activations of some units, packed or not."""
    chosen = list(units)
    if not are_packed(activated):
        return np.asarray(activated.read("activations")[:, chosen])
    parts = (block.tocsc()[:, chosen].toarray() for _, block in packed_blocks(activated))
    return np.concatenate(list(parts))


def packed_peaks(
    activated: Artifact, images: Int[np.ndarray, "pair"], units: Int[np.ndarray, "pair"]
) -> UInt16[np.ndarray, "pair"]:
    """Read the peaks of the maps of some units; `NOWHERE` of one that is 0 on its image."""
    count, first = activated.values["latents"], 0
    found = np.full(len(images), NOWHERE, np.uint16)
    order = np.argsort(images, kind="stable")
    ordered = images[order]
    for counts, shards in _blocks(activated):
        some = slice(*np.searchsorted(ordered, (first, first + len(counts))))
        pairs = order[some]
        if len(pairs) and counts.any():
            latents, peaks = (
                np.concatenate([activated.read(f"{name} {shard}") for shard in shards])
                for name in ("latents", "peaks")
            )
            keys = np.repeat(np.arange(len(counts)), counts) * count + latents
            wanted = (images[pairs] - first).astype(np.int64) * count + units[pairs]
            place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            found[pairs] = np.where(keys[place] == wanted, peaks[place], NOWHERE)
        first += len(counts)
    return found


def _blocks(activated: Artifact) -> Iterator[tuple[np.ndarray, range]]:
    """Counts of each block of images, and its shards."""
    counts, each = activated.read("counts"), activated.values["shard"]
    together = max(1, _ROWS // each)
    for shard in range(0, -(-len(counts) // each), together):
        rows = slice(shard * each, (shard + together) * each)
        last = min(shard + together, -(-len(counts) // each))
        yield counts[rows], range(shard, last)
