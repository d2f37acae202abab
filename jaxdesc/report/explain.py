"""One image explained by concepts (what), maps (where) and contributions (why)."""

import base64
import io
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image, ImageDraw

from jaxdesc.attention.contribution import (
    contributions,
    cosine,
    image_map,
    neuron_map,
    top_neurons,
)
from jaxdesc.config import converted
from jaxdesc.errors import InputError, UnusableImage, check_type, printable, shown
from jaxdesc.images.example import Box, Source, decode, in_rgb, load
from jaxdesc.images.labels import matched
from jaxdesc.images.windows import at_positions, peaks, snapped
from jaxdesc.models.target import LOGITS, Target
from jaxdesc.report.pictures import warmed
from jaxdesc.result import Neuron, Result
from jaxdesc.store import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# An image, its bytes [height, width], [height, width, 3] or [height, width, 4], or a file's path.
Picture = Image.Image | np.ndarray | str | os.PathLike[str]

SHOWN = 3  # neurons
PEERS = 50  # other images of the class


@dataclass(frozen=True)
class Part:
    """One neuron's part in a prediction.

    Attributes:
        neuron: the neuron with its concepts.
        contribution: φ, its contribution to the class's logit.
        share: φ as a share of all neurons' positive contributions.
        where: its map over the view, between 0 and 1.
        window: its own window, as its exemplars were cut: (left, top, right, bottom) as fractions
            of the image; None if they were not.
    """

    neuron: Neuron
    contribution: float
    share: float
    where: Float[np.ndarray, "size size"]
    window: Box | None = None


@dataclass(frozen=True)
class Explanation:
    """Reasons why a network predicts a class for an image.

    Attributes:
        pixels: the view that the network saw.
        label: the predicted class.
        names: names of the class; empty if the target has none.
        logit, probability: the class's, with softmax over the logits.
        parts: parts of the neurons that contribute most, largest first.
        where: the sample map, Σ φ_k/Σφ × map over the top three neurons.
        class_where: the class map: the same with each neuron's mean contribution over other images
            of the class; None if there were none.
        agreement: cosine between the two maps; NaN if one is empty.
    """

    pixels: UInt8[np.ndarray, "size size 3"]
    label: int
    names: tuple[str, ...]
    logit: float
    probability: float
    parts: tuple[Part, ...]
    where: Float32[np.ndarray, "size size"]
    class_where: Float32[np.ndarray, "size size"] | None = None
    agreement: float = float("nan")

    @property
    def title(self) -> str:
        """The class, and how sure the network is of it."""
        return f"{self._name}: {self._sureness}"

    @property
    def _name(self) -> str:
        return ", ".join(self.names) or f"class {self.label}"

    @property
    def _sureness(self) -> str:
        return f"{100 * self.probability:.1f} %, logit {self.logit:.2f}"

    def to_dict(self) -> dict[str, Any]:
        """The explanation as JSON values, without its pictures."""
        return {
            "class": self.label,
            "names": list(self.names),
            "logit": self.logit,
            "probability": self.probability,
            "agreement": None if np.isnan(self.agreement) else self.agreement,
            "neurons": [
                {
                    "layer": part.neuron.layer,
                    "unit": part.neuron.unit,
                    "concepts": [text for text, _ in part.neuron.concepts],
                    "contribution": part.contribution,
                    "share": part.share,
                    **({"window": list(part.window)} if part.window else {}),
                }
                for part in self.parts
            ],
        }

    def __repr__(self) -> str:
        """Show the class, and each neuron with its share."""
        parts = (f"{100 * part.share:.0f} % {part.neuron!r}" for part in self.parts)
        return "\n  ".join((printable(self.title), *parts))

    def to_html(self) -> str:
        """A fragment of HTML that contains its pictures, for any page or a notebook."""
        figures = "".join(_html_figure(*panel) for panel in self._panels())
        return (
            '<section style="font: 14px/1.4 system-ui, sans-serif">'
            f"<h3>{escape(self.title)}</h3>"
            f'<div style="display: flex; flex-wrap: wrap; gap: 16px">{figures}</div></section>'
        )

    _repr_html_ = to_html

    def figure(self) -> "Figure":
        """The view, its maps, and each neuron with its concepts, in one row."""
        from matplotlib.figure import Figure  # not at the top: it takes a second

        from jaxdesc.report.plots import house_style, shortened, show

        panels = list(self._panels())
        with house_style():
            drawn = Figure(figsize=(1.6 * len(panels), 2.1), layout="constrained")
            grid = drawn.subplots(1, len(panels), squeeze=False)
            for axes, (pixels, *lines) in zip(grid[0], panels, strict=True):
                show(axes, pixels)
                axes.set_title("\n".join(shortened(line, 26) for line in lines), fontsize=7)
        return drawn

    def save(self, folder: str | Path, name: str) -> list[Path]:
        """Write it as PNG, SVG and a fragment of HTML, named by `file_name`."""
        from jaxdesc.report.plots import save

        name, folder = file_name(str(name)), Path(os.path.expanduser(folder))
        page = folder / f"{name}.html"
        write_file(page, f"{self.to_html()}\n".encode())
        return [*save(self.figure(), folder, name), page]

    def _panels(self) -> Iterator[tuple[Any, ...]]:
        """Each picture with a heading and one or two lines below it."""
        yield self.pixels, self._name, self._sureness
        yield warmed(self.pixels, self.where), "sample map", "where, of this image"
        if self.class_where is not None:
            agreement = f"to sample map: cos {self.agreement:.2f}"
            yield warmed(self.pixels, self.class_where), "class map", agreement
        for part in self.parts:
            texts = ", ".join(text for text, _ in part.neuron.concepts[:3])
            yield (
                _outlined(warmed(self.pixels, part.where), part.window),
                f"{part.neuron.layer}[{part.neuron.unit}]",
                texts or ", ".join(part.neuron.flags),
                f"{100 * part.share:.0f} % (φ = {part.contribution:.2f})",
            )


