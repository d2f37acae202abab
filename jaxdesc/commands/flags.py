"""Flags: each command takes those that it uses, refuses all others, and has help."""

import difflib
import inspect
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from types import ModuleType
from typing import Any

from absl import flags

from jaxdesc.config import Config
from jaxdesc.errors import InputError, printable, shown

HELP = "run with --help for the flags"
WIDTH = 100  # columns of help
FORMS = {
    "int": "=N",
    "float": "=X",
    "path": "=PATH",
    "comma separated list of strings": "=A,B,…",
}


class Flag:
    """A flag that commands may take: one of absl's `DEFINE_…`, and its arguments."""

    def __init__(
        self, define: Callable[..., Any], name: str, default: Any, *more: Any, **options: Any
    ):
        self.name = name
        self._default = default
        self.define = partial(define, name, default, *more, **options)

    @property
    def value(self) -> Any:
        """Value on the command line, or else the default."""
        return _given[self.name].value if self.name in _given else self._default

    @property
    def present(self) -> bool:
        """True if it is on the command line."""
        return self.name in _given and bool(_given[self.name].present)


class _PathParser(flags.ArgumentParser):
    """A path whose `~` no shell has expanded, as in --workdir=~/out."""

    def parse(self, argument: str) -> str:
        return os.path.expanduser(argument)

    def flag_type(self) -> str:
        return "path"


DEFINE_bool = partial(Flag, flags.DEFINE_bool)
DEFINE_enum = partial(Flag, flags.DEFINE_enum)
DEFINE_float = partial(Flag, flags.DEFINE_float)
DEFINE_integer = partial(Flag, flags.DEFINE_integer)
DEFINE_list = partial(Flag, flags.DEFINE_list)
DEFINE_multi_enum = partial(Flag, flags.DEFINE_multi_enum)
DEFINE_path = partial(Flag, partial(flags.DEFINE, _PathParser()))
DEFINE_string = partial(Flag, flags.DEFINE_string)

# The flags of this process's command, and its overrides of the config.
_given = flags.FlagValues()
_overrides: list[str] = []


def parse(command: str, known: Iterable[Flag], arguments: Sequence[str]) -> None:
    """Read a command's arguments; from here on `Flag.value` and `overrides` return them."""
    global _given, _overrides
    values = _registered(known)
    try:
        expanded = values.read_flags_from_files(list(arguments), force_gnu=False)
        plain, overrides = _split(expanded) if "config" in values else (expanded, [])
        _, *rest = values([command, *plain])
    except flags.UnrecognizedFlagError as error:
        near = difflib.get_close_matches(error.flagname, list(values), n=1)
        expected = f"expected one of {', '.join(f'--{name}' for name in values)}."
        hint = f"did you mean --{near[0]}?" if near else expected
        raise InputError(f"{command} has no flag --{printable(error.flagname)}: {hint}") from error
    except flags.Error as error:
        raise InputError(f"{reason(error)}; {HELP}.") from error
    if rest:
        raise InputError(f"{shown(rest[0])} is not a flag: give flags as --name=value.")
    for name in values:
        if values[name].present and values[name].value in ("", []):
            raise InputError(f"--{name} is empty: give it a value, or leave it out.")
    _given, _overrides = values, overrides


def overrides() -> Sequence[str]:
    """Arguments of the form --config.KEY=VALUE."""
    return _overrides


def only_with(needed: Flag, *flags: Flag) -> None:
    """Refuse flags that have no meaning without another one."""
    for flag in flags:
        if flag.present and not needed.value:
            raise InputError(
                f"--{flag.name} means nothing without --{needed.name}: add that, or leave "
                f"--{flag.name} out."
            )


def reason(error: flags.Error) -> str:
    """Absl's reason for refusing a value, in one line."""
    first, *rest = str(error).strip().splitlines()
    return " ".join((first, *rest[-1:]))


def _registered(known: Iterable[Flag]) -> flags.FlagValues:
    values = flags.FlagValues()
    for flag in known:
        flag.define(flag_values=values)
    return values


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split arguments into plain flags and overrides of the config."""
    plain, overrides, left = [], [], iter(arguments)
    for argument in left:
        if re.match(r"--?(no)?config\.", argument):
            overrides.append(argument)
            if "=" not in argument:
                overrides += [value for value in [next(left, None)] if value is not None]
        else:
            plain.append(argument)
    return plain, overrides


def help_text(command: ModuleType, program: str) -> str:
    """A command's docstring, its flags, and every option of the config if it takes one.

    Examples in the docstring say `program`, which it was started as, in place of `jaxdesc NAME`.
    """
    name = command.__name__.rpartition(".")[2]
    values = _registered(command.FLAGS)
    parts = [
        (command.__doc__ or "").strip().replace(f"    jaxdesc {name} ", f"    {program} "),
        "Flags:\n" + "\n".join(_flag_help(values[flag.name]) for flag in command.FLAGS),
    ]
    if "config" in values:
        lines = [_entry(f"{path} = {default!r}", text) for path, default, text in options(Config)]
        parts.append("Options of the config, set with --config.KEY=VALUE:\n" + "\n".join(lines))
    return "\n\n".join(parts)


def options(kind: Any, where: str = "") -> list[tuple[str, Any, str]]:
    """Path, default and meaning of every option of a config's dataclass, nested ones included."""
    # The meanings are the entries below "Attributes:" in its docstring.
    _, _, section = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    meanings, found = {name: " ".join(meaning.split()) for name, meaning in entries}, []
    for field in fields(kind):
        default, path = getattr(kind(), field.name), f"{where}{field.name}"
        if is_dataclass(default):
            found += options(type(default), f"{path}.")
        else:
            found.append((path, default, meanings[field.name]))
    return found


def _flag_help(flag: flags.Flag) -> str:
    values = getattr(flag.parser, "enum_values", None)
    form = f"={'|'.join(values)}" if values else FORMS.get(flag.flag_type(), "=TEXT")
    head = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}{form}"
    # absl puts an enum's values before its help, and how to give several after it.
    meaning = re.sub(r"^<[^>]*>: |;\s+repeat this option.*", "", flag.help or "", flags=re.DOTALL)
    default = ",".join(flag.default) if isinstance(flag.default, list) else flag.default
    return _entry(head, f"{meaning} Default: {default}." if default else meaning)


def _entry(head: str, meaning: str) -> str:
    indent, text = " " * 8, " ".join(meaning.split())
    wrapped = textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent)
    return f"  {head}\n{wrapped}"
