"""JSON files of a checkpoint: how they are read, and which values its settings may have."""

import json
import math
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from jaxdesc.errors import InputError, shown

Config = TypeVar("Config")

LARGEST_JSON = 2**26  # bytes; a tokenizer's are a few million
LARGEST = 2**31 - 1  # of a size or an id
MOST_LAYERS = 128  # of a tower or a stage; CLIP's largest has 48


def read_json(file: Path) -> Any:
    """Parse a JSON file; `OSError` or `ValueError` if it is unreadable, not JSON or too large."""
    with file.open("rb") as opened:
        content = opened.read(LARGEST_JSON + 1)
    if len(content) > LARGEST_JSON:
        raise ValueError(f"more than {LARGEST_JSON:,} bytes")
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("brackets within brackets, too deep") from error


def read_object(file: Path, what: str) -> dict[str, Any]:
    """Read a JSON object; `InputError`, which calls the file `what`, if it does not hold one."""
    try:
        entries = read_json(file)
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        fault = "does not exist" if missing else f"can't be read as JSON ({error})"
        raise InputError(
            f"{file} {fault}; expected {what}; download the checkpoint again, or correct its path."
        ) from error
    if not isinstance(entries, dict):
        raise InputError(
            f"{file} holds a JSON {type(entries).__name__}, expected an object of settings; "
            "download the checkpoint again."
        )
    return entries


def read_config(folder: str | PathLike[str]) -> dict[str, Any]:
    """Read the entries of a folder's `config.json`; raises as `read_object`."""
    return read_object(Path(folder) / "config.json", "the config of a checkpoint")


def parsed(
    read: Callable[[dict[str, Any]], Config], entries: dict[str, Any], source: str | PathLike[str]
) -> Config:
    """Read a network's config from its entries; an error names the file or folder."""
    try:
        return read(entries)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


class Setting(NamedTuple):
    """Values that an entry may have, in words and as a test."""

    expected: str
    fits: Callable[[Any], bool]


ANY = Setting("anything", lambda _: True)
UNKNOWN = Setting("no such entry", lambda _: False)
POSITIVE = Setting("a positive integer", lambda value: type(value) is int and 0 < value <= LARGEST)
BOOLEAN = Setting("true or false", lambda value: isinstance(value, bool))
INTEGER = Setting("an integer", lambda value: type(value) is int and abs(value) <= LARGEST)
NUMBER = Setting(
    "a number that is finite", lambda value: type(value) in (int, float) and math.isfinite(value)
)
# A network is built before its tensors are found missing; with a billion layers, it never would be.
DEPTH = Setting(
    f"an integer from 1 to {MOST_LAYERS}",
    lambda value: type(value) is int and 0 < value <= MOST_LAYERS,
)


def only(*values: Any) -> Setting:
    """Return the setting of a field that changes the network, with the values implemented."""
    return Setting(f"only {values[0]!r}", lambda value: value in values)


def one_of(values: Mapping[str, Any]) -> Setting:
    """Return the setting of a field that names an entry of a table."""
    return Setting(" or ".join(values), lambda value: isinstance(value, str) and value in values)


# Entries of Hugging Face's configs that any network may have, at the values implemented.
FROM_HUGGING_FACE = {
    "num_labels": POSITIVE,
    "num_channels": only(3),
    "id2label": Setting("an object", lambda value: value is None or isinstance(value, dict)),
    "quantization_config": only(None),
    "auto_map": only(None),  # code in the checkpoint
}
# Likewise of timm's.
FROM_TIMM = {
    "in_chans": only(3),
    "model_type": only("timm_wrapper"),
    "quantization_config": only(None),
}


def label_count(entries: Mapping[str, Any]) -> int:
    """Return how many classes a Hugging Face config has; two by default."""
    return len(entries.get("id2label") or {}) or entries.get("num_labels", 2)


def misfits(
    settings: Mapping[str, Setting], entries: Mapping[str, Any], where: str = ""
) -> list[str]:
    """List the entries that are not as expected, each with its value; absent ones are not."""
    return [
        f"{where}{key} = {shown(entries[key])[:60]} (expected {setting.expected})"
        for key, setting in settings.items()
        if key in entries and not setting.fits(entries[key])
    ]


def pretrained_cfg(entries: dict[str, Any]) -> dict[str, Any]:
    """Return timm's entries about images and labels; its older configs hold them at the top."""
    settings = entries.get("pretrained_cfg", entries) or {}
    if not isinstance(settings, dict):
        raise InputError(
            f"pretrained_cfg = {shown(settings)[:60]} in its config.json: expected an object of "
            "settings; correct it."
        )
    return settings
