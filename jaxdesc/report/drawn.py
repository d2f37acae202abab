"""The figures of a run, from its files, artifacts and images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from jaxdesc.attention.saliency import TITLES
from jaxdesc.config import ScoreConfig
from jaxdesc.images.example import Box, Source, load
from jaxdesc.images.windows import MIDDLE, in_image, peaks
from jaxdesc.models.target import Target
from jaxdesc.report import plots
from jaxdesc.report.located import located
from jaxdesc.report.page import Method
from jaxdesc.report.pictures import attended, attention_maps
from jaxdesc.report.plots import Look, Row
from jaxdesc.report.saved import Saved
from jaxdesc.report.style import rendered, save
from jaxdesc.result import Neuron
from jaxdesc.store import Artifact, Place

VIEWS = 5  # exemplars a neuron
LOOKS = 6  # images of the figure of both views


def draw(
    folder: Path,
    workdir: Path,
    runs: Sequence[Saved],
    source: Source,
    target: Target,
    units: Sequence[int],
) -> list[Path]:
    """Write every figure that the runs have something for.

    Args:
        folder: where to; numbered, as figures-2, if it holds figures of other neurons or methods.
        workdir: of the first run, whose artifacts are read.
        runs: the methods side by side.
        source: of their images.
        target: where it looks.
        units: the neurons shown, each with an exemplar.

    Returns:
        The files.
    """
    results = [located(run.result, source) for run in runs]
    shown = [results[0][unit] for unit in units]
    rows = [[_row(result[unit], source) for result in results] for unit in units]
    names = [Method.of(run).name for run in runs]
    methods = plots.methods(rows, names)
    vector = rendered(methods)["svg"]
    folder = folder.with_name(
        Place(folder.parent).unused(folder.name, "/methods.svg", vector.__eq__)
    )
    paths = save(methods, folder, "methods")
    looks, map_name = _looks(runs[0], shown, source, target), TITLES[runs[0].config.crop.cam]
    paths += save(plots.views(looks, map_name), folder, "views")
    marked = [[exemplar.activation for exemplar in neuron.exemplars] for neuron in shown]
    values = _array(workdir, runs[0], "activate", "activations")[:, list(units)]
    titles = [_title(neuron) for neuron in shown]
    paths += save(plots.activations(titles, values, marked), folder, "activations")
    for neuron in shown:
        drawn = _scores(workdir, runs[0], runs[0].result[neuron.unit])
        paths += save(drawn, folder, f"scores_{neuron.layer}_{neuron.unit}")
    return paths


def _title(neuron: Neuron) -> str:
    label = f" {neuron.names[0]}" if neuron.names else ""
    return f"{neuron.layer}[{neuron.unit}]{label}"


def _row(neuron: Neuron, source: Source) -> Row:
    best = neuron.exemplars[:VIEWS]
    return Row(neuron, [plots.cut(load(source, e.index).image, e.box) for e in best])


def _looks(run: Saved, neurons: Sequence[Neuron], source: Source, target: Target) -> list[Look]:
    """The best exemplar of each neuron, as the centre and as attention see it."""
    crop, found = run.config.crop, []
    for neuron in neurons[:LOOKS]:
        example = load(source, neuron.exemplars[0].index)
        image = example.image
        pixels, area = attended(target, crop, image)
        cams, _ = attention_maps(target, crop, pixels[None], [example.label])
        (peak,), _ = peaks(cams)
        _, centre = target.preprocess.cut(image, MIDDLE, crop.field)
        _, attention = target.preprocess.cut(image, in_image(peak, area, image.size), crop.field)
        heat = _over(np.nan_to_num(cams[0]), area, image.size)
        found.append(Look(np.asarray(image), heat, centre, attention))
    return found


def _over(
    cam: Float[np.ndarray, "row column"], area: Box, size: tuple[int, int]
) -> Float[np.ndarray, "height width"]:
    """A map enlarged to the part of an image that it covers; elsewhere it is 0."""
    left, top, right, bottom = (round(edge) for edge in area)
    heat = np.zeros(size[::-1], np.float32)
    heat[top:bottom, left:right] = plots.enlarged(cam, (right - left, bottom - top))
    return heat


def _scores(workdir: Path, run: Saved, neuron: Neuron) -> Figure:
    images = _array(workdir, run, "embed", "images")
    features = _array(workdir, run, "embed", "features")
    rows = np.searchsorted(images, [exemplar.index for exemplar in neuron.exemplars])
    concepts, base = (_array(workdir, run, "encode", name) for name in ("features", "base"))
    score = run.config.score
    return plots.scores(
        _title(neuron),
        features[rows],
        concepts,
        base,
        score.kappa or ScoreConfig.kappa,
        score.alpha,
    )


def _array(workdir: Path, run: Saved, stage: str, name: str) -> np.ndarray:
    place = Place(workdir / "artifacts" / run.result.fingerprints[stage])
    return Artifact(place, {}).read(name)
