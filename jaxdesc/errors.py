"""Exceptions for bad input, and values as their messages show them."""

import os
from typing import Any

SHOWN = 200  # characters of a value that a message repeats


class InputError(ValueError):
    """Input that can't be used; anything that reads input may raise it.

    The message is one sentence: what was found, where, what was expected and the remedy. A
    command prints it alone and exits with code 2; a notebook sees it as a `ValueError`. Characters
    that can't be printed, such as escape sequences in a file's name, are shown escaped.
    """

    def __init__(self, message: str):
        super().__init__(printable(message))


class UnusableImage(InputError):
    """A probe image that can't be decoded or resized: a run leaves it out, counts and lists it.

    `image` is its name, for the sentence; `reason` is the fault, for `skipped.csv`.
    """

    def __init__(self, image: str, reason: str):
        super().__init__(f"The image {image} {reason}: repair or remove it.")
        self.image, self.reason = image, printable(reason)

    def __reduce__(self) -> Any:
        return type(self), (self.image, self.reason)


def printable(text: str) -> str:
    """Escape characters that a terminal would obey or can't encode; line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def as_printed(text: str, stream: Any) -> str:
    """Escape characters of a text that a stream's encoding lacks."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def shown(value: Any) -> str:
    """Return a value as a message repeats it: cut if it is long, its type if it has no repr.

    Python refuses to write out whole numbers of more than 4,300 digits.
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"of type {type(value).__name__} and too large to be shown"
    text = " ".join(text.split("\n"))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def check_type(value: Any, kind: type, name: str, loader: str) -> None:
    """Refuse an argument of another type, before a missing attribute fails far from the call.

    `name` is the argument's, `loader` the public function that returns such a value.

    Raises:
        InputError: a value of another type.
    """
    if isinstance(value, str | os.PathLike) and loader.startswith("load_"):
        text = shown(os.fspath(value))
        raise InputError(f"{name} is the text {text}: load it with jaxdesc.{loader}({text}).")
    if not isinstance(value, kind):
        raise InputError(
            f"{name} is of type {type(value).__name__}: expected a {kind.__name__}, as "
            f"jaxdesc.{loader} returns it."
        )


def is_text(text: str) -> bool:
    """Return if UTF-8 can hold a text; a file's name may consist of other bytes."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


class Stopped(Exception):
    """A run was asked to stop, and has finished its current shard."""
