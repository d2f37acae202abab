"""The command line: `jaxdesc COMMAND --flag=value`, or `python -m launch.COMMAND` in a checkout.

A new command takes a module in `jaxdesc/commands` and its name in COMMANDS. Nothing large is
imported before a command is known.
"""

import ast
import difflib
import errno
import gc
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from jaxdesc.errors import SHOWN, InputError, Stopped, printable

COMMANDS = (
    "describe",
    "sweep",
    "tables",
    "compare",
    "judge",
    "report",
    "explain",
    "convert",
    "plan",
    "benchmark",
    "device_report",
    "evidence",
    "train_scenes",
)
HELP = {"--help", "-help", "-h", "help"}
# Exit codes, as a shell gives them for a process that a signal has ended.
TERMINATED, INTERRUPTED = 128 + signal.SIGTERM, 128 + signal.SIGINT

_RESUME = "what was finished is kept, and the same command goes on from there."
_stop_asked = threading.Event()


def main(arguments: Sequence[str] | None = None, program: str = "jaxdesc ") -> None:
    """Run a command, or list all of them; bad input prints one sentence and exits with code 2.

    `arguments` are the command and its flags, by default those of this process; `program` is how
    it was started, for its help. Ends in SystemExit unless it lists commands or shows help.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # its encoding may lack a concept's letters, or κ
            stream.reconfigure(errors="backslashreplace")
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name == "help" and rest:
        name, rest = rest[0], ["--help"]
    if name in HELP:
        _show(_listing())
    elif name == "--version":
        _show(f"jaxdesc {version('jaxdesc')}")
    elif name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(COMMANDS)}."
        _end(f"error: Unknown command {printable(repr(name))}: {hint}")
    else:
        # transformers would advise installing PyTorch, which is not needed here.
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
        importlib.import_module("jaxdesc.scenes")  # registers the embedded world
        command, program = importlib.import_module(f"jaxdesc.commands.{name}"), f"{program}{name}"
        from jaxdesc.commands import flags

        if HELP & set(rest):
            _show(flags.help_text(command, program))
            return
        # Imported objects are never garbage, and few objects of a trace are. Python's collector,
        # which looks at them after every 700 new objects, took an eighth of a start.
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        from absl import app

        try:
            flags.parse(program, command.FLAGS, rest)
        except InputError as error:
            _end(f"error: {error}")
        # absl prepares its logging, and the flags of libraries, which keep their defaults.
        app.run(lambda _: _run(command.main), [program])


def launch(name: str) -> None:
    """Run a command as `python -m launch.NAME`."""
    main([name, *sys.argv[1:]], "python -m launch.")


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM, a preemption's, end the run after the shard in flight; a second one at once."""

    def ask(_number: int, _frame: Any) -> None:
        _stop_asked.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        print("stopping after the shard in flight", file=sys.stderr)

    _stop_asked.clear()
    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def stop_if_asked() -> None:
    """Raise `Stopped` if the run was asked to stop."""
    if _stop_asked.is_set():
        raise Stopped


def _run(command: Callable[[], None]) -> None:
    from absl import logging

    logging.set_verbosity(logging.WARNING)  # libraries report every backend that they don't find
    try:
        command()
    except InputError as error:
        _end(f"error: {error}")
    except OSError as error:
        if error.errno == errno.ENOSPC and error.filename is None:  # mostly that of stdout
            _end(f"error: Nothing can be written ({error.strerror}): {_RESUME}")
        if error.filename is None:
            raise
        _end(
            f"error: {error.filename!r} can't be read or written ({error.strerror}): give another "
            "place, or make this one usable; what is computed already is kept."
        )
    except Stopped:
        _end(f"stopped: {_RESUME}", TERMINATED)
    except KeyboardInterrupt:
        _end(f"interrupted: {_RESUME}", INTERRUPTED)
    except Exception as error:
        if not (sentence := _device_fault(error)):
            raise
        _end(f"error: {sentence}")


def _device_fault(error: Exception) -> str:
    """A sentence about a device that can't be started, or whose memory is full; else empty."""
    import jax

    try:
        jax.devices()
    except Exception as cause:  # a RuntimeError, or an AssertionError without a word
        platforms = os.environ.get("JAX_PLATFORMS")
        what = f"for JAX_PLATFORMS={platforms}" if platforms else "at all"
        reason = str(cause).partition(" (set JAX_PLATFORMS")[0] or "none was found"
        return (
            f"JAX has no device {what} ({reason[:SHOWN]}): check its driver and JAX's plugin for "
            "it, or set JAX_PLATFORMS=cpu."
        )
    if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error):
        return (
            f"The device's memory is full ({str(error)[:SHOWN]}): lower config.images.batch, "
            "config.clip.batch or config.score.block; what was finished is kept."
        )
    return ""


def _end(sentence: str, code: int = 2) -> NoReturn:
    print(" ".join(sentence.split()), file=sys.stderr)
    sys.exit(code)


def _show(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the reader stopped early, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _listing() -> str:
    """Every command with the first line of its docstring, without importing it."""
    lines = []
    for name in COMMANDS:
        source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
        first_line = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
        lines.append(f"  {name:{max(map(len, COMMANDS))}}  {first_line}")
    usage = "jaxdesc COMMAND --flag=value ..."
    about = "Names the concept that each neuron of a vision network responds to."
    help_on_one = "jaxdesc COMMAND --help shows the flags and options of a command."
    return "\n".join([usage, "", about, "", *lines, "", help_on_one])
