"""SOURCES: where probe images come from."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from jaxdesc.errors import InputError, shown
from jaxdesc.images.example import Source
from jaxdesc.images.folder import Folder, open_folder
from jaxdesc.images.hugging_face import HuggingFace
from jaxdesc.images.labels import Matched
from jaxdesc.images.tfds import Tfds

# Opens `kind:rest`, by kind: a function from the rest to a source.
SOURCES: dict[str, Callable[[str], Source]] = {
    "folder": open_folder,
    "tfds": Tfds,
    "hf": HuggingFace,
}


def open_source(images: str | os.PathLike[str] | Source) -> Source:
    """Open an image source, or return it as it is.

    It is `kind:rest` with a kind of `SOURCES`, such as `folder:PATH`, or the path of a folder.
    Raises `InputError` for anything else, and for what the source itself refuses.
    """
    kinds = f"KIND:REST, KIND one of {', '.join(SOURCES)}, or the path of a folder"
    if isinstance(images, str):
        kind, _, rest = images.partition(":")
        if kind in SOURCES:
            return SOURCES[kind](rest)
        if not os.path.isdir(os.path.expanduser(images)):
            raise InputError(f"Unknown image source {shown(images)}: expected {kinds}.")
        images = Path(images)
    if isinstance(images, os.PathLike):
        return Folder(os.fsdecode(images))
    if isinstance(images, type) or not isinstance(images, Source):
        wanted = [*Source.__annotations__, "__len__", "__getitem__", "identify", "fingerprint"]
        lacking = ", ".join(name for name in wanted if not hasattr(images, name))
        raise InputError(
            f"images are {shown(images)}: expected {kinds}, or an object with all of a "
            f"jaxdesc.Source (this {type(images).__name__} lacks "
            f"{lacking or 'being an instance'})."
        )
    if not isinstance(images, Matched):
        _check_texts(images)
    return images


def _check_texts(source: Source) -> None:
    """Refuse a source whose images or content have no names: artifacts go by these."""
    texts: dict[str, Callable[[], str]] = {"fingerprint()": source.fingerprint}
    if len(source):
        texts["identify(0)"] = partial(source.identify, 0)
    for call, text in texts.items():
        try:
            value: Any = text()
        except Exception as error:  # of any type: the source may be a user's
            raise InputError(
                f"{call} of {shown(source.spec)} fails ({shown(error)}): expected a text."
            ) from error
        if not isinstance(value, str) or not value:
            raise InputError(f"{call} of {shown(source.spec)} is {shown(value)}: expected a text.")
