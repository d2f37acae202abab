"""Does it matter where the window lies, and which map of attention finds the place best?

In the embedded world the objects lie anywhere, and their true boxes are known. All windows of a
size show as much of an image: centre and random windows zoom just as attention's do, so that what
sets these apart is the place alone. The whole image is no window, and a row of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from jaxdesc.ablation import ablate
from jaxdesc.attention.cams import CAMS, DEFAULT, attend
from jaxdesc.config import AblationConfig, Config
from jaxdesc.evaluation.localisation import localisation
from jaxdesc.evaluation.statistics import Bounds, bootstrap, paired
from jaxdesc.evidence.measured import NAMES, Measured, differences, means
from jaxdesc.evidence.table import Cell, Table
from jaxdesc.evidence.world import PROBES, SCENES, SETTING, open_run
from jaxdesc.images.example import Example, Source
from jaxdesc.images.loader import batches, padded
from jaxdesc.images.sources import open_source
from jaxdesc.images.views import ATTENTION
from jaxdesc.models.encoder import ClipEncoder, load_clip
from jaxdesc.models.target import Target, load_target
from jaxdesc.pipeline import describe
from jaxdesc.stages.run import Run
from jaxdesc.store import Artifact, Draft
from jaxdesc.vocabulary.vocabulary import load_vocabulary

FIELDS = (0.35, 0.5, 0.65, 0.8, 224 / 256, 1.0)
VIEWS = ("centre", ATTENTION, "random", "box")
WHOLE = "full"
AGAINST = ("centre", "random", "box", WHOLE)  # what attention's windows are compared with


@dataclass(frozen=True)
class Study:
    """What is measured; the defaults are those of the page.

    Attributes:
        probes: sets of scenes, over which each neuron's metrics are averaged.
        fields: sides of the windows, as shares of the images' shorter side.
        field: of the windows that the maps of attention are compared by.
        cams: maps of attention, the one that the others are compared with among them.
        kappas: concentrations κ.
        exemplars: of each neuron.
        slow: probe sets, and images of each whose maps are compared with their boxes, of Score-CAM,
            which runs the network once for each of its 128 channels.
    """

    probes: tuple[str, ...] = PROBES
    fields: tuple[float, ...] = FIELDS
    field: float = 0.65
    cams: tuple[str, ...] = tuple(CAMS)
    kappas: tuple[float, ...] = (0.0, 16.0)
    exemplars: int = 16
    slow: tuple[int, int] = (1, 160)

    def probes_of(self, cam: str) -> tuple[str, ...]:
        """The probe sets on which a map of attention is measured."""
        return self.probes[: self.slow[0]] if cam == "score_cam" else self.probes

    def images_of(self, cam: str, source: Source) -> int:
        """How many of a probe set's images have their maps of attention compared with the boxes."""
        return min(len(source), self.slow[1]) if cam == "score_cam" else len(source)


class _Looks(NamedTuple):
    """How well the maps of some images find the boxes, one value an image."""

    pointing: Float64[np.ndarray, " image"]
    energy: Float64[np.ndarray, " image"]
    chance: Float64[np.ndarray, " image"]


def tables(
    workdir: str | Path,
    study: Study | None = None,
    target: Target | None = None,
    clip: ClipEncoder | None = None,
) -> tuple[Table, ...]:
    """Measure it all, and read what a working directory holds of it.

    Args:
        workdir: of the artifacts.
        study: what is measured.
        target: the network; the embedded world's where None.
        clip: compares views with concepts, and judges them; the embedded world's where None.

    Returns:
        "windows" and "window differences", of windows of each size; "maps", "map differences" and
        "localisation", of the maps of attention.

    Raises:
        InputError: as `pipeline.describe`.
    """
    study = study or Study()
    networks = target or load_target(SCENES), clip or load_clip(SCENES)
    run = open_run(workdir, setting(study), *networks)
    with run.store.held():
        return (*window_tables(run, study), *map_tables(run, study))


def setting(study: Study) -> Config:
    """The choices of the run that a study is made of, on the first probe set."""
    return replace(
        SETTING,
        images=replace(SETTING.images, source=study.probes[0]),
        crop=replace(SETTING.crop, field=study.field),
        score=replace(SETTING.score, exemplars=study.exemplars),
    )


