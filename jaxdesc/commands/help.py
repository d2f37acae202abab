"""Help of a command: its docstring, its flags, and every option of the config."""

import inspect
import re
import textwrap
from dataclasses import fields, is_dataclass
from types import ModuleType
from typing import Any

from absl import flags as absl_flags

from jaxdesc.commands import flags
from jaxdesc.config import Config

WIDTH = 100
FORMS = {
    "int": "=N",
    "float": "=X",
    "path": "=PATH",
    "comma separated list of strings": "=A,B,…",
}


def text(command: ModuleType, program: str) -> str:
    """Everything about a command.

    Args:
        command: its module, whose docstring names it `jaxdesc NAME` in examples.
        program: how it was started: the examples say so.
    """
    name = command.__name__.rpartition(".")[2]
    values = flags.register(command.FLAGS)
    parts = [
        (command.__doc__ or "").strip().replace(f"    jaxdesc {name} ", f"    {program} "),
        "Flags:\n" + "\n".join(_flag(values[flag.name]) for flag in command.FLAGS),
    ]
    if "config" in values:
        parts.append("Options of the config, set with --config.KEY=VALUE:\n" + _options())
    return "\n\n".join(parts)


def _flag(flag: absl_flags.Flag) -> str:
    values = getattr(flag.parser, "enum_values", None)
    form = f"={'|'.join(values)}" if values else FORMS.get(flag.flag_type(), "=TEXT")
    head = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}{form}"
    # absl puts an enum's values before its help, and how to give several after it.
    meaning = re.sub(r"^<[^>]*>: |;\s+repeat this option.*", "", flag.help or "", flags=re.DOTALL)
    default = ",".join(flag.default) if isinstance(flag.default, list) else flag.default
    return _entry(head, f"{meaning} Default: {default}." if default else meaning)


def _options() -> str:
    return "\n".join(
        _entry(f"{path} = {default!r}", meaning) for path, default, meaning in options(Config)
    )


def options(kind: Any, where: str = "") -> list[tuple[str, Any, str]]:
    """Path, default and meaning of every option of a config's dataclass and those within."""
    meanings, found = attributes(kind), []
    for field in fields(kind):
        default = getattr(kind(), field.name)
        path = f"{where}{field.name}"
        if is_dataclass(default):
            found += options(type(default), f"{path}.")
        else:
            found.append((path, default, meanings[field.name]))
    return found


def attributes(kind: type) -> dict[str, str]:
    """Parse the "Attributes:" of a docstring: the meaning of each name."""
    _, _, section = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return {name: " ".join(meaning.split()) for name, meaning in entries}


def _entry(head: str, meaning: str) -> str:
    indent = " " * 8
    text = " ".join(meaning.split())
    return f"  {head}\n" + textwrap.fill(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent
    )
