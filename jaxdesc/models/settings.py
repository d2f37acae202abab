"""What a network's `config.json` may say: each entry with what is expected of it."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxdesc.errors import InputError, shown


class Setting(NamedTuple):
    """What is expected of an entry, in words and as a test."""

    expected: str
    fits: Callable[[Any], bool]


ANY = Setting("anything", lambda _: True)
UNKNOWN = Setting("no such entry", lambda _: False)
LARGEST = 2**31 - 1  # of a size or an id
MOST_LAYERS = 128  # of a tower or a stage; CLIP's largest has 48

POSITIVE = Setting("a positive integer", lambda value: type(value) is int and 0 < value <= LARGEST)
INTEGER = Setting("an integer", lambda value: type(value) is int and abs(value) <= LARGEST)
NUMBER = Setting(
    "a number that is finite", lambda value: type(value) in (int, float) and math.isfinite(value)
)
# Networks are built before it is seen that their tensors are missing: a billion layers never would.
DEPTH = Setting(
    f"an integer from 1 to {MOST_LAYERS}",
    lambda value: type(value) is int and 0 < value <= MOST_LAYERS,
)


def only(*values: Any) -> Setting:
    """A field that changes the network, and of which not every value is implemented."""
    return Setting(f"only {values[0]!r}", lambda found: found in values)


def one_of(values: Mapping[str, Any]) -> Setting:
    """A field that names an entry of a table."""
    return Setting(" or ".join(values), lambda found: isinstance(found, str) and found in values)


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
    """Return timm's entries about images and labels; its older configs hold them at the top.

    Raises:
        InputError: `pretrained_cfg` is not an object.
    """
    found = entries.get("pretrained_cfg", entries) or {}
    if not isinstance(found, dict):
        raise InputError(
            f"pretrained_cfg = {shown(found)[:60]} in its config.json: expected an object of "
            "settings; correct it."
        )
    return found
