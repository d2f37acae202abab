"""The processes of one run, on one host or several: their work, and what happens if one dies."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from jaxdesc.errors import InputError
from jaxdesc.store.rendezvous import Address, Link

# Exit code of a process that stops because another one is gone.
ABANDONED = 3

_DISAGREE = (
    "The processes of this run disagree at {}: give all of them the same config, images, weights "
    "and version of jaxdesc."
)


@dataclass(frozen=True)
class Processes:
    """The processes of a run; each has the same code and config, and computes its own shards.

    The first, with index 0, merges what all have done. A single process has no link to others.
    """

    index: int = 0
    count: int = 1
    link: Link | None = None

    @property
    def leads(self) -> bool:
        """True for the process that merges, and does what is not shared out."""
        return self.index == 0

    def sync(self, where: str) -> None:
        """Wait until all have come to the same point; a single process goes on."""
        if self.link and not self.link.meet(where):
            raise InputError(_DISAGREE.format(where))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Stop this process as soon as another one is gone; at the end, wait for all of them.

        `sync` alone would not notice: a process may work on its shards for hours.
        """
        if self.link is None:
            yield
            return
        self.link.watch()
        try:
            yield
            if not self.link.meet():
                raise InputError(_DISAGREE.format("the end"))
        finally:
            self.link.close()


ALONE = Processes()


def join(
    address: Address, index: int, count: int, seconds: float, notify: Callable[[str], None]
) -> Processes:
    """Wait until all processes of a run are there, as `Link.join` does.

    From then on this process ends with the exit code `ABANDONED` if another one is gone.
    """
    if count == 1:
        return ALONE
    link = Link(address, index, count, _abandon)
    link.join(seconds, notify)
    return Processes(index, count, link)


def _abandon(index: int) -> None:
    """End this process at once: its main thread may wait forever for the one that is gone."""
    print(
        f"error: Process {index} of this run has died or was stopped, so this one stops too: what "
        "was finished is kept; start all processes again with the same command, also in another "
        "number.",
        file=sys.stderr,
        flush=True,
    )
    sys.stdout.flush()
    os._exit(ABANDONED)
