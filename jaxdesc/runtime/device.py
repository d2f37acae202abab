"""Idle time of the device."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import jax

Outputs = TypeVar("Outputs")


def unwatched(outputs: Outputs) -> Outputs:
    """Return the outputs; stands in for a `Watch` if nothing is measured."""
    return outputs


class Watch:
    """Measures how long a device has nothing queued, from creation until `share`.

    JAX returns before a program has run. A thread waits for the outputs of each program in turn, so
    it knows when the queue was empty, and for how long.
    """

    def __init__(self) -> None:
        self._began = self._free = time.perf_counter()
        self._idle = 0.0
        self._waiter = ThreadPoolExecutor(max_workers=1)

    def __call__(self, outputs: Outputs) -> Outputs:
        """Note that a program was queued just now, and return its outputs."""
        self._waiter.submit(self._wait, time.perf_counter(), outputs)
        return outputs

    def _wait(self, queued: float, outputs: Outputs) -> None:
        self._idle += max(0.0, queued - self._free)
        jax.block_until_ready(outputs)
        self._free = time.perf_counter()

    def so_far(self) -> float:
        """Return the idle share of the time until the last program that has ended."""
        free, idle = self._free, self._idle
        return min(1.0, idle / (free - self._began)) if free > self._began else 0.0

    def share(self) -> float:
        """Wait for queued programs, end the measurement, and return the idle share of its time."""
        self._waiter.shutdown()
        now = time.perf_counter()
        return (self._idle + now - self._free) / (now - self._began)
