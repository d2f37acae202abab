"""The processes of one run, on one host or on many: who does what, and what if one dies."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from jaxdesc.errors import InputError
from jaxdesc.store.rendezvous import Address, Link

# Exit code of a process that stops because another one has.
ABANDONED = 3


@dataclass(frozen=True)
class Processes:
    """The processes of a run; each has the same code and config, and does its own shards.

    Attributes:
        index: which of them this is; the first merges what all have done.
        count: how many there are.
        link: this one's connection to the others; None for a single process.
    """

    index: int = 0
    count: int = 1
    link: Link | None = None

    @property
    def leads(self) -> bool:
        """Whether this one merges, and does what is not shared out."""
        return self.index == 0

    def sync(self, where: str) -> None:
        """Wait until all have come to the same place; a single process goes on.

        Raises:
            InputError: one of them works on something else.
        """
        if self.link and not self.link.meet(where):
            raise _disagreement(where)


ALONE = Processes()


def join(
    address: Address, index: int, count: int, seconds: float, notify: Callable[[str], None]
) -> Processes:
    """Wait until all processes of a run are there, as `Link.join` does.

    From then on this process ends with the exit code `ABANDONED` if another one is gone.

    Args:
        address: where the first process listens.
        index: which process this is, from 0.
        count: how many there are.
        seconds: how long to wait.
        notify: called every ten seconds with a line that says who is being waited for.

    Raises:
        InputError: one did not come, or what they were told does not fit together.
    """
    if count == 1:
        return ALONE
    link = Link(address, index, count, _abandon)
    link.join(seconds, notify)
    return Processes(index, count, link)


@contextmanager
def watched(processes: Processes) -> Iterator[None]:
    """Stop this process as soon as another one is gone; at the end, wait for all of them.

    `sync` alone would not do: a process at work on its own shards, for hours, would not notice.

    Raises:
        InputError: another process works on.
    """
    link = processes.link
    if link is None:
        yield
        return
    link.watch()
    try:
        yield
        if not link.end():
            raise _disagreement("the end")
    finally:
        link.close()


def _disagreement(where: str) -> InputError:
    return InputError(
        f"The processes of this run disagree at {where}: give all of them the same config, "
        "images, weights and version of jaxdesc."
    )


def _abandon(index: int) -> None:
    """End this process at once: its main thread may wait for ever for the one that is gone."""
    print(
        f"error: Process {index} of this run has died or was stopped, so this one stops too: what "
        "was finished is kept; start all processes again with the same command, also in another "
        "number.",
        file=sys.stderr,
        flush=True,
    )
    sys.stdout.flush()
    os._exit(ABANDONED)
