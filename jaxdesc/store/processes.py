"""The processes of one run, on one host or on many: who does what, and what if one dies."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from jaxdesc.errors import InputError
from jaxdesc.store.place import Place

# Seconds between signs of life, and after how many without one a process is dead.
BEAT = 3.0
DEAD = 30.0

# Exit code of a process that stops because another one has.
ABANDONED = 3


@dataclass(frozen=True)
class Processes:
    """The processes of a run; each has the same code and config, and does its own shards.

    Attributes:
        index: which of them this is; the first merges what all have done.
        count: how many there are.
    """

    index: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this one merges, and does what is not shared out."""
        return self.index == 0

    def sync(self, where: str) -> None:
        """Wait until all have come to the same place (`jax.distributed`); nothing for one process.

        Raises:
            InputError: one of them has died, or works on something else.
        """
        if self.count == 1:
            return
        from jax.experimental import multihost_utils

        try:
            multihost_utils.sync_global_devices(where)
        except AssertionError as error:
            raise InputError(
                f"The processes of this run disagree at {where}: give all of them the same config, "
                "images, weights and version of jaxdesc."
            ) from error
        except Exception as error:  # of whatever type the transport has
            raise InputError(_lost("another process")) from error


ALONE = Processes()


def _lost(who: str) -> str:
    return (
        f"{who[0].upper()}{who[1:]} of this run has died or was stopped, so this one stops too: "
        "what was finished is kept; start all processes again with the same command, also in "
        "another number."
    )


@contextmanager
def watched(processes: Processes, place: Place) -> Iterator[None]:
    """Give signs of life, and stop this process where another one gives none any more.

    A process that ends its run, well or with an error, says so. `sync` alone would not do: who is
    at work on its own shards, for hours, would not notice. Clocks of hosts are not compared.

    Args:
        processes: of this run.
        place: where each leaves a file.
    """
    if processes.count == 1:
        yield
        return
    own, over = f"{processes.index}", threading.Event()
    place.write(own, b"0")
    processes.sync("all are alive")
    threads = [
        threading.Thread(target=work, args=(processes, place, over), daemon=True)
        for work in (_beat, _watch)
    ]
    for thread in threads:
        thread.start()
    ending = b"failed"
    try:
        yield
        ending = b"done"
    finally:
        over.set()
        for thread in threads:
            thread.join()
        place.write(own, ending)


def _beat(processes: Processes, place: Place, over: threading.Event) -> None:
    count = 0
    while not over.wait(BEAT):
        count += 1
        place.write(f"{processes.index}", str(count).encode())


def _watch(processes: Processes, place: Place, over: threading.Event) -> None:
    others = [index for index in range(processes.count) if index != processes.index]
    seen = dict.fromkeys(others, (b"", time.monotonic()))
    while not over.wait(BEAT):
        for index in others:
            sign, now = place.read(str(index)) or b"", time.monotonic()
            if sign != seen[index][0]:
                seen[index] = sign, now
            if sign == b"failed" or (sign != b"done" and now - seen[index][1] > DEAD):
                _abandon(_lost(f"process {index}"))


def _abandon(message: str) -> None:
    """End this process at once: its main thread may wait for ever for the one that died."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(ABANDONED)
