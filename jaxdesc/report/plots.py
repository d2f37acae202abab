"""Figures of a run, in the house style: the paper's figures 3 and 4, and what lies behind them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from PIL import Image

from jaxdesc.report.pictures import warmed
from jaxdesc.report.style import ACCENT, FRAME, INK, MUTED, SERIES, house_style, show
from jaxdesc.report.tables import similarity_name
from jaxdesc.result import Neuron
from jaxdesc.similarity import t_vmf_difference

SIDE = 160  # px of a view
BINS = 60
CELL, PITCH, GUTTER, CAPTION, MARGIN = 0.62, 0.66, 0.3, 0.22, 0.06  # inches


class Row(NamedTuple):
    """One neuron as one method sees it: what it found, and the views of its best exemplars."""

    neuron: Neuron
    views: Sequence[np.ndarray]


class Look(NamedTuple):
    """One image as both views see it, for `views`.

    Attributes:
        pixels: the whole image.
        heat: the attention map over it, between 0 and 1.
        centre, attention: the windows' (left, top, right, bottom) in pixels.
    """

    pixels: UInt8[np.ndarray, "height width 3"]
    heat: Float[np.ndarray, "height width"]
    centre: tuple[float, ...]
    attention: tuple[float, ...]


def cut(image: Image.Image, box: Sequence[float]) -> UInt8[np.ndarray, "side side 3"]:
    """Cut a window out of an image, for showing; the whole image where there is no box."""
    left, top, right, bottom = box or (0, 0, image.width, image.height)
    # In single precision a window may end a hair outside.
    window = (max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, window))


def enlarged(
    cam: Float[np.ndarray, "row column"], size: tuple[int, int]
) -> Float[np.ndarray, "height width"]:
    """Enlarge a map ≥ 0 to an image's (width, height), its largest value as 1."""
    scaled = Image.fromarray(np.asarray(cam, np.float32))
    large = np.asarray(scaled.resize(size, Image.Resampling.BILINEAR))
    return large / max(float(large.max()), np.finfo(np.float32).tiny)


def methods(rows: Sequence[Sequence[Row]], names: Sequence[str]) -> Figure:
    """Draw neurons × methods, each with its best exemplars and its concepts (the paper's figure 3).

    Args:
        rows: of each neuron, one `Row` a method.
        names: of the methods.
    """
    count = max(len(row.views) for own in rows for row in own)
    wide, high = count * PITCH + GUTTER, PITCH + CAPTION
    size = (len(names) * wide - GUTTER + 2 * MARGIN, len(rows) * high + CAPTION + MARGIN)
    with house_style():
        drawn = Figure(figsize=size)
        for column, name in enumerate(names):
            at = (MARGIN + column * wide) / size[0], 1 - 0.6 * CAPTION / size[1]
            drawn.text(*at, name, color=ACCENT, va="center")
        for line, own in enumerate(rows):
            top = size[1] - CAPTION - line * high
            for column, row in enumerate(own):
                _draw_row(drawn, row, MARGIN + column * wide, top, 13 * count)
    return drawn


def _draw_row(drawn: Figure, row: Row, left: float, top: float, letters: int) -> None:
    """Draw one neuron of one method with its upper left corner there, in inches."""
    width, height = drawn.get_size_inches()
    neuron = row.neuron
    label = f" {neuron.names[0]}" if neuron.names else ""
    texts = ", ".join(text for text, _ in neuron.concepts[:3]) or ", ".join(neuron.flags)
    head = _shortened(f"{neuron.layer}[{neuron.unit}]{label}: {texts}", letters)
    at, colour = (left / width, (top - 0.5 * CAPTION) / height), INK if neuron.concepts else MUTED
    drawn.text(*at, head, va="center", fontsize=7, color=colour)
    for place, view in enumerate(row.views):
        corner = (left + place * PITCH) / width, (top - CAPTION - CELL) / height
        show(drawn.add_axes((*corner, CELL / width, CELL / height)), view)


def views(looks: Sequence[Look], map_name: str = "Grad-CAM") -> Figure:
    """Draw a column an image: it with its map and both windows, then the centre's and attention's.

    The paper's figure 4. The attention window is framed in full, the centre window in dashes.

    Args:
        looks: the images.
        map_name: of the map of attention.
    """
    with house_style():
        # As high as the widest of the whole images is, beside two square views.
        whole_height = min(1.5, max(look.pixels.shape[0] / look.pixels.shape[1] for look in looks))
        drawn = Figure(
            figsize=(1.25 * len(looks) + 0.3, 1.22 * (2 + whole_height)), layout="constrained"
        )
        ratios = [whole_height, 1, 1]
        grid = drawn.subplots(3, len(looks), squeeze=False, height_ratios=ratios)
        for look, (whole, middle, bottom) in zip(looks, grid.T, strict=True):
            image = Image.fromarray(look.pixels)
            show(whole, warmed(look.pixels, look.heat), look.attention)
            show(middle, cut(image, look.centre))
            show(bottom, cut(image, look.attention))
            left, top, right, under = look.centre
            across, down = [left, right, right, left, left], [top, top, under, under, top]
            whole.plot(across, down, color="white", linewidth=0.9, linestyle=(0, (3, 2)))
        for panel, name in zip(grid[:, 0], (map_name, "centre", "attention"), strict=True):
            panel.annotate(
                name, (-0.04, 0.5), xycoords="axes fraction", rotation=90, ha="right", va="center",
                annotation_clip=False, color=FRAME if name == "attention" else INK,
            )  # fmt: skip
    return drawn


