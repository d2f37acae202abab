"""Image sources: a folder of photos, or the embedded world's scenes, behind one interface."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image

from jaxdesc.errors import InputError
from jaxdesc.scenes.world import CLASSES, SPLITS, render

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
FORMS = "folder:PATH or scenes:split=probe,seed=0,count=1600,correlation=0"

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Example:
    """One probe image.

    Attributes:
        image: decoded, RGB.
        label: class index, where the source knows it.
        box: the object's (left, top, right, bottom) in pixels, where the source knows it.
    """

    image: Image.Image
    label: int | None = None
    box: Box | None = None


@runtime_checkable
class Source(Protocol):
    """A sequence of probe images; random access, safe to read from several threads."""

    spec: str
    has_boxes: bool
    has_labels: bool

    def __len__(self) -> int:
        """Count the images."""
        ...

    def __getitem__(self, index: int) -> Example:
        """Decode image `index`; raises `InputError` naming a file that can't be decoded."""
        ...

    def identify(self, index: int) -> str:
        """Name image `index` for a reader, without decoding it."""
        ...

    def fingerprint(self) -> str:
        """Hash everything the images' content depends on."""
        ...


class Folder:
    """Every JPEG, PNG and WebP below a folder, by relative path.

    Raises:
        InputError: a folder that is missing or holds no image.
    """

    has_boxes = False
    has_labels = False

    def __init__(self, path: str):
        root = Path(path).expanduser()
        if not root.is_dir():
            raise InputError(
                f"The image folder {path!r} does not exist: give a folder of "
                "JPEG, PNG or WebP files as folder:PATH."
            )
        self.spec = f"folder:{path}"
        self.root = root
        self.files: Sequence[Path] = sorted(
            p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()
        )
        if not self.files:
            raise InputError(
                f"The image folder {path!r} holds no image: expected at least one file ending in "
                f"{', '.join(SUFFIXES)}."
            )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Example:
        """Decode one photo to RGB."""
        path = self.files[index]
        try:
            with Image.open(path) as image:
                return Example(_rgb(image))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(
                f"The image {str(path)!r} can't be decoded ({error}): expected a whole JPEG, PNG "
                "or WebP; repair or remove it and start again."
            ) from error

    def identify(self, index: int) -> str:
        """Give the path below the folder; bytes that are no UTF-8 are shown escaped."""
        path = os.fsencode(self.files[index].relative_to(self.root).as_posix())
        return path.decode("utf-8", "backslashreplace")

    def fingerprint(self) -> str:
        """Hash every file's path, size and times of change, of its content and of its entry."""
        digest = hashlib.sha256()
        for index, path in enumerate(self.files):
            stat = path.stat()
            facts = (self.identify(index), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            digest.update(repr(facts).encode())
        return digest.hexdigest()


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
                f"The image source 'scenes:{options}' has a bad number: {error}."
            ) from None
        in_range = self.seed >= 0 and self.count >= 1 and 0 <= self.correlation <= 1
        if given or self.split not in SPLITS or not in_range:
            raise InputError(
                f"The image source 'scenes:{options}' can't be read: expected {FORMS}, with split "
                f"one of {', '.join(SPLITS)}, seed at least 0, count at least 1 and correlation in "
                "[0, 1]."
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
        raise InputError(f"The image source 'scenes:{text}' gives an option twice: give it once.")
    return options


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # PIL would clip it to its darkest 256 of 65,536 greys
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def open_source(spec: str) -> Source:
    """Open an image source by its specification.

    Args:
        spec: `folder:PATH` or `scenes:` with comma-separated options.

    Returns:
        The source.

    Raises:
        InputError: for any other form, or what `Folder` and `Scenes` refuse.
    """
    kind, _, rest = spec.partition(":")
    if kind == "folder" and rest:
        return Folder(rest)
    if kind == "scenes":
        return Scenes(rest)
    raise InputError(f"Unknown image source {spec!r}: expected {FORMS}.")
