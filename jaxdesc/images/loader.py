"""Batches of decoded images, prepared ahead of the device (Grain)."""

import gc
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any, NamedTuple, TypeVar

import numpy as np

from jaxdesc.errors import SHOWN, InputError, UnusableImage, printable
from jaxdesc.images.example import Example, Source, load

Prepared = TypeVar("Prepared")

# Images that a thread takes at once: Grain spends 0.2 ms of Python on each element.
_GROUP = 8
# What each thread is reading: `image` is the index, `heard` has (warning, index) of its group.
_reading = threading.local()


class _Read(NamedTuple):
    """Results of a group of images, and the warnings about them.

    Between processes the results are pickled, and their arrays share one block of memory.
    """

    results: Any
    heard: list[tuple[str, int]]
    sizes: list[int]
    block: np.ndarray


def batches(
    source: Source,
    indices: Sequence[int],
    prepare: Callable[[int, Example], Prepared],
    batch: int,
    instead: Callable[[int, UnusableImage], Prepared] | None = None,
    workers: int = 0,
) -> Generator[list[Prepared], None, None]:
    """Decode and prepare images in order, up to two batches ahead.

    Each yielded list has the results of `prepare` for `batch` images, or fewer in the last list.
    `prepare` gets an index and its image in the thread that decoded it, so the queue holds results
    and not photos. For an image that can't be used, `instead` is called with the error; without it
    the error is raised.

    A thread per core reads images: threads of this process or, since Python lets only one of these
    run at a time between decoding and resizing, of `workers` others. Source, `prepare` and its
    results are pickled then. `InputError` if one of them ends.
    """
    about: dict[str, list[int]] = {}
    with warnings.catch_warnings():
        _listen()
        groups = _groups(source, indices, prepare, batch, instead, workers)
        results = chain.from_iterable(_unpacked(group, about) for group in groups)
        try:
            while chunk := list(islice(results, batch)):
                yield chunk
        except RuntimeError as error:
            if "terminated unexpectedly" not in str(error):
                raise
            raise InputError(
                f"A process that reads images of {source.spec} has ended ({str(error)[:SHOWN]}): "
                "if memory is full, lower config.images.workers; a script that calls jaxdesc needs "
                "'if __name__ == \"__main__\":'. Start again; what was finished is kept."
            ) from error
        finally:
            groups.close()
            del groups, results
            if workers:
                gc.collect()  # cycles hold Grain's last blocks, which Python would warn of
            for message, images in about.items():
                first, more = source.identify(min(images)), len(set(images)) - 1
                others = f" and {more} more" if more else ""
                print(printable(f"warning of {first!r}{others}: {message}"), file=sys.stderr)


def regrouped(parts: Iterable[Iterable[Any]], size: int) -> Iterator[list[Any]]:
    """Yield what batches of images hold, several items for each image, in batches of items."""
    items = chain.from_iterable(chain.from_iterable(parts))
    while chunk := list(islice(items, size)):
        yield chunk


def _left_out(index: int, error: UnusableImage) -> None:
    """Stand in for an image that can't be used with nothing."""
    del index, error


def rate(
    source: Source,
    prepare: Callable[[int, Example], Any],
    workers: int = 0,
    seconds: float = 2.0,
) -> float:
    """Images per second that `batches` reads here, by some of the source's images over and over.

    The first batch, for which processes start, does not count.
    """
    few = np.linspace(0, len(source) - 1, min(len(source), 64)).astype(int).tolist()
    endless = few * (10**6 // len(few))
    reading = batches(source, endless, prepare, 32, _left_out, workers)
    next(reading)
    count, began = 0, time.perf_counter()
    while time.perf_counter() < began + seconds:
        count += len(next(reading))
    found = count / (time.perf_counter() - began)
    reading.close()
    return found


def _groups(
    source: Source,
    indices: Sequence[int],
    prepare: Callable[[int, Example], Any],
    batch: int,
    instead: Callable[[int, UnusableImage], Any] | None,
    workers: int,
) -> Any:
    """Grain's iterator over the groups of images."""
    import grain  # not at the top: it takes two seconds and defines a dozen absl flags
    from absl import flags

    processes = max(1, workers)
    threads = -(-(os.cpu_count() or 1) // processes)
    size = max(1, min(_GROUP, batch // (threads * processes)))
    ahead = max(threads, 2 * batch // (size * processes))
    groups = [indices[start : start + size] for start in range(0, len(indices), size)]
    read = partial(_read, source, prepare, instead, workers > 0)
    chosen = grain.MapDataset.source(groups).map(read)
    chosen = chosen.to_iter_dataset(grain.ReadOptions(threads, ahead))
    if workers:
        # Grain asks for it without looking whether flags were parsed; a notebook parses none.
        flags.FLAGS["grain_enable_multiprocess_worker_profiling"].present = True
        chosen = chosen.mp_prefetch(grain.MultiprocessingOptions(workers), _begin)
    return iter(chosen)


def _begin(*_: int) -> None:
    """Set up a process that reads images: the run alone stops it, and takes it along if killed."""
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)
    run: Any = multiprocessing.parent_process()
    threading.Thread(target=lambda: (run.join(), os._exit(1)), daemon=True).start()
    _listen()


def _read(
    source: Source,
    prepare: Callable[[int, Example], Any],
    instead: Callable[[int, UnusableImage], Any] | None,
    pack: bool,
    indices: Iterable[int],
) -> _Read:
    results: list[Any] = []
    _reading.heard = []
    try:
        for index in indices:
            _reading.image = index
            try:
                results.append(prepare(index, load(source, index)))
            except UnusableImage as error:
                if instead is None:
                    raise
                results.append(instead(index, error))
    finally:
        _reading.image = None
    block = np.zeros(1, np.uint8)
    if not pack:
        return _Read(results, _reading.heard, [], block)
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(results, protocol=5, buffer_callback=buffers.append)
    arrays = [np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers]
    sizes = [len(array) for array in arrays]
    return _Read(pickled, _reading.heard, sizes, np.concatenate([*arrays, block]))


def _unpacked(group: _Read, about: dict[str, list[int]]) -> list[Any]:
    """Results of a group; its warnings are added to `about`, their images by message."""
    for message, image in group.heard:
        about.setdefault(message, []).append(image)
    if not isinstance(group.results, bytes):
        return group.results
    block = group.block.view(np.ndarray)
    ends = np.cumsum(group.sizes).tolist()
    arrays = [block[end - size : end] for end, size in zip(ends, group.sizes, strict=True)]
    return pickle.loads(group.results, buffers=arrays)


def _listen() -> None:
    """Note libraries' warnings about the images that this process reads."""
    elsewhere = warnings.showwarning

    def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        if getattr(_reading, "image", None) is None:
            elsewhere(message, category, *where, **more)
        else:
            _reading.heard.append((" ".join(str(message).split()), _reading.image))

    # For every image, not only the first.
    for category in (UserWarning, RuntimeWarning):
        warnings.simplefilter("always", category)
    warnings.showwarning = show  # until the caller's `catch_warnings` ends


def even(count: int, largest: int) -> int:
    """Batch size for `count` images that needs the fewest batches and little padding.

    200 images in batches of 64 would be padded to 256; four batches of 50 need no padding.
    """
    return -(-count // -(-count // largest))


def padded(rows: np.ndarray, size: int) -> np.ndarray:
    """Repeat the last row until there are `size`: a single shape, so a single compiled program."""
    missing = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