def _outlined(pixels: UInt8[np.ndarray, "size size 3"], window: Box | None) -> np.ndarray:
    """Draw a window's edge in white, if there is one."""
    if window is None:
        return pixels
    image, last = Image.fromarray(pixels), len(pixels) - 1
    left, top, right, bottom = (min(max(round(last * edge), 0), last) for edge in window)
    ImageDraw.Draw(image).rectangle((left, top, right, bottom), outline="white")
    return np.asarray(image)


def _window(
    target: Target, map_: Float[np.ndarray, "row column"], size: tuple[int, int], field: float
) -> Box:
    """Return the box that `stages.look` cuts for a unit, of an image of (width, height)."""
    (centre, *_), _ = peaks(map_[None])
    sides = np.array([size[::-1]], np.float64)
    ((y, x),) = at_positions(snapped(centre[None], sides, field), sides, field).tolist()
    left, top, right, bottom = target.preprocess.box(size, (y, x), field)
    return left / size[0], top / size[1], right / size[0], bottom / size[1]


def file_name(name: str) -> str:
    """Turn an image's name into one that any file system takes."""
    return re.sub(r"[^\w.-]", "_", name)


def _html_figure(pixels: np.ndarray, head: str, *lines: str) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    text = "<br>".join(map(escape, lines))
    return (
        '<figure style="margin: 0; width: 160px">'
        f'<img alt="" width="160" src="data:image/png;base64,{data}">'
        f"<figcaption><b>{escape(head)}</b><br>{text}</figcaption></figure>"
    )


