"""Batches of decoded images, prepared ahead of the device (Grain)."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from jaxdesc.images.sources import Example, Source

Prepared = TypeVar("Prepared")


def batches(
    source: Source,
    indices: Sequence[int],
    prepare: Callable[[int, Example], Prepared],
    batch: int,
) -> Iterator[list[Prepared]]:
    """Decode and prepare images in threads, in order.

    Args:
        source: to read from.
        indices: of the images, in the order wanted.
        prepare: called in a thread with an index and its decoded image.
        batch: images a list; the last may hold fewer.

    Yields:
        Lists of what `prepare` returned.

    Raises:
        InputError: an image that can't be decoded.
    """
    import grain  # two seconds, Orbax and a dozen absl flags: not for everyone who imports jaxdesc

    threads = os.cpu_count() or 1
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * batch)
    chosen = grain.MapDataset.source(indices).map(lambda index: prepare(index, source[index]))
    yield from chosen.to_iter_dataset(options).batch(batch, drop_remainder=False, batch_fn=list)


def padded(rows: np.ndarray, size: int) -> np.ndarray:
    """Repeat the last row until there are `size`: one shape, so one compiled program."""
    missing = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
