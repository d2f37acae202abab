"""The house style of every figure."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxdesc.store.workdir import DRAWN

INK, MUTED, ACCENT, FRAME = "#1f1e1c", "#6d6a64", "#b8420f", "#ff6a2b"
SERIES = (ACCENT, "#2f6690", "#6a8d3a", "#8a5a9e")  # told apart without colour by their order
DPI = 200

# Any: matplotlib's stubs want each key to be a literal of theirs.
_RULES: Any = {
    "font.size": 8,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.frameon": False,
    "figure.facecolor": "white",
    # Text stays text in an SVG, and the same figure gives the same file.
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxdesc",
    # A dollar in a concept's name is no formula.
    "text.parse_math": False,
}


@contextmanager
def house_style() -> Iterator[None]:
    """The style, for as long as a figure is made; matplotlib's own settings come back after."""
    with matplotlib.rc_context(_RULES):
        yield


def rendered(figure: Figure) -> dict[str, bytes]:
    """A figure as the contents of an SVG and a PNG file; the same one always gives the same."""
    vector, pixels = io.BytesIO(), io.BytesIO()
    with house_style():
        figure.savefig(vector, format="svg", metadata={"Date": None})
        figure.savefig(pixels, format="png", dpi=DPI, metadata=DRAWN)
    return {"svg": vector.getvalue(), "png": pixels.getvalue()}


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as SVG and as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = rendered(figure)
    for kind, content in contents.items():
        (folder / f"{name}.{kind}").write_bytes(content)
    return [folder / f"{name}.{kind}" for kind in contents]


def show(panel: Axes, pixels: np.ndarray, box: tuple[float, ...] = ()) -> None:
    """Draw a picture without axes, with a frame around a box where there is one."""
    panel.imshow(pixels, interpolation="antialiased")
    panel.set_axis_off()
    if box:
        left, top, right, bottom = box
        size = right - left, bottom - top
        frame = Rectangle(
            (left - 0.5, top - 0.5), *size, fill=False, edgecolor=FRAME, linewidth=1.2
        )
        panel.add_patch(frame)
