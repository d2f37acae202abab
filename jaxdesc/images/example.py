"""A probe image, what every source of images offers, and decoding."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxdesc.errors import SHOWN, InputError, UnusableImage, shown

Box = tuple[float, float, float, float]

# Formats that are decoded, regardless of a file's suffix. Pillow reads forty more, and runs
# Ghostscript on one of them.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
# Other formats by their first bytes and the offset of these: messages name them.
_MAGIC = {
    "AVIF": ((4, b"ftypavif"), (4, b"ftypavis")),
    "HEIC": ((4, b"ftyphei"), (4, b"ftyphev")),
    "HEIC or AVIF": ((4, b"ftypmif1"), (4, b"ftypmsf1")),
    "a raw photo": ((4, b"ftypcrx"), (0, b"FUJIFILMCCD-RAW")),
    "TIFF": ((0, b"II*\0"), (0, b"MM\0*"), (0, b"II+\0"), (0, b"MM\0+")),
    "JPEG XL": ((0, b"\xff\x0a"), (4, b"JXL \r\n")),
    "JPEG 2000": ((4, b"jP  \r\n"), (0, b"\xff\x4f\xff\x51")),
    "PDF": ((0, b"%PDF"),),
    "SVG": ((0, b"<svg"), (0, b"<?xml"), (0, b"<!--")),
    "HTML": ((0, b"<!doctype"), (0, b"<html")),
    "a zip archive": ((0, b"PK\x03\x04"),),
    "a Photoshop file": ((0, b"8BPS"),),
    "a video": ((4, b"ftyp"), (0, b"\x1aE\xdf\xa3"), (8, b"AVI "), (0, b"\0\0\1\xba")),
    "a Git LFS pointer": ((0, b"version https://git-lfs"),),
}
_NOT_PICTURES = ("HTML", "a zip archive", "a video", "a Git LFS pointer")
# Twice Pillow's own limit, above which it refuses a file before decoding it: 512 MiB of RGB.
MOST_PIXELS = 178_956_970


@dataclass(frozen=True)
class Example:
    """One probe image, with what its source knows about it.

    `categories` are names under which the source files it, one for each of its `namings`: a
    folder's name, a data set's label. `labels.matched` finds the class.
    """

    image: Image.Image  # decoded, RGB
    label: int | None = None  # index of its class among the target's
    box: Box | None = None  # the object's (left, top, right, bottom) in pixels
    categories: tuple[str | None, ...] = ()


@runtime_checkable
class Source(Protocol):
    """A sequence of probe images; random access, safe to read from several threads.

    More attributes are optional: `namings`, the names of the classes or folders that
    `Example.categories` refers to, one tuple per naming; `passed_over`, (name, reason) of each
    picture that the source does not count as an image; and `shows(concepts)`, if it knows what
    every image shows: rows [concept, image] of 1 and 0, or of NaN for a concept that it does not
    know.
    """

    spec: str  # text by which a user opens it, and its name in messages
    has_boxes: bool  # if `Example.box` is known
    has_labels: bool  # if `Example.label` is known

    def __len__(self) -> int:
        """Count the images."""
        ...

    def __getitem__(self, index: int) -> Example:
        """Decode image `index`, or raise `UnusableImage`, and it is skipped.

        `load` also takes an image or an array instead of an `Example`.
        """
        ...

    def identify(self, index: int) -> str:
        """Name image `index` for a reader, without decoding it."""
        ...

    def fingerprint(self) -> str:
        """Hash everything the images' content depends on."""
        ...


def image_column(features: Mapping[str, Any], wanted: str | None, title: str) -> str:
    """Name the chosen image among a data set's columns, of TFDS's or `datasets`' features.

    Raises `InputError`, which `title` begins, if it is not there, or none is chosen of several.
    """
    keys = sorted(key for key, feature in features.items() if type(feature).__name__ == "Image")
    if wanted is None and (len(keys) == 1 or "image" in keys):
        wanted = "image" if "image" in keys else keys[0]
    if wanted and wanted in keys:
        return wanted
    if not keys:
        fault = f"no image among its columns {', '.join(sorted(features))}: give another"
    elif wanted is not None:
        fault = f"no image {shown(wanted)}: expected one of {', '.join(keys)}"
    else:
        fault = (
            f"{len(keys)} images, {', '.join(keys)}: choose one with ',image={keys[0]}' after the "
            "split"
        )
    raise InputError(f"{title} has {fault}.")


