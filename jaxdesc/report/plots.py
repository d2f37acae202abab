"""Figures of a run in the house style: the paper's figures 3 and 4, scores and activations."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float, Float32, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullFormatter
from PIL import Image

from jaxdesc.attention.cams import CAMS
from jaxdesc.config import CropConfig, ScoreConfig
from jaxdesc.images.example import Source, load
from jaxdesc.images.views import map_input
from jaxdesc.images.windows import MIDDLE, in_image, peaks
from jaxdesc.models.target import Target
from jaxdesc.report.data import Method
from jaxdesc.report.files import Saved
from jaxdesc.report.pictures import explained_maps, warmed
from jaxdesc.report.report import located
from jaxdesc.report.tables import similarity_name
from jaxdesc.result import Neuron
from jaxdesc.similarity import SIMILARITIES
from jaxdesc.stages.latents import activations_of
from jaxdesc.stages.run import settled
from jaxdesc.store import Artifact, Place
from jaxdesc.store.workdir import DRAWN, folder_of

INK, MUTED, ACCENT, FRAME = "#1f1e1c", "#6d6a64", "#b8420f", "#ff6a2b"
SERIES = (ACCENT, "#2f6690", "#6a8d3a", "#8a5a9e")  # their order stays clear without colour
DPI = 200

SIDE = 160  # px of a view
VIEWS = 5  # exemplars per neuron
LOOKS = 6  # images of the figure of both views
BINS = 60
CELL, PITCH, GUTTER, CAPTION, MARGIN = 0.62, 0.66, 0.3, 0.22, 0.06  # inches

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
    # A dollar in a concept's name does not begin a formula.
    "text.parse_math": False,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Apply the style while a figure is made, then restore matplotlib's settings."""
    with matplotlib.rc_context(_RULES):
        yield


def rendered(figure: Figure) -> dict[str, bytes]:
    """Contents of an SVG and a PNG file of a figure; the same figure always gives the same."""
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
    """Draw a picture without axes, with a frame around a box if there is one."""
    panel.imshow(pixels, interpolation="antialiased")
    panel.set_axis_off()
    if box:
        left, top, right, bottom = box
        corner, width, height = (left - 0.5, top - 0.5), right - left, bottom - top
        panel.add_patch(
            Rectangle(corner, width, height, fill=False, edgecolor=FRAME, linewidth=1.2)
        )


class BothViews(NamedTuple):
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
    """Cut a window out of an image for display; the whole image without a box."""
    left, top, right, bottom = box or (0, 0, image.width, image.height)
    # In single precision a window may end just outside the image.
    window = (max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, window))


def enlarged(
    cam: Float[np.ndarray, "row column"], size: tuple[int, int]
) -> Float[np.ndarray, "height width"]:
    """Enlarge a map ≥ 0 to an image's (width, height), its largest value as 1."""
    scaled = Image.fromarray(np.asarray(cam, np.float32))
    large = np.asarray(scaled.resize(size, Image.Resampling.BILINEAR))
    return large / max(float(large.max()), np.finfo(np.float32).tiny)


def title_of(neuron: Neuron) -> str:
    """Name of a neuron in a figure: layer, number and class."""
    label = f" {neuron.names[0]}" if neuron.names else ""
    return f"{neuron.layer}[{neuron.unit}]{label}"


def methods(
    rows: Sequence[Sequence[tuple[Neuron, Sequence[np.ndarray]]]], names: Sequence[str]
) -> Figure:
    """Draw neurons × methods, each with its best exemplars and its concepts (the paper's figure 3).

    `rows` has, for each neuron and method, what the method found and the exemplars' views.
    """
    count = max(len(views) for row in rows for _, views in row)
    wide, high = count * PITCH + GUTTER, PITCH + CAPTION
    width = len(names) * wide - GUTTER + 2 * MARGIN
    height = len(rows) * high + CAPTION + MARGIN
    with house_style():
        drawn = Figure(figsize=(width, height))
        for column, name in enumerate(names):
            left = (MARGIN + column * wide) / width
            drawn.text(left, 1 - 0.6 * CAPTION / height, name, color=ACCENT, va="center")
        for line, row in enumerate(rows):
            top = height - CAPTION - line * high
            for column, (neuron, views) in enumerate(row):
                left = MARGIN + column * wide
                texts = ", ".join(text for text, _ in neuron.concepts[:3])
                head = f"{title_of(neuron)}: {texts or ', '.join(neuron.flags)}"
                drawn.text(
                    left / width,
                    (top - 0.5 * CAPTION) / height,
                    shortened(head, 13 * count),
                    va="center",
                    fontsize=7,
                    color=INK if neuron.concepts else MUTED,
                )
                for index, view in enumerate(views):
                    corner = (left + index * PITCH) / width, (top - CAPTION - CELL) / height
                    show(drawn.add_axes((*corner, CELL / width, CELL / height)), view)
    return drawn