def window_tables(run: Run, study: Study) -> tuple[Table, Table]:
    """Windows of each size and place; attention's beside the others of its size."""
    found: dict[tuple[float | None, str, float], Measured] = {
        (field, view, kappa): own
        for field in study.fields
        for (view, kappa), own in _measured(run, study.probes, VIEWS, field, study).items()
    }
    # The whole image is no window: whatever the field, it is the same view.
    whole = _measured(run, study.probes, (WHOLE,), study.field, study)
    found |= {(None, view, kappa): own for (view, kappa), own in whole.items()}
    rows: list[tuple[Cell, ...]] = [
        (field, view, kappa, *means(own), len(study.probes))
        for (field, view, kappa), own in found.items()
    ]
    gaps: list[tuple[Cell, ...]] = []
    for field, other, kappa in product(study.fields, AGAINST, study.kappas):
        against = found[None if other == WHOLE else field, other, kappa]
        compared = differences(found[field, ATTENTION, kappa], against)
        gaps.append((field, other, kappa, *compared, len(study.probes)))
    names = tuple(NAMES.values())
    compared_by = tuple(f"{name}, attention − view" for name in names)
    return (
        Table("windows", ("field", "view", "kappa", *names, "probe sets"), tuple(rows)),
        Table(
            "window differences",
            ("field", "view", "kappa", *compared_by, "p", "probe sets"),
            tuple(gaps),
        ),
    )


def map_tables(run: Run, study: Study) -> tuple[Table, Table, Table]:
    """Windows around the peaks of each map of attention, and how well the maps find the boxes."""
    found = {cam: _of_cam(run, study, cam) for cam in study.cams}
    boxes = {cam: _boxes(run, study, cam) for cam in study.cams}
    looks = {cam: _looks(run, study, cam) for cam in study.cams}
    rows: list[tuple[Cell, ...]] = []
    gaps: list[tuple[Cell, ...]] = []
    for cam, by_kappa in found.items():
        sets = len(study.probes_of(cam))
        same = np.concatenate(
            [(a == b).all(axis=1) for a, b in zip(boxes[cam], boxes[DEFAULT], strict=False)]
        )
        for kappa, own in by_kappa.items():
            usual = found[DEFAULT][kappa][:sets]
            rows.append((cam, kappa, *means(own), float(same.mean()), sets))
            if cam != DEFAULT:
                gaps.append((cam, kappa, *differences(own, usual), sets))
    names = tuple(NAMES.values())
    compared_by = tuple(f"{name}, cam − {DEFAULT}" for name in names)
    return (
        Table("maps", ("cam", "kappa", *names, "same window", "probe sets"), tuple(rows)),
        Table(
            "map differences",
            ("cam", "kappa", *compared_by, "p", "probe sets"),
            tuple(gaps),
        ),
        _localised(looks),
    )


def _measured(
    run: Run, probes: Sequence[str], views: tuple[str, ...], field: float, study: Study
) -> Mapping[tuple[str, float], Measured]:
    """Each view's metrics at each κ; all views of a probe set are cut in one pass."""
    own = replace(run.config.crop, view=views[0], field=field)
    options = AblationConfig(views=views, kappas=study.kappas, probes=tuple(probes))
    config = replace(run.config, crop=own, ablation=options)
    found: dict[tuple[str, float], list[Mapping[str, np.ndarray]]] = {}
    for cell in ablate(replace(run, config=config), open_source, load_vocabulary):
        found.setdefault((cell.view, cell.kappa), []).append(cell.metrics.values)
    return found


def _with_cam(run: Run, cam: str) -> Run:
    return replace(run, config=replace(run.config, crop=replace(run.config.crop, cam=cam)))


def _of_cam(run: Run, study: Study, cam: str) -> dict[float, Measured]:
    views, probes = (ATTENTION,), study.probes_of(cam)
    found = _measured(_with_cam(run, cam), probes, views, study.field, study)
    return {kappa: own for (_, kappa), own in found.items()}


