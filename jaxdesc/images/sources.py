"""Image sources: a folder of photos, a TFDS set, or the embedded world's scenes."""

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from PIL import Image

from jaxdesc.errors import InputError, shown
from jaxdesc.images.example import Example, Source
from jaxdesc.images.folder import Folder
from jaxdesc.images.labels import Matched
from jaxdesc.images.tfds import FORM, Tfds
from jaxdesc.scenes.world import CLASSES, SPLITS, render

MOST = 10**9  # scenes of a source; their numbers fit into 32 bits
SCENES = "scenes:split=probe,seed=0,count=1600,correlation=0"
FORMS = f"folder:PATH, {FORM} or {SCENES}"
__all__ = ["Example", "Folder", "Scenes", "Source", "Tfds", "open_source"]


class Scenes:
    """Rendered scenes of the embedded world, with labels and true boxes.

    Raises:
        InputError: an option that is not split, seed, count or correlation, one given twice, or a
            bad value.
    """

    has_boxes = True
    has_labels = True

    def __init__(self, options: str):
        given = _options(options)
        try:
            self.split = given.pop("split", "probe")
            self.seed = int(given.pop("seed", "0"))
            self.count = int(given.pop("count", "1600"))
            self.correlation = float(given.pop("correlation", "0"))
        except ValueError as error:
            raise InputError(
                f"The image source {shown(f'scenes:{options}')} has a bad number: {error}; "
                f"expected {SCENES}."
            ) from None
        whole = 0 <= self.seed < 2**32 and 1 <= self.count <= MOST
        if given or self.split not in SPLITS or not (whole and 0 <= self.correlation <= 1):
            raise InputError(
                f"The image source {shown(f'scenes:{options}')} can't be read: expected {SCENES}, "
                f"with split one of {', '.join(SPLITS)}, seed at least 0 and below 2**32, count at "
                f"least 1 and at most {MOST} and correlation in [0, 1]."
            )
        self.spec = (
            f"scenes:split={self.split},seed={self.seed},count={self.count},"
            f"correlation={str(self.correlation).removesuffix('.0')}"
        )

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        """Render one scene; every view of it is cut from the same rendering."""
        scene = _rendered(self.split, self.seed, index, self.correlation)
        return Example(Image.fromarray(scene.pixels), scene.kind, scene.box)

    def identify(self, index: int) -> str:
        """Name the scene by its split, seed, index and class."""
        name = list(CLASSES)[index % len(CLASSES)]
        return f"{self.split}-{self.seed}/{index:05d}_{name}.png"

    def fingerprint(self) -> str:
        """Hash the options; the renderer's code is part of every fingerprint anyway."""
        return hashlib.sha256(self.spec.encode()).hexdigest()


# 37 kB a scene: at most 600 MB, and a probe set of usual size is rendered once for all its views.
_rendered = lru_cache(maxsize=16_384)(render)


def _options(text: str) -> dict[str, str]:
    pairs = [item.partition("=") for item in text.split(",") if item]
    options = {key.strip(): value.strip() for key, _, value in pairs}
    if len(options) < len(pairs):
        raise InputError(
            f"The image source {shown(f'scenes:{text}')} gives an option twice: give it once."
        )
    return options


def open_source(images: str | os.PathLike[str] | Source) -> Source:
    """Open an image source.

    Args:
        images: `folder:PATH`, `tfds:NAME[/CONFIG][:VERSION]/SPLIT`, or `scenes:` with
            comma-separated options; the path of a folder; or a source, which is returned as it is.

    Returns:
        The source.

    Raises:
        InputError: for any other form, or what `Folder`, `Tfds` and `Scenes` refuse.
    """
    if isinstance(images, Source) and not isinstance(images, type):
        if not isinstance(images, Folder | Tfds | Scenes | Matched):
            _check_texts(images)
        return images
    if isinstance(images, os.PathLike):
        return Folder(os.fsdecode(images))
    if not isinstance(images, str):
        raise InputError(
            f"images are {shown(images)}: expected the path of a folder, {FORMS}, or an object "
            f"with all of a jaxdesc.Source (this {type(images).__name__} lacks "
            f"{_lacking(images) or 'being an instance'})."
        )
    kind, _, rest = images.partition(":")
    if kind == "folder" and rest:
        return Folder(rest)
    if kind == "tfds" and rest:
        return Tfds(rest)
    if kind == "scenes":
        return Scenes(rest)
    if os.path.isdir(os.path.expanduser(images)):
        return Folder(images)
    raise InputError(f"Unknown image source {shown(images)}: expected {FORMS}.")


def _check_texts(source: Source) -> None:
    """Refuse a source whose images or content have no names: what is kept goes by these."""
    texts: dict[str, Callable[[], str]] = {"fingerprint()": source.fingerprint}
    if len(source):
        texts["identify(0)"] = partial(source.identify, 0)
    for call, text in texts.items():
        try:
            found: Any = text()
        except Exception as error:  # of no fixed type: the source is anybody's
            raise InputError(
                f"{call} of {shown(source.spec)} fails ({shown(error)}): expected a text."
            ) from error
        if not isinstance(found, str) or not found:
            raise InputError(f"{call} of {shown(source.spec)} is {shown(found)}: expected a text.")


def _lacking(images: Any) -> str:
    wanted = [*Source.__annotations__, "__len__", "__getitem__", "identify", "fingerprint"]
    return ", ".join(name for name in wanted if not hasattr(images, name))
