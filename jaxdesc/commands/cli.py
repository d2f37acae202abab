"""The command line: `jaxdesc COMMAND --flag=value`, or `python -m launch.COMMAND` in a checkout.

Adding a command takes a module of its name in `jaxdesc/commands` and its name here.
"""

import ast
import difflib
import importlib
import io
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from jaxdesc import commands
from jaxdesc.errors import printable

COMMANDS = (
    "describe",
    "sweep",
    "tables",
    "compare",
    "report",
    "explain",
    "convert",
    "benchmark",
    "evidence",
    "train_scenes",
)
HELP = {"--help", "-help", "-h", "help"}


def main(arguments: Sequence[str] | None = None, program: str = "jaxdesc ") -> None:
    """Run a command, or list all of them.

    Args:
        arguments: the command and its flags; those of this process if not given.
        program: how the process was started, which help repeats.

    Raises:
        SystemExit: always, unless the commands or their help are shown.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a concept or κ may not be in its encoding
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
        print(f"error: Unknown command {printable(repr(name))}: {hint}", file=sys.stderr)
        sys.exit(2)
    else:
        # transformers would advise to install PyTorch, which is not needed here.
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
        # Here, since they import JAX.
        from jaxdesc.commands import command, help

        module, program = importlib.import_module(f"jaxdesc.commands.{name}"), f"{program}{name}"
        if HELP & set(rest):
            _show(help.text(module, program))
        else:
            command.run(module, rest, program)


def launch(name: str) -> None:
    """Run a command as `python -m launch.NAME`."""
    main([name, *sys.argv[1:]], "python -m launch.")


def _show(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # its reader has enough, as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _listing() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {_first_line(name)}" for name in COMMANDS]
    return "\n".join(
        [
            "jaxdesc COMMAND --flag=value ...",
            "",
            "Names the concept that each neuron of a vision network responds to.",
            "",
            *lines,
            "",
            "jaxdesc COMMAND --help shows the flags and options of a command.",
        ]
    )


def _first_line(name: str) -> str:
    """First line of a command's docstring, without importing it."""
    source = Path(commands.__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