def views(looks: Sequence[BothViews], map_name: str = "Grad-CAM") -> Figure:
    """Draw one column per image: the image with its map and both windows, then each window.

    The paper's figure 4. The attention window has a solid frame, the centre window dashes.
    """
    with house_style():
        # The height of the tallest whole image, relative to the square views.
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
    similarity: str,
    kappa: float,
    alpha: float,
) -> Figure:
    """Draw the distribution of one neuron's scores over all concepts, next to that by the cosine.

    Features have unit length. A line is at α × the largest score; concepts above it are selected.
    """
    with house_style():
        drawn = Figure(figsize=(5.2, 1.9), layout="constrained")
        panels = drawn.subplots(1, 2, sharey=True)
        for panel, entry, colour in zip(panels, ("cosine", similarity), SERIES[1::-1], strict=True):
            values = mean_scores(exemplars, concepts, base, entry, kappa)
            panel.hist(values, BINS, color=colour, alpha=0.85)
            _count_logarithmically(panel)
            limit = alpha * float(values.max())
            selected = int((values > limit).sum()) if limit > 0 else 0
            if selected:
                panel.axvline(limit, color=INK, linewidth=0.8, linestyle=(0, (3, 2)))
            name = similarity_name(kappa, entry)
            panel.set_title(f"{name}: {selected} of {len(values):,} selected")
            panel.set_xlabel("score")
        panels[0].set_ylabel("concepts")
        limit_name = f"dashes: {alpha:g} × the largest score"
        drawn.suptitle(f"{shortened(title, 60)}   ({limit_name})", fontsize=8, color=MUTED)
    return drawn


def mean_scores(
    exemplars: Float[np.ndarray, "exemplar width"],
    concepts: Float[np.ndarray, "concept width"],
    base: Float[np.ndarray, " width"],
    similarity: str,
    kappa: float,
) -> Float32[np.ndarray, " concept"]:
    """Scores S of one neuron by definition: the mean of φ(v·W) − φ(v·b) over its exemplars."""
    cosines = exemplars @ concepts.T
    usual = np.broadcast_to((exemplars @ base)[:, None], cosines.shape)
    gained = np.asarray(SIMILARITIES[similarity].difference(cosines, usual, kappa))
    return gained.mean(axis=0, dtype=np.float64).astype(np.float32)


