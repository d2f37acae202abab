"""Sheets of pictures, drawn with Pillow: exemplars of a run, and windows with captions."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from jaxdesc.images.example import Source, load
from jaxdesc.result import Exemplar, Neuron
from jaxdesc.store import write_file
from jaxdesc.store.workdir import DRAWN

CELL, MARGIN, CAPTION = 132, 6, 34  # px
INK, PAPER, FRAME = (20, 20, 20), (255, 255, 255), (255, 40, 90)


def exemplar_sheet(
    neurons: Sequence[Neuron], source: Source, path: str | Path, columns: int = 6
) -> None:
    """Draw one row per neuron: its best exemplars with their windows, and its concepts.

    Args:
        neurons: the neurons to show.
        source: the images that their exemplars came from.
        path: path of the PNG.
        columns: exemplars per neuron.
    """
    width = MARGIN + columns * (CELL + MARGIN)
    height = len(neurons) * (CAPTION + CELL + MARGIN)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, neuron in enumerate(neurons):
        top = row * (CAPTION + CELL + MARGIN)
        concepts = ", ".join(f"{text} {score:.2f}" for text, score in neuron.concepts[:3])
        label = f" ({neuron.names[0]})" if neuron.names else ""
        found = concepts or ", ".join(neuron.flags)
        caption = f"{neuron.layer}[{neuron.unit}]{label}:  {found}"
        draw.text((MARGIN, top + 6), caption, INK, ImageFont.load_default(17))
        for column, exemplar in enumerate(neuron.exemplars[:columns]):
            picture = _framed(exemplar, load(source, exemplar.index).image)
            left = MARGIN + column * (CELL + MARGIN)
            offset = (CELL - picture.height) // 2
            sheet.paste(picture, (left, top + CAPTION + offset))
    content, about = io.BytesIO(), PngImagePlugin.PngInfo()
    for key, value in DRAWN.items():
        about.add_text(key, value)
    sheet.save(content, "PNG", pnginfo=about)
    write_file(path, content.getvalue())


def _framed(exemplar: Exemplar, image: Image.Image) -> Image.Image:
    """The whole image, scaled into a cell, with its window framed."""
    scale = CELL / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    picture = image.resize(size, Image.Resampling.LANCZOS)
    if exemplar.box:
        left, top, right, bottom = (v * scale for v in exemplar.box)
        frame = (left, top, max(left, right - 1), max(top, bottom - 1))
        ImageDraw.Draw(picture).rectangle(frame, outline=FRAME, width=2)
    return picture
