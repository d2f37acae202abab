"""The figures of a run, from its files, artifacts and images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxdesc.attention.cams import CAMS
from jaxdesc.config import CropConfig, ScoreConfig
from jaxdesc.images.example import Source, load
from jaxdesc.images.views import map_input
from jaxdesc.images.windows import MIDDLE, in_image, peaks
from jaxdesc.models.target import Target
from jaxdesc.report import plots
from jaxdesc.report.files import Saved
from jaxdesc.report.page import Method
from jaxdesc.report.pictures import explained_maps
from jaxdesc.report.plots import Look, rendered, save, title_of
from jaxdesc.report.report import located
from jaxdesc.report.tables import similarity_name
from jaxdesc.result import Neuron
from jaxdesc.store import Artifact, Place

VIEWS = 5  # exemplars per neuron
LOOKS = 6  # images of the figure of both views


def draw(
    folder: Path,
    workdir: Path,
    runs: Sequence[Saved],
    source: Source,
    target: Target,
    units: Sequence[int],
) -> list[Path]:
    """Write every figure.

    Args:
        folder: the folder to write; numbered, as figures-2, if it holds other figures.
        workdir: working directory of the first run, whose artifacts are read.
        runs: the methods side by side.
        source: their images.
        target: network whose attention is shown.
        units: the neurons shown, each with an exemplar.

    Returns:
        The files.
    """
    run, crop, score = runs[0], runs[0].config.crop, runs[0].config.score
    results = [located(saved.result, source) for saved in runs]
    neurons = [results[0][unit] for unit in units]
    rows = [
        [(neuron, _views(neuron, source)) for neuron in (result[unit] for result in results)]
        for unit in units
    ]
    figure = plots.methods(rows, [Method.of(saved).name for saved in runs])
    same = rendered(figure)["svg"].__eq__
    folder = folder.with_name(Place(folder.parent).unused(folder.name, "/methods.svg", same))
    paths = save(figure, folder, "methods")

    looks = [_look(neuron, source, target, crop) for neuron in neurons[:LOOKS]]
    paths += save(plots.views(looks, CAMS[crop.cam].title), folder, "views")

    def array(stage: str, name: str) -> np.ndarray:
        artifact = Place(workdir / "artifacts" / run.result.fingerprints[stage])
        return Artifact(artifact, {}).read(name)

    marks = [[exemplar.activation for exemplar in neuron.exemplars] for neuron in neurons]
    values = array("activate", "activations")[:, list(units)]
    activations = plots.activations([title_of(neuron) for neuron in neurons], values, marks)
    paths += save(activations, folder, "activations")

    images, features = array("embed", "images"), array("embed", "features")
    concepts, base = array("encode", "features"), array("encode", "base")
    similarity = score.similarity, score.kappa
    if similarity_name(score.kappa, score.similarity) == "cosine":
        similarity = ScoreConfig.similarity, ScoreConfig.kappa  # the paper's, next to it
    for neuron in neurons:
        # The artifact has the indices that the images had when they were described.
        exemplars = [exemplar.index for exemplar in run.result[neuron.unit].exemplars]
        figure = plots.scores(
            title_of(neuron),
            features[np.searchsorted(images, exemplars)],
            concepts,
            base,
            *similarity,
            score.alpha,
        )
        paths += save(figure, folder, f"scores_{neuron.layer}_{neuron.unit}")
    return paths


def _views(neuron: Neuron, source: Source) -> list[np.ndarray]:
    best = neuron.exemplars[:VIEWS]
    return [plots.cut(load(source, e.index).image, e.box) for e in best]


def _look(neuron: Neuron, source: Source, target: Target, crop: CropConfig) -> Look:
    """A neuron's best exemplar, as the centre and as attention see it."""
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
    heat[top:bottom, left:right] = plots.enlarged(np.nan_to_num(cams[0]), size)
    return Look(np.asarray(image), heat, centre, attention)
