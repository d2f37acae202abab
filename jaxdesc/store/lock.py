"""A lock that keeps a second run out of a working directory."""

import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from jaxdesc.errors import InputError
from jaxdesc.store.place import Place

BEAT = 10.0  # seconds between a lease's signs of life
DEAD = 60.0  # seconds without one after which its owner counts as dead


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """Hold a folder, unless another run does; a run that is killed loses its hold.

    On a disk the hold is a lock of the operating system on the file `lock`, which ends with the
    process. In a bucket it is a lease: an object that its owner rewrites every few seconds, and
    that another run takes over once that has stopped.
    """
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    owner = f"process {os.getpid()} on {platform.node()}, {now}"
    with _file_lock(place, owner) if place.local else _lease(place, owner):
        yield


@contextmanager
def _file_lock(place: Place, owner: str) -> Iterator[None]:
    import fcntl  # missing on Windows, where the package can still be imported

    assert place.local is not None
    try:
        place.local.mkdir(parents=True, exist_ok=True)
        file = (place.local / "lock").open("a+")
    except OSError as error:
        raise InputError(
            f"The folder {place} can't be made or written ({error.strerror}): give a working "
            "directory that can."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise _taken(place, file.read()) from error
        file.truncate(0)
        file.write(owner)
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


@contextmanager
def _lease(place: Place, owner: str) -> Iterator[None]:
    generation = place.generation("lock")
    if holder := place.read("lock"):
        began = time.monotonic()
        while time.monotonic() - began < DEAD:
            time.sleep(min(BEAT, DEAD) / 2)
            if place.generation("lock") != generation:
                raise _taken(place, holder.decode())
    generation = place.write_if("lock", owner.encode(), generation)
    if not generation:
        raise _taken(place, (place.read("lock") or b"").decode())
    ended = threading.Event()

    def beat() -> None:
        nonlocal generation
        while generation and not ended.wait(BEAT):  # until another run has taken the lease over
            generation = place.write_if("lock", owner.encode(), generation)

    beating = threading.Thread(target=beat, daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        if generation:
            place.write_if("lock", None, generation)


def _taken(place: Place, owner: str) -> InputError:
    who = f" ({owner})" if owner else ""
    return InputError(
        f"Another run is at work in {place}{who}: wait until it has ended, or give another working "
        "directory."
    )
