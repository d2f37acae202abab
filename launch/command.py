"""How every launch script starts: flags to config, and bad input to one sentence."""

import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from absl import app, flags, logging

from jaxdesc.config import Config, unknown_key
from jaxdesc.errors import SHOWN, InputError, Stopped

MISSING = "--config is missing: give a Python config, such as configs/scenes.py."
UNREADABLE = (
    "The file of --config can't be read: give the path of a Python config, such as "
    "configs/scenes.py."
)


# Exit codes, as a shell gives them for a process that a signal has ended.
TERMINATED, INTERRUPTED = 128 + signal.SIGTERM, 128 + signal.SIGINT

_asked = threading.Event()


def run(main: Callable[[], None]) -> None:
    """Parse the flags and run `main`; bad input prints one sentence and exits with code 2."""
    # Nothing that was imported is garbage, and little of what a trace makes: looking for it there,
    # every 700 objects, took one second in eight of a start.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    try:
        app.run(lambda arguments: _guarded(main, arguments), flags_parser=_parse)
    except InputError as error:
        _end(f"error: {error}", 2)


def _guarded(main: Callable[[], None], arguments: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # libraries tell of every backend they don't find
    try:
        if arguments[1:]:
            raise InputError(f"{arguments[1]!r} is no flag: give flags as --name=value.")
        main()
    except InputError as error:
        _end(f"error: {error}", 2)
    except OSError as error:
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
    """Raise `Stopped` where the run was asked to stop."""
    if _asked.is_set():
        raise Stopped


def _parse(arguments: list[str]) -> list[str]:
    """Parse flags; what ml_collections says of a bad override becomes a sentence."""
    try:
        return flags.FLAGS(arguments)
    except OSError as error:
        raise InputError(UNREADABLE) from error
    except (SyntaxError, ImportError, NameError) as error:
        raise InputError(f"The file of --config is no working Python: {error!r}.") from error
    except flags.UnrecognizedFlagError as error:
        if error.flagname.startswith("config."):  # overrides are flags once there is a config
            raise InputError(MISSING) from error
        raise InputError(f"{error}; run with --help for the flags.") from error
    except flags.Error as error:
        first, *rest = str(error).strip().splitlines()
        reason = " ".join((first, *rest[-1:]))  # between them: the traceback of a config file
        raise InputError(f"{reason}; run with --help for the flags.") from error
    except Exception as error:  # of no fixed type: the config is a program
        raise InputError(_bad_override(arguments, error)) from error


def _bad_override(arguments: list[str], error: Exception) -> str:
    known = _keys(Config().to_dict(), "config")
    for argument in arguments:
        key = argument.lstrip("-").partition("=")[0]
        if key.startswith("config.") and key not in known:
            return unknown_key(key, known)
    reason = f"{type(error).__name__}: {str(error)[:SHOWN]}"
    return f"A flag or the config can't be understood ({reason}); check --config and its overrides."


def _keys(values: dict, where: str) -> list[str]:
    found = []
    for key, value in values.items():
        here = f"{where}.{key}"
        found += _keys(value, here) if isinstance(value, dict) else [here]
    return found
