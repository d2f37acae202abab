"""The start of every command: flags are read, and bad input becomes one sentence."""

import errno
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import jax
from absl import app, logging

from jaxdesc.commands import flags
from jaxdesc.errors import SHOWN, InputError, Stopped

# Exit codes, as a shell gives them for a process that a signal has ended.
TERMINATED, INTERRUPTED = 128 + signal.SIGTERM, 128 + signal.SIGINT

_asked = threading.Event()


def run(command: ModuleType, arguments: Sequence[str], program: str) -> None:
    """Run a command; bad input prints one sentence and exits with code 2.

    Args:
        command: its module: `FLAGS` are what it takes, `main` runs it.
        arguments: its flags, as they were typed.
        program: how it was started, for messages.

    Raises:
        SystemExit: always.
    """
    # Nothing that was imported is garbage, and little of what a trace makes: looking for it there,
    # every 700 objects, took one second in eight of a start.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    try:
        flags.parse(program, command.FLAGS, arguments)
    except InputError as error:
        _end(f"error: {error}", 2)
    # absl readies its logging, and the flags of libraries, which keep their defaults.
    app.run(lambda _: _guarded(command.main), [program])


def _guarded(main: Callable[[], None]) -> None:
    logging.set_verbosity(logging.WARNING)  # libraries tell of every backend they don't find
    try:
        main()
    except InputError as error:
        _end(f"error: {error}", 2)
    except OSError as error:
        if error.errno == errno.ENOSPC and error.filename is None:  # most often stdout's
            _end(f"error: Nothing can be written ({error.strerror}): {_RESUME}", 2)
        if error.filename is None:
            raise
        _end(
            f"error: {error.filename!r} can't be read or written ({error.strerror}): give another "
            "place, or make this one usable; what is computed already is kept.",
            2,
        )
    except Stopped:
        _end(f"stopped: {_RESUME}", TERMINATED)
    except KeyboardInterrupt:
        _end(f"interrupted: {_RESUME}", INTERRUPTED)
    except Exception as error:
        if not (sentence := _of_device(error)):
            raise
        _end(f"error: {sentence}", 2)


def _of_device(error: Exception) -> str:
    """Describe a device that can't be started, or whose memory is full; else an empty text."""
    try:
        jax.devices()
    except Exception as cause:  # a RuntimeError, or an AssertionError without a word
        asked = os.environ.get("JAX_PLATFORMS")
        what = f"for JAX_PLATFORMS={asked}" if asked else "at all"
        reason = str(cause).partition(" (set JAX_PLATFORMS")[0] or "none was found"
        return (
            f"JAX has no device {what} ({reason[:SHOWN]}): see to its driver and to JAX's plugin "
            "for it, or set JAX_PLATFORMS=cpu."
        )
    if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error):
        return (
            f"The device's memory is full ({str(error)[:SHOWN]}): lower config.images.batch, "
            "config.clip.batch or config.score.block; what was finished is kept."
        )
    return ""


_RESUME = "what was finished is kept, and the same command goes on from there."


def _end(sentence: str, code: int) -> None:
    print(" ".join(sentence.split()), file=sys.stderr)
    sys.exit(code)


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM, a preemption's, end the run after the shard in flight; a second one at once."""

    def ask(_number: int, _frame: Any) -> None:
        _asked.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        print("stopping after the shard in flight", file=sys.stderr)

    _asked.clear()
    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def stop_if_asked() -> None:
    """Raise `Stopped` if the run was asked to stop."""
    if _asked.is_set():
        raise Stopped
