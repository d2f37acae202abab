"""One probe image, and what every source of them offers."""

import operator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxdesc.errors import SHOWN, InputError, UnusableImage, shown

Box = tuple[float, float, float, float]

# What photos come as, whatever their names end in. Pillow reads forty formats more, of which one
# runs Ghostscript on the file.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
# What other files begin with, at which byte. They are named rather than called damaged.
_BEGINNINGS = {
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
_NO_PICTURES = ("HTML", "a zip archive", "a video", "a Git LFS pointer")
# Twice Pillow's own number, above which it refuses a file before decoding it: 512 MiB of RGB.
MOST_PIXELS = 178_956_970


@dataclass(frozen=True)
class Example:
    """One probe image.

    Attributes:
        image: decoded, RGB.
        label: index of its class among the target's, where the source knows it.
        box: the object's (left, top, right, bottom) in pixels, where the source knows it.
        categories: names that the source files it under, one for each of its `namings`: a folder's
            name, a TFDS set's label. `labels.matched` finds the class.
    """

    image: Image.Image
    label: int | None = None
    box: Box | None = None
    categories: tuple[str | None, ...] = ()


@runtime_checkable
class Source(Protocol):
    """A sequence of probe images; random access, safe to read from several threads.

    Attributes:
        spec: how a user writes it, and its name in messages.
        has_boxes: whether `Example.box` is known.
        has_labels: whether `Example.label` is known.
    """

    spec: str
    has_boxes: bool
    has_labels: bool

    def __len__(self) -> int:
        """Count the images."""
        ...

    def __getitem__(self, index: int) -> Example:
        """Decode image `index`; raises `UnusableImage` where that can't be done: it is skipped.

        `load` takes what is not RGB or no `Example` too.
        """
        ...

    def identify(self, index: int) -> str:
        """Name image `index` for a reader, without decoding it."""
        ...

    def fingerprint(self) -> str:
        """Hash everything the images' content depends on."""
        ...


def load(source: Source, index: int) -> Example:
    """Read an image of any source, one of the user's own too, and check what it gave.

    Args:
        source: gives an `Example`, an image or an array of bytes, grey, RGB or RGBA.
        index: of the image.

    Returns:
        The image, RGB, with whatever else the source knows of it.

    Raises:
        UnusableImage: it can't be read, or is none of these, or its label or box can't be its own.
        InputError: as the source raises it, to stop the run.
    """
    name = repr(f"image {index} of {source.spec}")
    try:
        name = repr(source.identify(index))
        found: Any = source[index]
    except InputError:
        raise
    except Exception as error:  # of no fixed type: the source is anybody's
        raise UnusableImage(name, f"can't be read ({shown(error)})") from error
    if not isinstance(found, Example):
        return Example(in_rgb(found, name))
    image = in_rgb(found.image, name)
    label = None if found.label is None else _class_index(found.label, name)
    box = None if found.box is None else _checked(found.box, image.size, name)
    return Example(image, label, box, found.categories)


def _class_index(label: Any, name: str) -> int:
    """Read a whole number of any library."""
    try:
        scalar = label if isinstance(label, int) else np.asarray(label)[()]
        if not isinstance(scalar, bool | np.bool_):
            return operator.index(scalar)
    except (TypeError, ValueError):
        pass
    raise UnusableImage(name, f"has the label {shown(label)}, no index of a class")


def in_rgb(image: Any, name: str) -> Image.Image:
    """Convert an image, or an array of bytes [H, W], [H, W, 3] or [H, W, 4], to RGB.

    16 bits of grey become their high byte: Pillow (13 too) clips them to their darkest 256 levels,
    which leaves an all but white picture, though of 16 bits of colour it keeps the high byte.

    Raises:
        UnusableImage: it is none of these, or has no pixel.
    """
    if not isinstance(image, Image.Image):
        image = _of_array(image, name)
    if 0 in image.size or image.mode in ("F", "I"):  # whose range nobody knows
        raise UnusableImage(
            name, f"has mode {image.mode} and size {image.size}: expected pixels of 8 bits"
        )
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    try:
        return image.convert("RGB")  # a copy: the file of `image` may be about to be closed
    except Exception as error:  # of no fixed type: Pillow decodes a file that was opened only here
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
    raise UnusableImage(
        name, f"is {found}, where a PIL image or uint8 of shape (H, W, 3) was expected"
    )


def _checked(box: Any, size: tuple[int, int], name: str) -> Box:
    """A box that lies in its image, to a pixel."""
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
            name, f"has the box {shown(box)}, which does not lie in its {width} × {height} pixels"
        )
    return left, top, right, bottom


def decode(file: Path | BytesIO, name: str) -> Image.Image:
    """Decode an image to RGB as torchvision's `pil_loader` does: `Image.convert("RGB")`.

    So EXIF's orientation is not applied, and transparency is dropped. 16 bits of grey are the one
    exception, see `in_rgb`.

    Args:
        file: what to decode.
        name: of the image, for the error.

    Raises:
        UnusableImage: what is none of `FORMATS` or has more than `MOST_PIXELS`, or can't be read to
            its end.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:  # where Pillow's own check is switched off
                raise ValueError(f"{image.width} × {image.height} pixels are too many")
            return in_rgb(image, name)
    except UnidentifiedImageError as error:  # whose text tells an address in memory
        raise UnusableImage(name, _foreign(file)) from error
    except InputError:
        raise
    except FileNotFoundError as error:
        raise UnusableImage(name, "does not exist") from error
    except Exception as error:  # of no fixed type: damage meets Pillow's parsers anywhere
        raise UnusableImage(name, f"can't be decoded ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:SHOWN] or type(error).__name__


def _foreign(file: Path | BytesIO) -> str:
    """What is wrong with a file that is none of `FORMATS`."""
    head = file.getvalue()[:64] if isinstance(file, BytesIO) else _head(file)
    if not head:
        return "is empty"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for kind, beginnings in _BEGINNINGS.items():
        if any(head[at:].startswith(own) or text[at:].startswith(own) for at, own in beginnings):
            remedy = "" if kind in _NO_PICTURES else " (convert it to JPEG, PNG or WebP)"
            return f"is {kind}, which is not read{remedy}"
    return "can't be decoded (no image)"


def _head(file: Path) -> bytes:
    with open(file, "rb") as opened:
        return opened.read(64)
