"""Flags: a command takes those that it uses, and refuses all others in one sentence."""

import difflib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from absl import flags

from jaxdesc.errors import InputError, printable, shown

HELP = "run with --help for the flags"


class Flag:
    """A flag that commands may take.

    Args:
        define: one of absl's `DEFINE_…`.
        name: of the flag.
        default: its value if it isn't given.
        more, options: further arguments of `define`.
    """

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
    """A path, whose `~` no shell has expanded, as in --workdir=~/out."""

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

# What the command of this process was given: its flags, and its overrides of the config.
_given = flags.FlagValues()
_overrides: list[str] = []


def register(known: Iterable[Flag]) -> flags.FlagValues:
    """Put flags together, as absl parses them."""
    values = flags.FlagValues()
    for flag in known:
        flag.define(flag_values=values)
    return values


def parse(command: str, known: Iterable[Flag], arguments: Sequence[str]) -> None:
    """Read what a command is given: from here on `Flag.value` is that.

    Raises:
        InputError: a flag that the command does not take, a value that can't be read, or an empty
            one.
    """
    global _given, _overrides
    values = register(known)
    try:
        expanded = values.read_flags_from_files(list(arguments), force_gnu=False)
        own, overrides = _parted(expanded) if "config" in values else (expanded, [])
        _, *rest = values([command, *own])
    except flags.UnrecognizedFlagError as error:
        raise InputError(_unknown(command, error.flagname, list(values))) from error
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
    """Refuse flags that mean nothing without another one.

    Raises:
        InputError: one of them is given without it.
    """
    for flag in flags:
        if flag.present and not needed.value:
            raise InputError(
                f"--{flag.name} means nothing without --{needed.name}: add that, or leave "
                f"--{flag.name} out."
            )


def reason(error: flags.Error) -> str:
    """Reason why absl refuses a value, in one line."""
    first, *rest = str(error).strip().splitlines()
    return " ".join((first, *rest[-1:]))


def _parted(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split arguments into a command's own and its overrides of the config."""
    own, overrides, left = [], [], iter(arguments)
    for argument in left:
        if re.match(r"--?(no)?config\.", argument):
            overrides.append(argument)
            if "=" not in argument:
                overrides += [value for value in [next(left, None)] if value is not None]
        else:
            own.append(argument)
    return own, overrides


def _unknown(command: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    expected = f"expected one of {', '.join(f'--{own}' for own in known)}."
    hint = f"did you mean --{near[0]}?" if near else expected
    return f"{command} has no flag --{printable(name)}: {hint}"