def load(source: Source, index: int) -> Example:
    """Read an image of any source, also a user's, convert it to RGB, and check what is known of it.

    The source gives an `Example`, an image or an array of bytes, grey, RGB or RGBA. Raises
    `UnusableImage` if it can't be read, or is none of these, or its label or box is impossible;
    `InputError` as the source raises it, to stop the run.
    """
    name = repr(f"image {index} of {source.spec}")
    try:
        name = repr(source.identify(index))
        value: Any = source[index]
    except InputError:
        raise
    except Exception as error:  # of any type: the source may be a user's
        raise UnusableImage(name, f"can't be read ({shown(error)})") from error
    if not isinstance(value, Example):
        return Example(in_rgb(value, name))
    image, label, box = in_rgb(value.image, name), value.label, value.box
    if label is not None:
        try:
            label = operator.index(np.asarray(label)[()])
        except (TypeError, ValueError) as error:
            reason = f"has the label {shown(label)}, which is not an index of a class"
            raise UnusableImage(name, reason) from error
    if box is not None:
        box = _checked(box, image.size, name)
    return Example(image, label, box, value.categories)


def in_rgb(image: Any, name: str) -> Image.Image:
    """Convert an image, or an array of bytes [H, W], [H, W, 3] or [H, W, 4], to RGB.

    16 bits of grey become their high byte: Pillow (13 too) clips them to their darkest 256 levels,
    which gives a nearly white picture, although it keeps the high byte of 16 bits of colour. Raises
    `UnusableImage` if it is none of these, or has no pixel.
    """
    if not isinstance(image, Image.Image):
        image = _of_array(image, name)
    if 0 in image.size or image.mode in ("F", "I"):  # of unknown range
        raise UnusableImage(
            name, f"has mode {image.mode} and size {image.size}: expected pixels of 8 bits"
        )
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    try:
        image.load()  # the file of `image` may be about to be closed
        return image if image.mode == "RGB" else image.convert("RGB")
    except Exception as error:  # of any type: Pillow decodes only here what it opened before
        raise UnusableImage(name, f"can't be decoded ({_reason(error)})") from error


def _of_array(values: Any, name: str) -> Image.Image:
    try:
        pixels = np.asarray(None if isinstance(values, str | bytes) else values)
    except (TypeError, ValueError):
        pixels = np.asarray(None)
    colours = pixels.shape[2] if pixels.ndim == 3 else 3 * (pixels.ndim == 2)
    if pixels.dtype == np.uint8 and colours in (3, 4) and 0 not in pixels.shape:
        return Image.fromarray(pixels)
    known = pixels.dtype != object
    found = f"{pixels.dtype} of shape {pixels.shape}" if known else shown(values)
    raise UnusableImage(name, f"is {found}: expected a PIL image or uint8 of shape (H, W, 3)")


def _checked(box: Any, size: tuple[int, int], name: str) -> Box:
    """A box within its image, to a pixel."""
    try:
        left, top, right, bottom = map(float, box)
    except (TypeError, ValueError) as error:
        raise UnusableImage(
            name, f"has the box {shown(box)}: expected (left, top, right, bottom)"
        ) from error
    width, height = size
    # NaN fails every comparison.
    if not (-1 <= left <= right <= width + 1 and -1 <= top <= bottom <= height + 1):
        raise UnusableImage(
            name, f"has the box {shown(box)}, which is not within its {width} × {height} pixels"
        )
    return left, top, right, bottom


def decode(file: Path | BytesIO, name: str) -> Image.Image:
    """Decode an image to RGB as torchvision's `pil_loader` does: `Image.convert("RGB")`.

    So EXIF's orientation is not applied, and transparency is dropped. The only exception is grey of
    16 bits, see `in_rgb`. Raises `UnusableImage` for a file in none of `FORMATS`, with more than
    `MOST_PIXELS`, or damaged.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:  # Pillow's own check may be off
                raise ValueError(f"{image.width} × {image.height} pixels are too many")
            return in_rgb(image, name)
    except UnidentifiedImageError as error:  # its text holds an address in memory
        raise UnusableImage(name, _foreign(file)) from error
    except InputError:
        raise
    except FileNotFoundError as error:
        raise UnusableImage(name, "does not exist") from error
    except Exception as error:  # of any type: damage can break any parser
        raise UnusableImage(name, f"can't be decoded ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:SHOWN] or type(error).__name__


def _foreign(file: Path | BytesIO) -> str:
    """Say what is wrong with a file that is none of `FORMATS`."""
    if isinstance(file, Path):
        with file.open("rb") as opened:
            head = opened.read(64)
    else:
        head = file.getvalue()[:64]
    if not head:
        return "is empty"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for kind, magic in _MAGIC.items():
        if any(start[at:].startswith(mark) for at, mark in magic for start in (head, text)):
            remedy = "" if kind in _NOT_PICTURES else " (convert it to JPEG, PNG or WebP)"
            return f"is {kind}, which is not read{remedy}"
    return "can't be decoded (no image)"
