"""One probe image, and what every source of them offers."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxdesc.errors import SHOWN, UnusableImage

Box = tuple[float, float, float, float]

# What photos come as, whatever their names end in. Pillow reads forty formats more, of which one
# runs Ghostscript on the file.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
# Twice Pillow's own number, above which it refuses a file before decoding it: 512 MiB of RGB.
MOST_PIXELS = 178_956_970


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
        """Decode image `index`; raises `UnusableImage` where that can't be done: it is skipped."""
        ...

    def identify(self, index: int) -> str:
        """Name image `index` for a reader, without decoding it."""
        ...

    def fingerprint(self) -> str:
        """Hash everything the images' content depends on."""
        ...


def decode(file: Path | BytesIO, name: str) -> Image.Image:
    """Decode an image to RGB as torchvision's `pil_loader` does: `Image.convert("RGB")`.

    So EXIF's orientation is not applied, and transparency is dropped. 16 bits of grey are the one
    exception: Pillow (13 too) clips them to their darkest 256 levels, which leaves an all but white
    picture; here their high byte is kept, as Pillow itself does with 16 bits of colour.

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
            if image.mode.startswith("I;16"):
                high = (np.asarray(image) >> 8).astype(np.uint8)
                return Image.fromarray(high).convert("RGB")
            return image.convert("RGB")
    except UnidentifiedImageError as error:  # whose text tells an address in memory
        raise UnusableImage(name, "can't be decoded (empty, or no image)") from error
    except Exception as error:  # of no fixed type: damage meets Pillow's parsers anywhere
        reason = " ".join(str(error).split())[:SHOWN] or type(error).__name__
        raise UnusableImage(name, f"can't be decoded ({reason})") from error