def _on(run: Run, probe: str) -> Run:
    """The same run on another probe set."""
    config = replace(run.config, images=replace(run.config.images, source=probe))
    inputs = replace(run.inputs, source=open_source(probe))
    return replace(run, config=config, inputs=inputs)


def _boxes(run: Run, study: Study, cam: str) -> list[Float[np.ndarray, "image 4"]]:
    """The windows of each probe set's images, as the runs have left them."""
    found = []
    for probe in study.probes_of(cam):
        name = describe(_on(_with_cam(run, cam), probe)).fingerprints["activate"]
        found.append(Artifact(run.store.root.at(name), {}).read("boxes"))
    return found


def _looks(run: Run, study: Study, cam: str) -> list[_Looks]:
    """How well a map finds the boxes of each probe set's images; kept as an artifact."""
    found = []
    for probe in study.probes_of(cam):
        own = _on(run, probe)
        count = study.images_of(cam, own.inputs.source)
        kept = _kept_look(own, cam, count)
        found.append(_Looks(*(kept.read(name) for name in _Looks._fields)))
    return found


def _kept_look(run: Run, cam: str, count: int) -> Artifact:
    target, source, size = run.inputs.target, run.inputs.source, run.config.images.batch
    inputs = {
        "target": target.fingerprint,
        "source": source.fingerprint(),
        "cam": cam,
        "images": count,
        "batch": size,
    }

    def compute(draft: Draft) -> None:
        maps, boxes = _maps_and_boxes(target, source, cam, count, size)
        found = localisation(maps, boxes)
        for name in _Looks._fields:
            draft.write(name, np.asarray(getattr(found, name), np.float64))

    return run.stage("localise", inputs, compute)


def _maps_and_boxes(
    target: Target, source: Source, cam: str, count: int, size: int
) -> tuple[Float[np.ndarray, "image row column"], Float[np.ndarray, "image 4"]]:
    """The maps of whole images, and their boxes as fractions of them."""

    def prepare(index: int, example: Example) -> tuple[np.ndarray, np.ndarray]:
        del index
        image = example.image
        scale = (image.width, image.height, image.width, image.height)
        return target.preprocess.squash(image), np.asarray(example.box, np.float64) / scale

    maps, boxes = [], []
    for chunk in batches(source, range(count), prepare, size):
        pixels, own = zip(*chunk, strict=True)
        views = padded(np.stack(pixels), size)
        maps.append(np.asarray(attend(target, views, None, cam)[0])[: len(chunk)])
        boxes.append(np.stack(own))
    return np.concatenate(maps), np.concatenate(boxes)


def _localised(looks: Mapping[str, Sequence[_Looks]]) -> Table:
    """Each map's shares, and their differences to Grad-CAM's on the same images."""
    rows: list[tuple[Cell, ...]] = []
    for cam, sets in looks.items():
        # The images of a slow map are the first of the first probe sets.
        usual = [
            _Looks(*(values[: len(own.chance)] for values in other))
            for own, other in zip(sets, looks[DEFAULT], strict=False)
        ]
        own, other = _together(sets), _together(usual)
        empty = np.isnan(own.energy)
        means = bootstrap(own.pointing), bootstrap(own.energy[~empty]), bootstrap(own.chance)
        compared = (None, None) if cam == DEFAULT else _further(own, other)
        rows.append((cam, *means, *compared, float(empty.mean()), len(empty)))
    shares = ("pointing", "energy", "chance")
    compared_by = tuple(f"{name}, cam − {DEFAULT}" for name in shares[:2])
    columns = ("cam", *shares, *compared_by, "without a map", "images")
    return Table("localisation", columns, tuple(rows))


def _together(sets: Sequence[_Looks]) -> _Looks:
    return _Looks(*(np.concatenate(parts) for parts in zip(*sets, strict=True)))


def _further(first: _Looks, second: _Looks) -> tuple[Bounds, Bounds]:
    """How much further one map gets than another on the same images, where both have energy."""
    both = ~np.isnan(first.energy) & ~np.isnan(second.energy)
    return (
        paired(first.pointing, second.pointing),
        paired(first.energy[both], second.energy[both]),
    )