def explain(
    target: Target,
    image: Picture,
    found: Result,
    *,
    peers: Iterable[Picture] = (),
    neurons: int = SHOWN,
    field: float | None = None,
) -> Explanation:
    """Explain a prediction by the neurons that contribute most to it (WWW, Ahn et al. 2024).

    The network sees the whole image, as its Grad-CAM does.

    Args:
        target: the network.
        image: a PIL image of 8 bits per channel, bytes (uint8) of shape [height, width, 3],
            [height, width, 4] or [height, width], or the path of a file; converted to RGB.
        found: a description of the neurons of one of its layers other than the logits.
        peers: other images of the predicted class, which give the class map.
        neurons: how many to show.
        field: `config.crop.field` of windows of units; shows each channel's own window.

    Raises:
        InputError: a result of the logits or of another network, or an image that can't be decoded.
    """
    layer, neurons = _checked(target, found, peers, neurons)
    if field is not None and not 0 < (field := converted(float, field, "field")) <= 1:
        raise InputError(f"field is {field}: expected a share of the image's side in (0, 1].")
    picture = _rgb(image, "image")
    pixels = target.preprocess.squash(picture)
    contributed = contributions(target, layer, pixels[None])
    values, maps, logits = (np.asarray(array)[0] for array in contributed)
    if len(values) != len(found):
        raise InputError(
            f"Layer {layer!r} of {target.name} has {len(values)} neurons, but {len(found)} are "
            "described: give the result of the same network."
        )
    if not values.any():
        raise InputError(
            f"Nothing of {target.name} can be explained: no neuron of {layer!r} contributes to the "
            "logit; apply must go on with what its tap returns."
        )
    label, size = int(logits.argmax()), len(pixels)
    where, mean = image_map(values, maps, size), _class_mean(target, layer, label, peers)
    class_where = None if mean is None else image_map(mean, maps, size)
    positive = np.maximum(values, 0).sum()
    return Explanation(
        pixels=pixels,
        label=label,
        names=target.classes[label] if target.classes else (),
        logit=float(logits[label]),
        probability=float(1 / np.exp(logits.astype(np.float64) - logits[label]).sum()),
        parts=tuple(
            Part(
                neuron=found[unit],
                contribution=float(values[unit]),
                share=float(max(values[unit], 0) / positive) if positive > 0 else 0.0,
                where=neuron_map(maps[..., unit], size),
                window=_window(target, maps[..., unit], picture.size, field) if field else None,
            )
            for unit in top_neurons(values, neurons)
        ),
        where=where,
        class_where=class_where,
        agreement=float("nan") if class_where is None else cosine(where, class_where),
    )


def _checked(target: Target, found: Result, peers: Any, neurons: Any) -> tuple[str, int]:
    """Check the arguments of `explain`; return the layer and the number of neurons."""
    check_type(target, Target, "target", "load_target")
    check_type(found, Result, "found", "describe")
    layer, neurons = found[0].layer, converted(int, neurons, "neurons")
    if layer == LOGITS:
        raise InputError(
            f"The result describes {LOGITS!r}, whose neurons are the classes themselves: describe "
            "a layer before it, such as layer4, to explain a prediction."
        )
    target.check_layer(layer)
    if neurons < 1:
        raise InputError(f"{neurons} neurons are asked for: expected at least 1.")
    single = isinstance(peers, str) or getattr(peers, "ndim", 4) < 4
    if single or not isinstance(peers, Iterable):
        raise InputError(f"peers is {shown(peers)}: expected images, such as a list of them.")
    return layer, neurons


def explain_among(
    target: Target,
    image: Picture,
    found: Result,
    source: Source,
    *,
    peers: int = PEERS,
    neurons: int = SHOWN,
    field: float | None = None,
) -> Explanation:
    """Explain a prediction as `explain` does; the class map comes from a source if it has labels.

    Its first images of the predicted class, at most `peers`, give the map.

    Raises:
        InputError: `peers` is negative, or as `explain`.
    """
    peers = converted(int, peers, "peers")
    if peers < 0:
        raise InputError(
            f"{peers} peers are asked for: expected a number of images, or 0 for none."
        )
    alone = explain(target, image, found, neurons=neurons, field=field)
    source = matched(source, target)
    if not (source.has_labels and peers):
        return alone
    others = islice(_of_class(source, alone.label), peers)
    return explain(target, image, found, peers=others, neurons=neurons, field=field)


def _rgb(image: Any, name: str) -> Image.Image:
    """Read a picture as a run's sources do."""
    if isinstance(image, str | os.PathLike):
        path = os.path.expanduser(image)
        return decode(Path(path), repr(str(path)))
    try:
        return in_rgb(image, name)
    except UnusableImage as error:
        raise InputError(f"{name} {error.reason}.") from error


def _of_class(source: Source, label: int) -> Iterator[Image.Image]:
    for index in range(len(source)):
        try:
            example = load(source, index)
        except UnusableImage:
            continue
        if example.label == label:
            yield example.image


def _class_mean(
    target: Target, layer: str, label: int, peers: Iterable[Picture]
) -> np.ndarray | None:
    """Φ[y], each neuron's mean contribution to the class over images of it; None without any.

    If a mean and a linear layer follow, that is W[y, k] · mean(a_k | label y).
    """
    total, count, classes = np.zeros(()), 0, np.array([label], np.int32)
    for peer in peers:
        pixels = target.preprocess.squash(_rgb(peer, "one of peers"))
        values = contributions(target, layer, pixels[None], classes).values
        total, count = total + np.asarray(values, np.float64)[0], count + 1
    return total / count if count else None
