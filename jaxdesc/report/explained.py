"""One image explained: the concepts of its top neurons, their maps and contributions."""

import base64
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from jaxdesc.errors import printable
from jaxdesc.report.pictures import warmed
from jaxdesc.result import Neuron
from jaxdesc.store import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Part:
    """One neuron's part in a prediction.

    Attributes:
        neuron: the neuron with its concepts.
        contribution: φ, its contribution to the class's logit.
        share: φ as a share of all neurons' positive contributions.
        where: its map over the view, between 0 and 1.
    """

    neuron: Neuron
    contribution: float
    share: float
    where: Float[np.ndarray, "size size"]


@dataclass(frozen=True)
class Explanation:
    """Reasons why a network predicts a class for an image.

    Attributes:
        pixels: the view that the network saw.
        label: the predicted class.
        names: names of the class; empty if the target has none.
        logit: logit of the class.
        probability: probability of the class, softmax over the logits.
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
        name, (sureness,) = self._title()
        return f"{name}: {sureness}"

    def _title(self) -> tuple[str, list[str]]:
        name = ", ".join(self.names) or f"class {self.label}"
        return name, [f"{100 * self.probability:.1f} %, logit {self.logit:.2f}"]

    def to_dict(self) -> dict[str, Any]:
        """All but the pictures, as JSON values."""
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

    def _repr_html_(self) -> str:
        return self.to_html()

    def figure(self) -> "Figure":
        """The view, its maps, and each neuron with its concepts, in one row."""
        from matplotlib.figure import Figure  # takes a second: only for those who draw

        from jaxdesc.report.plots import house_style, show

        panels = self._panels()
        with house_style():
            drawn = Figure(figsize=(1.6 * len(panels), 2.1), layout="constrained")
            for axes, (pixels, head, lines) in zip(
                drawn.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
            ):
                show(axes, pixels)
                axes.set_title("\n".join(map(_shortened, [head, *lines])), fontsize=7)
        return drawn

    def save(self, folder: str | Path, name: str) -> list[Path]:
        """Write it as PNG, SVG and a fragment of HTML, named by `file_name`."""
        from jaxdesc.report.plots import save

        name, folder = file_name(str(name)), Path(os.path.expanduser(folder))
        page = folder / f"{name}.html"
        write_file(page, f"{self.to_html()}\n".encode())
        return [*save(self.figure(), folder, name), page]

    def _panels(self) -> list[tuple[np.ndarray, str, Sequence[str]]]:
        """Each picture with a heading and lines below it."""
        panels: list[tuple[np.ndarray, str, Sequence[str]]] = [
            (self.pixels, *self._title()),
            (warmed(self.pixels, self.where), "sample map", ["where, of this image"]),
        ]
        if self.class_where is not None:
            agreement = f"to sample map: cos {self.agreement:.2f}"
            panels.append((warmed(self.pixels, self.class_where), "class map", [agreement]))
        for part in self.parts:
            texts = ", ".join(text for text, _ in part.neuron.concepts[:3])
            head = f"{part.neuron.layer}[{part.neuron.unit}]"
            share = f"{100 * part.share:.0f} % (φ = {part.contribution:.2f})"
            lines = [texts or ", ".join(part.neuron.flags), share]
            panels.append((warmed(self.pixels, part.where), head, lines))
        return panels


def file_name(name: str) -> str:
    """Turn an image's name into one that any file system takes."""
    return re.sub(r"[^\w.-]", "_", name)


def _shortened(text: str, longest: int = 26) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _html_figure(pixels: np.ndarray, head: str, lines: Sequence[str]) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    text = "<br>".join(escape(line) for line in lines)
    return (
        '<figure style="margin: 0; width: 160px">'
        f'<img alt="" width="160" src="data:image/png;base64,{data}">'
        f"<figcaption><b>{escape(head)}</b><br>{text}</figcaption></figure>"
    )
