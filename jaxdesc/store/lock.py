"""Keeps a second run from working in one directory."""

import os
import platform
import threading
import time
from typing import IO

from jaxdesc.errors import InputError
from jaxdesc.store.place import Place

# Seconds between a lease's signs of life, and after how many without one its owner is dead.
BEAT = 10.0
DEAD = 60.0


class Lock:
    """One run's hold on a folder; a run that is killed loses it.

    On a disk it is a lock of the system's on the file `lock`, which ends with the process. In a
    bucket it is a lease: an object that its owner writes anew every few seconds, and that another
    run takes over once that has stopped.

    Args:
        place: the folder.
    """

    def __init__(self, place: Place):
        self._place = place
        self._held: _File | _Lease | None = None

    def acquire(self) -> None:
        """Take hold of the folder, unless this lock has hold of it already.

        Raises:
            InputError: another run has, or the folder can't be written.
        """
        if self._held is None:
            self._held = _File(self._place) if self._place.local else _Lease(self._place)

    def release(self) -> None:
        """Let go of it."""
        held, self._held = self._held, None
        if held:
            held.release()


class _File:
    """A lock of the system's on a file."""

    def __init__(self, place: Place):
        import fcntl  # not everywhere where packages can be imported

        assert place.local is not None
        try:
            place.local.mkdir(parents=True, exist_ok=True)
            self._file: IO[str] = (place.local / "lock").open("a+")
        except OSError as error:
            raise InputError(
                f"The folder {place} can't be made or written ({error.strerror}): give a working "
                "directory that can."
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            owner = self._file.read()
            self._file.close()
            raise _taken(place, owner) from error
        self._file.truncate(0)
        self._file.write(_owner())
        self._file.flush()

    def release(self) -> None:
        self._file.truncate(0)
        self._file.close()


class _Lease:
    """An object that is written anew every few seconds; each write tells whether it was ours."""

    def __init__(self, place: Place):
        self._place, self._over = place, threading.Event()
        self._generation = place.generation("lock")
        if place.read("lock"):
            self._wait_for_the_dead()
        if not self._renew():
            raise _taken(place, (place.read("lock") or b"").decode())
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._beating.start()

    def _wait_for_the_dead(self) -> None:
        owner, began = (self._place.read("lock") or b"").decode(), time.monotonic()
        while time.monotonic() - began < DEAD:
            time.sleep(min(BEAT, DEAD) / 2)
            if self._place.generation("lock") != self._generation:
                raise _taken(self._place, owner)

    def _renew(self) -> bool:
        generation = self._place.write_if("lock", _owner().encode(), self._generation)
        if generation:
            self._generation = generation
        return bool(generation)

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            if not self._renew():
                return  # who took it over was sure that this process was dead

    def release(self) -> None:
        self._over.set()
        self._beating.join()
        self._place.write_if("lock", None, self._generation)


def _owner() -> str:
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return f"process {os.getpid()} on {platform.node()}, {now}"


def _taken(place: Place, owner: str) -> InputError:
    who = f" ({owner})" if owner else ""
    return InputError(
        f"Another run is at work in {place}{who}: wait until it has ended, or give another working "
        "directory."
    )