def scores(
    title: str,
    exemplars: Float[np.ndarray, "exemplar width"],
    concepts: Float[np.ndarray, "concept width"],
    base: Float[np.ndarray, " width"],
    kappa: float,
    alpha: float,
) -> Figure:
    """Draw how one neuron's scores of all concepts spread, by the cosine and by t-vMF.

    Args:
        title: of the figure.
        exemplars: unit image features of the neuron's exemplars.
        concepts: unit text features.
        base: unit text feature of the base template.
        kappa: of t-vMF.
        alpha: share of the largest score above which concepts are selected: the line.
    """
    with house_style():
        drawn = Figure(figsize=(5.2, 1.9), layout="constrained")
        panels = drawn.subplots(1, 2, sharey=True)
        for panel, own, colour in zip(panels, (0.0, kappa), SERIES[1::-1], strict=True):
            values = mean_scores(exemplars, concepts, base, own)
            panel.hist(values, BINS, color=colour, alpha=0.85)
            _count_logarithmically(panel)
            limit = alpha * float(values.max())
            selected = int((values > limit).sum()) if limit > 0 else 0
            if selected:
                panel.axvline(limit, color=INK, linewidth=0.8, linestyle=(0, (3, 2)))
            panel.set_title(f"{similarity_name(own)}: {selected} of {len(values):,} selected")
            panel.set_xlabel("score")
        panels[0].set_ylabel("concepts")
        limit_name = f"dashes: {alpha:g} × the largest score"
        drawn.suptitle(f"{_shortened(title, 60)}   ({limit_name})", fontsize=8, color=MUTED)
    return drawn


def mean_scores(
    exemplars: Float[np.ndarray, "exemplar width"],
    concepts: Float[np.ndarray, "concept width"],
    base: Float[np.ndarray, " width"],
    kappa: float,
) -> Float32[np.ndarray, " concept"]:
    """S of one neuron and all concepts by its definition: the mean of φ(v·W) − φ(v·b)."""
    usual = (exemplars @ base)[:, None]
    gained = np.asarray(
        t_vmf_difference(
            exemplars @ concepts.T, np.broadcast_to(usual, (len(exemplars), len(concepts))), kappa
        )
    )
    return gained.mean(axis=0, dtype=np.float64).astype(np.float32)


def activations(
    titles: Sequence[str],
    values: Float[np.ndarray, "image neuron"],
    exemplars: Sequence[Sequence[float]],
) -> Figure:
    """Draw how each neuron's activations spread over all images, its exemplars marked below.

    Args:
        titles: of the neurons.
        values: their activations; NaN for an image that could not be used.
        exemplars: the activations of each one's exemplars.
    """
    columns = min(3, len(titles))
    lines = -(-len(titles) // columns)
    with house_style():
        drawn = Figure(figsize=(2.3 * columns, 1.45 * lines), layout="constrained")
        panels = drawn.subplots(lines, columns, squeeze=False).ravel()
        for panel, title, own, marked in zip(panels, titles, values.T, exemplars, strict=False):
            _draw_activations(panel, title, own[~np.isnan(own)], marked)
        for panel in panels[len(titles) :]:
            panel.set_axis_off()
        for panel in panels[: len(titles) : columns]:
            panel.set_ylabel("images")
        drawn.supxlabel("activation (below the axes: the exemplars)", fontsize=8, color=ACCENT)
    return drawn


def _draw_activations(panel: Axes, title: str, values: np.ndarray, marked: Sequence[float]) -> None:
    panel.hist(values, BINS, color=SERIES[1], alpha=0.85)
    _count_logarithmically(panel)
    # Below the axis, whatever the counts.
    panel.plot(
        marked, np.full(len(marked), -0.06), "|", color=ACCENT, markersize=5, clip_on=False,
        transform=panel.get_xaxis_transform(),
    )  # fmt: skip
    panel.tick_params(axis="x", pad=6)
    panel.set_title(_shortened(title, 34), loc="left")


def _count_logarithmically(panel: Axes) -> None:
    """Counts on a logarithmic axis, without the formulas by which matplotlib labels one."""
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter("{x:,.0f}")
    panel.yaxis.set_minor_formatter(NullFormatter())


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
