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

    What waits is what `prepare` returns: a photo that it does not keep is held by one thread alone.

    Args:
        source: to read from.
        indices: of the images, in the order wanted.
        prepare: called in a thread with an index and its decoded image.
        batch: images a list; the last may hold fewer.
        instead: called in its place with an image that can't be used, and why; without it that is
            an error.

    Yields:
        Lists of what `prepare` returned.

    Raises:
        UnusableImage: an image that can't be used.
    """
    import grain  # two seconds, Orbax and a dozen absl flags: not for everyone who imports jaxdesc

    at_work = threading.local()  # on which image each thread is

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
    """Gather what libraries warn of while images are read, and say at the end about which ones."""
    about: dict[str, list[int]] = {}
    with warnings.catch_warnings():
        elsewhere = warnings.showwarning

        def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            index = getattr(at_work, "image", None)
            if index is None:
                elsewhere(message, category, *where, **more)
            else:
                about.setdefault(" ".join(str(message).split()), []).append(index)

        # Of every image, not of the first alone.
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
    """Return the size of `count` images' batches: as few as `largest` allows, little padding.

    200 images in batches of 64 would be padded to 256; in four of 50 they need none.
    """
    return -(-count // -(-count // largest))


def padded(rows: np.ndarray, size: int) -> np.ndarray:
    """Repeat the last row until there are `size`: one shape, so one compiled program."""
    missing = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
