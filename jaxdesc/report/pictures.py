"""Thumbnails of exemplars, many in one file, and heatmaps as a few characters each."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from jaxdesc.attention.cams import CAMS, attend_as, check_cam, suited
from jaxdesc.attention.units import unit_maps, units_at_once
from jaxdesc.config import CropConfig
from jaxdesc.images.example import Box, Example, Source, load
from jaxdesc.images.labels import matched
from jaxdesc.images.loader import batches, padded
from jaxdesc.images.views import map_input
from jaxdesc.models.target import Target
from jaxdesc.result import Exemplar, Neuron
from jaxdesc.store import write_file
from jaxdesc.store.workdir import DRAWN

CELL = 160  # px, the longer side of a thumbnail
COLUMNS = 8  # thumbnails in a row of a sheet
JPEG_QUALITY, WEBP_QUALITY = 92, 65  # of a thumbnail in memory, of a sheet

# A run's sheet of exemplars: its views, the space around them and captions, in px.
VIEW, MARGIN, CAPTION = 132, 6, 34
INK, PAPER, FRAME = (20, 20, 20), (255, 255, 255), (255, 40, 90)

# A heatmap's levels, a character each: 0 is "A", 63 is "/".
LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class Picture(NamedTuple):
    """One image as the page shows it.

    Attributes:
        thumbnail: the whole image, scaled down, as a JPEG, so that a layer's images fit in memory.
        size: width and height of the image in pixels.
        heat: the attention map, one character of `LEVELS` per cell, with spaces between its rows;
            empty if it has no positive value, or no target was given.
        area: the part of the image that the map covers, in pixels.
        explained: name of the class that the map explains; empty without a map, or if it is of no
            class.
        heats: maps of units by their number, if each has its own.
    """

    thumbnail: bytes
    size: tuple[int, int]
    heat: str = ""
    area: Box = (0.0, 0.0, 0.0, 0.0)
    explained: str = ""
    heats: Mapping[int, str] = {}


class Own(NamedTuple):
    """Units whose maps are shown: their layer, its pooling, and the units by image."""

    layer: str
    pooling: str
    units: Mapping[int, Sequence[int]]


def look(
    source: Source,
    indices: Sequence[int],
    target: Target | None = None,
    crop: CropConfig | None = None,
    batch: int = 64,
    seen: Callable[[int], object] | None = None,
    own: Own | None = None,
) -> dict[int, Picture]:
    """Read each image once: its thumbnail and, with a target, its attention map, or units' `own`.

    `crop` has `cam`, `cam_input` and `cam_class` as the run had them. `seen` is called with the
    number of images of each finished batch of at most `batch`.
    """
    crop = crop or CropConfig()
    if target:
        crop = replace(crop, cam=suited(target, crop.cam))
        source = matched(source, target)

    def prepare(_: int, example: Example) -> tuple[Picture, np.ndarray | None, int | None]:
        image, pixels, file = example.image, None, io.BytesIO()
        small = image.resize(scaled(image.size), Image.Resampling.LANCZOS)
        small.save(file, "JPEG", quality=JPEG_QUALITY)
        area = 0.0, 0.0, float(image.width), float(image.height)
        if target:
            pixels, area = map_input(target.preprocess, crop, image)
        return Picture(file.getvalue(), image.size, area=area), pixels, example.label

    wanted = sorted(set(indices))
    found: dict[int, Picture] = {}
    for chunk in batches(source, wanted, prepare, max(1, batch)):
        read, pixels, labels = zip(*chunk, strict=True)
        images = wanted[len(found) : len(found) + len(chunk)]
        heats: list[dict[str, Any]] = [{} for _ in chunk]
        if target and own:
            heats = _own_heats(target, crop, padded(np.stack(pixels), batch), own, images)
        elif target:
            heats = _heats(target, crop, padded(np.stack(pixels), batch), labels)
        for image, picture, heat in zip(images, read, heats, strict=True):
            found[image] = picture._replace(**heat)
        if seen:
            seen(len(chunk))
    return found


def explained_maps(
    target: Target,
    crop: CropConfig,
    pixels: UInt8[np.ndarray, "padded size size 3"],
    labels: Sequence[int | None],
) -> tuple[Float[np.ndarray, "image row column"], Int[np.ndarray, " image"]]:
    """Compute a run's maps of what `map_input` gave, and their classes, as `attend_as` does.

    If a label is missing, all maps are of the predicted classes.
    """
    check_cam(target, crop.cam)
    if None in labels:
        crop = replace(crop, cam_class="predicted")
    maps, explained = attend_as(crop, target, pixels, labels)
    return np.asarray(maps)[: len(labels)], np.asarray(explained)[: len(labels)]


def scaled(size: tuple[int, int]) -> tuple[int, int]:
    """The size of an image's thumbnail: its longer side fills a cell."""
    scale = CELL / max(size)
    # Rounds halves up, as the page's script does.
    width, height = (max(1, math.floor(side * scale + 0.5)) for side in size)
    return width, height


def _heats(
    target: Target, crop: CropConfig, pixels: np.ndarray, labels: Sequence[int | None]
) -> list[dict[str, Any]]:
    """Each image's map, and the name of the class that it explains, if it explains one."""
    heats = []
    for cam, label in zip(*explained_maps(target, crop, pixels, labels), strict=True):
        names = target.classes[label] if label < len(target.classes) else ()
        heat, name = encode(cam), names[0] if names else f"class {label}"
        named = heat and CAMS[crop.cam].of_class
        heats.append({"heat": heat, "explained": name if named else ""})
    return heats


