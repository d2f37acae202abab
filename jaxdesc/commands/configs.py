"""Configs: those that ship with the package, by name, and the user's Python files."""

import os
import runpy
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxdesc.commands.flags import HELP, options, reason
from jaxdesc.config import AUTO, Config, options_with, unknown_key
from jaxdesc.errors import InputError, shown

PACKAGE = Path(__file__).parents[1]


def shipped() -> dict[str, Path]:
    """Files of the configs that ship with the package, by name."""
    inside = PACKAGE / "configs"  # in a wheel; a checkout has them next to the package
    folder = inside if inside.is_dir() else PACKAGE.with_name("configs")
    return {file.stem: file for file in sorted(folder.glob("[!_]*.py"))}


def choices() -> str:
    """List of the values that `load` takes, for messages."""
    return f"{', '.join(shipped())}, or the path of a Python file"


def load(spec: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Load a config; another config may begin with it.

    Args:
        spec: the name of one that ships with the package, such as "photos", or the path of a Python
            file whose `get_config` returns a ConfigDict. After a colon comes an argument of
            `get_config`, as in "scenes:wide".
        overrides: flags such as "--config.score.kappa=4".
    """
    name, colon, variant = spec.partition(":")
    known, path = shipped(), Path(os.path.expanduser(name))
    if name in known:
        path = known[name]
    elif not path.is_file():
        if path.parent != Path("configs") or path.suffix != ".py" or path.stem not in known:
            raise InputError(f"The config {shown(name)} is unknown: expected one of {choices()}.")
        path = known[path.stem]  # the path that it has in a checkout
    try:
        config = runpy.run_path(str(path))["get_config"](*([variant] if colon else []))
    except InputError:
        raise
    except Exception as error:  # any type: the config is a program
        raise InputError(
            f"The config {shown(spec)} can't be loaded ({shown(error)}): expected Python with a "
            "function get_config that returns a ConfigDict."
        ) from error
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"get_config of {shown(spec)} gave {shown(config)}: expected a ConfigDict."
        )
    config.lock()
    if overrides:
        _override(config, overrides)
    return config


def _listed(override: str) -> str:
    """Turn names between commas into the tuple that ml_collections reads."""
    flag, _, names = override.partition("=")
    listed = flag.lstrip("-").removeprefix("config.") in options_with("listed")
    return f"{flag}={tuple(names.split(','))!r}" if listed and names[:1] not in "([" else override


def _override(config: ConfigDict, overrides: Sequence[str]) -> None:
    # ml_collections keeps the type of an option; the config takes 0 for auto.
    automatic = {f"--config.{key}=auto": f"--config.{key}={AUTO}" for key in options_with("auto")}
    overrides = [_listed(automatic.get(override, override)) for override in overrides]
    values, arguments = flags.FlagValues(), ["", *overrides]
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=arguments)
        values(arguments)
    except flags.Error as error:
        raise InputError(f"{reason(error)}; {HELP}.") from error
    except Exception as error:  # ml_collections raises several types
        known = [f"config.{path}" for path, *_ in options(Config)]
        for argument in overrides:
            key = argument.lstrip("-").partition("=")[0]
            if key.startswith("config.") and key not in known:
                raise InputError(unknown_key(key, known)) from error
        raise InputError(
            f"An override of the config can't be understood ({shown(error)}); {HELP}."
        ) from error