def activations(
    titles: Sequence[str],
    values: Float[np.ndarray, "image neuron"],
    exemplars: Sequence[Sequence[float]],
) -> Figure:
    """Draw the distribution of each neuron's activations over all images, its exemplars below.

    An activation is NaN if its image could not be used.
    """
    columns = min(3, len(titles))
    lines = -(-len(titles) // columns)
    with house_style():
        drawn = Figure(figsize=(2.3 * columns, 1.45 * lines), layout="constrained")
        panels = drawn.subplots(lines, columns, squeeze=False).ravel()
        for panel, title, column, marks in zip(panels, titles, values.T, exemplars, strict=False):
            panel.hist(column[~np.isnan(column)], BINS, color=SERIES[1], alpha=0.85)
            _count_logarithmically(panel)
            # Below the axis, at any scale of the counts.
            panel.plot(
                marks, np.full(len(marks), -0.06), "|", color=ACCENT, markersize=5, clip_on=False,
                transform=panel.get_xaxis_transform(),
            )  # fmt: skip
            panel.tick_params(axis="x", pad=6)
            panel.set_title(shortened(title, 34), loc="left")
        for panel in panels[len(titles) :]:
            panel.set_axis_off()
        for panel in panels[: len(titles) : columns]:
            panel.set_ylabel("images")
        drawn.supxlabel("activation (below the axes: the exemplars)", fontsize=8, color=ACCENT)
    return drawn


def _count_logarithmically(panel: Axes) -> None:
    """Make the counts' axis logarithmic, with numbers instead of matplotlib's formulas."""
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter("{x:,.0f}")
    panel.yaxis.set_minor_formatter(NullFormatter())


def shortened(text: str, longest: int) -> str:
    """Cut a text to at most `longest` characters."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def draw(
    folder: Path,
    workdir: Path,
    runs: Sequence[Saved],
    source: Source,
    target: Target,
    units: Sequence[int],
) -> list[Path]:
    """Write every figure of some units, each with an exemplar, and return the files.

    `folder` is numbered, as figures-2, if it holds other figures. `workdir` has the first run's
    artifacts, which are read; `runs` are the methods side by side.
    """
    run, options = runs[0], runs[0].config.score
    crop = settled(run.config, target).crop
    results = [located(saved.result, source) for saved in runs]
    neurons = [results[0][unit] for unit in units]

    def with_views(neuron: Neuron) -> tuple[Neuron, list[np.ndarray]]:
        best = neuron.exemplars[:VIEWS]
        return neuron, [cut(load(source, e.index).image, e.box) for e in best]

    rows = [[with_views(result[unit]) for result in results] for unit in units]
    figure = methods(rows, [Method.of(saved).name for saved in runs])
    same = rendered(figure)["svg"].__eq__
    folder = folder.with_name(Place(folder.parent).unused(folder.name, "/methods.svg", same))
    paths = save(figure, folder, "methods")

    if not crop.units:
        looks = [_both_views(neuron, source, target, crop) for neuron in neurons[:LOOKS]]
        paths += save(views(looks, CAMS[crop.cam].title), folder, "views")

    def artifact(stage: str) -> Artifact:
        return Artifact.at(Place(workdir / "artifacts" / run.result.fingerprints[stage]))

    def array(stage: str, name: str) -> np.ndarray:
        return artifact(stage).read(name)

    marks = [[exemplar.activation for exemplar in neuron.exemplars] for neuron in neurons]
    values = activations_of(artifact("activate"), units)
    figure = activations([title_of(neuron) for neuron in neurons], values, marks)
    paths += save(figure, folder, "activations")

    embedded, features = array("embed", "rows"), array("embed", "features")
    exemplars = array("rank" if "rank" in run.result.fingerprints else "select", "images")
    concepts, base = array("encode", "features"), array("encode", "base")
    similarity = options.similarity, options.kappa
    if similarity_name(options.kappa, options.similarity) == "cosine":
        similarity = ScoreConfig.similarity, ScoreConfig.kappa  # t-vMF, next to the cosine
    for neuron in neurons:
        chosen = exemplars[neuron.unit, : len(neuron.exemplars)]
        figure = scores(
            title_of(neuron),
            features[np.searchsorted(embedded, chosen)],
            concepts,
            base,
            *similarity,
            options.alpha,
        )
        paths += save(figure, folder, f"scores_{folder_of(neuron.layer)}_{neuron.unit}")
    return paths


def _both_views(neuron: Neuron, source: Source, target: Target, crop: CropConfig) -> BothViews:
    """Cut both windows of a neuron's best exemplar."""
    example = load(source, neuron.exemplars[0].index)
    image = example.image
    pixels, area = map_input(target.preprocess, crop, image)
    cams, _ = explained_maps(target, crop, pixels[None], [example.label])
    (peak,), _ = peaks(cams)
    _, centre = target.preprocess.cut(image, MIDDLE, crop.field)
    _, attention = target.preprocess.cut(image, in_image(peak, area, image.size), crop.field)
    heat = np.zeros(image.size[::-1], np.float32)  # 0 outside the map
    left, top, right, bottom = (round(edge) for edge in area)
    size = right - left, bottom - top
    heat[top:bottom, left:right] = enlarged(np.nan_to_num(cams[0]), size)
    return BothViews(np.asarray(image), heat, centre, attention)
