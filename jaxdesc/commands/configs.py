"""Configs: those that ship with the package, by name, and Python files of the user's."""

import os
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxdesc.commands.flags import HELP, reason
from jaxdesc.config import Config, unknown_key
from jaxdesc.errors import InputError, shown

PACKAGE = Path(__file__).parents[1]


def shipped() -> dict[str, Path]:
    """Files of the configs that ship with the package, by name."""
    inside = PACKAGE / "configs"  # of a wheel; a checkout has them next to the package
    folder = inside if inside.is_dir() else PACKAGE.with_name("configs")
    files = sorted(folder.glob("*.py"))
    return {file.stem: file for file in files if not file.stem.startswith("_")}


def load(spec: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Load a config; another config may begin with it.

    Args:
        spec: the name of one that ships with the package, such as "photos", or the path of a Python
            file whose `get_config` returns a ConfigDict. After a colon comes an argument of
            `get_config`, as in "scenes:wide".
        overrides: flags such as "--config.score.kappa=4".

    Raises:
        InputError: the config is unknown, its Python fails, or an override does not fit.
    """
    name, colon, variant = spec.partition(":")
    path = _find(name)
    try:
        config = runpy.run_path(str(path))["get_config"](*([variant] if colon else []))
    except InputError:
        raise
    except Exception as error:  # of no fixed type: the config is a program
        raise InputError(
            f"The config {shown(spec)} can't be loaded ({shown(error)}): expected Python with a "
            "function get_config that returns a ConfigDict."
        ) from error
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"get_config of {shown(spec)} gave {shown(config)}: expected a ConfigDict."
        )
    config.lock()
    return _overridden(config, overrides) if overrides else config


def choices() -> str:
    """List what `spec` may be, for messages."""
    return f"{', '.join(shipped())}, or the path of a Python file"


def _find(name: str) -> Path:
    known, path = shipped(), Path(os.path.expanduser(name))
    if name in known:
        return known[name]
    if path.is_file():
        return path
    if path.parent == Path("configs") and path.suffix == ".py" and path.stem in known:
        return known[path.stem]  # as a checkout has them
    raise InputError(f"The config {shown(name)} is unknown: expected one of {choices()}.")


def _overridden(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    values, arguments = flags.FlagValues(), ["", *overrides]
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=arguments)
        values(arguments)
    except flags.Error as error:
        raise InputError(f"{reason(error)}; {HELP}.") from error
    except Exception as error:  # ml_collections raises several types
        raise InputError(_bad_override(overrides, error)) from error
    return config


def _bad_override(overrides: Sequence[str], error: Exception) -> str:
    known = _keys(Config().to_dict(), "config")
    for argument in overrides:
        key = argument.lstrip("-").partition("=")[0]
        if key.startswith("config.") and key not in known:
            return unknown_key(key, known)
    return f"An override of the config can't be understood ({shown(error)}); {HELP}."


def _keys(values: dict[str, Any], where: str) -> list[str]:
    found = []
    for key, value in values.items():
        here = f"{where}.{key}"
        found += _keys(value, here) if isinstance(value, dict) else [here]
    return found
