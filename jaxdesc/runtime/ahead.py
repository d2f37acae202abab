"""Iteration one item ahead, which keeps the device busy while the host works."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Hand out each item only when the next one has been drawn too.

    JAX computes while Python goes on. If drawing an item starts a computation, the device has the
    next one queued while the caller waits for this one's result and works on it.
    """
    drawn: list[Item] = []
    for item in items:
        yield from drawn
        drawn = [item]
    yield from drawn