def _own_heats(
    target: Target, crop: CropConfig, pixels: np.ndarray, own: Own, images: Sequence[int]
) -> list[dict[str, Any]]:
    """Each image's maps of its units, some at a time."""
    found: list[dict[int, str]] = [{} for _ in images]
    units = [list(own.units.get(image, ())) for image in images]
    most = units_at_once(own.layer, own.pooling)
    for first in range(0, max(map(len, units)), most):
        parts = [each[first : first + most] for each in units]
        table = np.array([[*part, *[0] * (most - len(part))] for part in parts], np.int32)
        chosen = padded(table, len(pixels))
        maps = np.asarray(unit_maps(target, pixels, chosen, own.layer, own.pooling, crop.cam))
        for part, of_image, heats in zip(parts, maps, found, strict=False):
            heats.update((unit, encode(cam)) for unit, cam in zip(part, of_image, strict=False))
    return [{"heats": heats} for heats in found]


def encode(cam: Float[np.ndarray, "row column"]) -> str:
    """Encode a map ≥ 0 as `Picture.heat`: its largest value becomes the last of `LEVELS`."""
    largest = cam.max(initial=0.0)
    if not (np.isfinite(cam).all() and largest > 0):
        return ""
    levels = np.floor(cam / largest * (len(LEVELS) - 1) + 0.5).astype(int)
    return " ".join("".join(LEVELS[level] for level in row) for row in levels)


def warmed(
    pixels: UInt8[np.ndarray, "height width 3"], heat: Float[np.ndarray, "height width"]
) -> UInt8[np.ndarray, "height width 3"]:
    """Lay a map between 0 and 1 over a picture: dim at 0, warm at 1.

    The page's script does the same with the map's few cells.
    """
    value = np.asarray(heat, np.float32)[..., None]
    colour = value * np.array([255, 110, 30], np.float32)
    opacity = 0.6 - 0.38 * value
    mixed = pixels.astype(np.float32) * (1 - opacity) + colour * opacity
    return np.clip(np.round(mixed), 0, 255).astype(np.uint8)


def sheet(thumbnails: Sequence[bytes]) -> bytes:
    """Lay out thumbnails in rows of `COLUMNS` cells, each at its cell's top left, as a WebP."""
    columns = min(COLUMNS, len(thumbnails))
    rows = -(-len(thumbnails) // COLUMNS)
    canvas = Image.new("RGB", (columns * CELL, rows * CELL))
    for index, thumbnail in enumerate(thumbnails):
        row, column = divmod(index, COLUMNS)
        canvas.paste(Image.open(io.BytesIO(thumbnail)), (column * CELL, row * CELL))
    file = io.BytesIO()
    canvas.save(file, "WEBP", quality=WEBP_QUALITY, method=2)  # twice as fast as 4, 5 % larger
    return file.getvalue()


def in_thousandths(box: Sequence[float], size: tuple[int, int]) -> list[int]:
    """A box in thousandths of its image's width and height; empty if there is none."""
    if not box:
        return []
    width, height = size
    scales = (width, height, width, height)
    return [round(1000 * edge / scale) for edge, scale in zip(box, scales, strict=True)]


def exemplar_sheet(
    neurons: Sequence[Neuron], source: Source, path: str | Path, columns: int = 6
) -> None:
    """Draw one row per neuron as a PNG: its best exemplars with their windows, and its concepts."""
    width = MARGIN + columns * (VIEW + MARGIN)
    height = len(neurons) * (CAPTION + VIEW + MARGIN)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, neuron in enumerate(neurons):
        top = row * (CAPTION + VIEW + MARGIN)
        concepts = ", ".join(f"{text} {score:.2f}" for text, score in neuron.concepts[:3])
        label = f" ({neuron.names[0]})" if neuron.names else ""
        found = concepts or ", ".join(neuron.flags)
        caption = f"{neuron.layer}[{neuron.unit}]{label}:  {found}"
        draw.text((MARGIN, top + 6), caption, INK, ImageFont.load_default(17))
        for column, exemplar in enumerate(neuron.exemplars[:columns]):
            picture = _framed(exemplar, load(source, exemplar.index).image)
            left = MARGIN + column * (VIEW + MARGIN)
            offset = (VIEW - picture.height) // 2
            sheet.paste(picture, (left, top + CAPTION + offset))
    content, about = io.BytesIO(), PngImagePlugin.PngInfo()
    for key, value in DRAWN.items():
        about.add_text(key, value)
    sheet.save(content, "PNG", pnginfo=about)
    write_file(path, content.getvalue())


def _framed(exemplar: Exemplar, image: Image.Image) -> Image.Image:
    """The whole image, scaled into a cell, with its window framed."""
    scale = VIEW / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    picture = image.resize(size, Image.Resampling.LANCZOS)
    if exemplar.box:
        left, top, right, bottom = (v * scale for v in exemplar.box)
        frame = (left, top, max(left, right - 1), max(top, bottom - 1))
        ImageDraw.Draw(picture).rectangle(frame, outline=FRAME, width=2)
    return picture
