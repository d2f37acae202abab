"""Batches of decoded images, prepared ahead of the device (Grain)."""

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from jaxdesc.errors import UnusableImage, printable
from jaxdesc.images.example import Example, Source, load

Prepared = TypeVar("Prepared")


def batches(
    source: Source,
    indices: Sequence[int],
    prepare: Callable[[int, Example], Prepared],
    batch: int,
    instead: Callable[[int, UnusableImage], Prepared] | None = None,
) -> Iterator[list[Prepared]]:
    """Decode and prepare images in threads, in order, up to two batches ahead.

    Each yielded list has the results of `prepare` for `batch` images, or fewer in the last list.
    `prepare` gets an index and its image in the thread that decoded it, so the queue holds results
    and not photos. For an image that can't be used, `instead` is called with the error; without it
    the error is raised.
    """
    import grain  # not at the top: it takes two seconds and defines a dozen absl flags

    at_work = threading.local()  # index of each thread's image

    def read(index: int) -> Prepared:
        at_work.image = index
        try:
            return prepare(index, load(source, index))
        except UnusableImage as error:
            if instead is None:
                raise
            return instead(index, error)
        finally:
            at_work.image = None

    threads = os.cpu_count() or 1
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * batch)
    chosen = grain.MapDataset.source(indices).map(read)
    with _attributed(source, at_work):
        yield from chosen.to_iter_dataset(options).batch(batch, drop_remainder=False, batch_fn=list)


@contextmanager
def _attributed(source: Source, at_work: threading.local) -> Iterator[None]:
    """Collect libraries' warnings while images are read, and print them with their images."""
    about: dict[str, list[int]] = {}
    with warnings.catch_warnings():
        elsewhere = warnings.showwarning

        def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            index = getattr(at_work, "image", None)
            if index is None:
                elsewhere(message, category, *where, **more)
            else:
                about.setdefault(" ".join(str(message).split()), []).append(index)

        # For every image, not only the first.
        for category in (UserWarning, RuntimeWarning):
            warnings.simplefilter("always", category)
        warnings.showwarning = show
        try:
            yield
        finally:
            for message, images in about.items():
                first, more = source.identify(min(images)), len(set(images)) - 1
                others = f" and {more} more" if more else ""
                print(printable(f"warning of {first!r}{others}: {message}"), file=sys.stderr)


def even(count: int, largest: int) -> int:
    """Batch size for `count` images that needs the fewest batches and little padding.

    200 images in batches of 64 would be padded to 256; four batches of 50 need no padding.
    """
    return -(-count // -(-count // largest))


def padded(rows: np.ndarray, size: int) -> np.ndarray:
    """Repeat the last row until there are `size`: a single shape, so a single compiled program."""
    missing = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
