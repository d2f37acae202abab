"""The effect of a window's position, and the attention map that finds the best position.

In the embedded world the objects are anywhere, and their true boxes are known. All windows of a
size show the same share of an image: centre and random windows zoom just as attention's do, so only
the position makes a difference. The whole image is not a window, and has a separate row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxdesc.attention.cams import CAMS, DEFAULT, attend
from jaxdesc.config import Config
from jaxdesc.evaluation.localisation import Localisation, localisation
from jaxdesc.evaluation.statistics import bootstrap, paired
from jaxdesc.evidence.table import NAMES, Cell, Measured, Table, differences, grouped, means
from jaxdesc.evidence.world import PROBES, SCENES, SETTING, on_probe, open_run
from jaxdesc.images.example import Example, Source
from jaxdesc.images.loader import batches, padded
from jaxdesc.images.views import ATTENTION
from jaxdesc.models.architectures import load_target
from jaxdesc.models.encoder import Namer
from jaxdesc.models.namers import load_namer
from jaxdesc.models.target import Target
from jaxdesc.pipeline import Grid, run_networks, sweep
from jaxdesc.stages.run import Run
from jaxdesc.store import Draft

FIELDS = (0.35, 0.5, 0.65, 0.8, 224 / 256, 1.0)
VIEWS = ("centre", ATTENTION, "random", "box")
WHOLE = "full"
AGAINST = ("centre", "random", "box", WHOLE)  # what attention's windows are compared with


@dataclass(frozen=True)
class Study:
    """Sizes of the study; the defaults are those of the page.

    Attributes:
        probes: sets of scenes, over which each neuron's metrics are averaged.
        fields: sides of the windows, as shares of the images' shorter side.
        field: side of the windows by which the attention maps are compared.
        cams: attention maps, Grad-CAM among them.
        exemplars: per neuron.
        slow: for Score-CAM, which runs the network once per channel, 128 times: the number of probe
            sets, and of images in each whose maps are compared with their boxes.
    """

    probes: tuple[str, ...] = PROBES
    fields: tuple[float, ...] = FIELDS
    field: float = 0.65
    cams: tuple[str, ...] = tuple(name for name, cam in CAMS.items() if not cam.probabilities)
    kappas: tuple[float, ...] = (0.0, 16.0)
    exemplars: int = 16
    slow: tuple[int, int] = (1, 160)

    def probes_of(self, cam: str) -> tuple[str, ...]:
        """The probe sets on which an attention map is measured."""
        return self.probes[: self.slow[0]] if cam == "score_cam" else self.probes

    def images_of(self, cam: str, source: Source) -> int:
        """Images of a probe set whose attention maps are compared with the boxes."""
        return min(len(source), self.slow[1]) if cam == "score_cam" else len(source)


def tables(
    workdir: str | Path,
    study: Study | None = None,
    target: Target | None = None,
    clip: Namer | None = None,
) -> tuple[Table, ...]:
    """Measure everything that `workdir` does not hold yet, by default on the embedded world.

    Returns "windows" and "window differences", of windows of each size; "maps", "map differences"
    and "localisation", of the attention maps.

    Raises:
        InputError: as `pipeline.run_networks`.
    """
    study = study or Study()
    networks = target or load_target(SCENES), clip or load_namer(SCENES)
    run = open_run(workdir, setting(study), *networks)
    with run.store.held():
        return (*window_tables(run, study), *map_tables(run, study))


def setting(study: Study) -> Config:
    """Config of the study's run on the first probe set."""
    return replace(
        SETTING,
        images=replace(SETTING.images, source=study.probes[0]),
        crop=replace(SETTING.crop, field=study.field),
        score=replace(SETTING.score, exemplars=study.exemplars),
    )


def window_tables(run: Run, study: Study) -> tuple[Table, Table]:
    """Windows of each size and place, and attention's compared with the others of its size."""
    found: dict[tuple[float | None, str, float], Measured] = {
        (field, view, kappa): measured
        for field in study.fields
        for (view, kappa), measured in _measured(
            _cropped(run, field=field), study, study.probes, VIEWS
        ).items()
    }
    # The whole image is the same view for every field.
    whole = _measured(_cropped(run, field=study.field), study, study.probes, (WHOLE,))
    found |= {(None, view, kappa): measured for (view, kappa), measured in whole.items()}
    rows: list[tuple[Cell, ...]] = [
        (field, view, kappa, *means(measured), len(study.probes))
        for (field, view, kappa), measured in found.items()
    ]
    gaps: list[tuple[Cell, ...]] = []
    for field, other, kappa in product(study.fields, AGAINST, study.kappas):
        against = found[None if other == WHOLE else field, other, kappa]
        compared = differences(found[field, ATTENTION, kappa], against)
        gaps.append((field, other, kappa, *compared, len(study.probes)))
    where, names = ("field", "view", "kappa"), tuple(NAMES.values())
    compared_by = tuple(f"{name}, attention − view" for name in names)
    return (
        Table("windows", (*where, *names, "probe sets"), tuple(rows)),
        Table("window differences", (*where, *compared_by, "p", "probe sets"), tuple(gaps)),
    )


def map_tables(run: Run, study: Study) -> tuple[Table, Table, Table]:
    """Windows around the peaks of each attention map, and how well the maps find the boxes."""
    found, boxes, looks = {}, {}, {}
    for cam in study.cams:
        with_cam, probes = _cropped(run, cam=cam, field=study.field), study.probes_of(cam)
        by_view = _measured(with_cam, study, probes, (ATTENTION,))
        found[cam] = {kappa: measured for (_, kappa), measured in by_view.items()}
        runs = [on_probe(with_cam, probe) for probe in probes]
        boxes[cam] = [run_networks(each).activated.read("boxes") for each in runs]
        looks[cam] = [_look(each, cam, study.images_of(cam, each.inputs.source)) for each in runs]
    rows: list[tuple[Cell, ...]] = []
    gaps: list[tuple[Cell, ...]] = []
    for cam, by_kappa in found.items():
        sets = len(boxes[cam])
        pairs = zip(boxes[cam], boxes[DEFAULT], strict=False)
        same = float(np.concatenate([(a == b).all(axis=1) for a, b in pairs]).mean())
        for kappa, measured in by_kappa.items():
            rows.append((cam, kappa, *means(measured), same, sets))
            if cam != DEFAULT:
                usual = found[DEFAULT][kappa][:sets]
                gaps.append((cam, kappa, *differences(measured, usual), sets))
    names = tuple(NAMES.values())
    compared_by = tuple(f"{name}, cam − {DEFAULT}" for name in names)
    head = ("cam", "kappa", *names, "same window", "probe sets")
    return (
        Table("maps", head, tuple(rows)),
        Table("map differences", ("cam", "kappa", *compared_by, "p", "probe sets"), tuple(gaps)),
        _localised(looks),
    )


def _cropped(run: Run, **crop: Any) -> Run:
    return replace(run, config=replace(run.config, crop=replace(run.config.crop, **crop)))


def _measured(
    run: Run, study: Study, probes: tuple[str, ...], views: tuple[str, ...]
) -> dict[tuple[str, float], Measured]:
    """Metrics of each view and κ on the probe sets."""
    score = run.config.score
    grid = Grid(study.kappas, (score.alpha,), (score.exemplars,), views, probes)
    return grouped(sweep(run, grid), "view", "kappa")


def _look(run: Run, cam: str, count: int) -> Localisation:
    """Score a map against the boxes of a probe set's images; kept as an artifact."""
    target, source, size = run.inputs.target, run.inputs.source, run.config.images.batch
    inputs: dict[str, Any] = {"target": target.fingerprint, "source": source.fingerprint()}
    inputs |= {"cam": cam, "images": count, "batch": size}

    def compute(draft: Draft) -> None:
        found = localisation(*_maps_and_boxes(target, source, cam, count, size))
        for name, values in found._asdict().items():
            draft.write(name, np.asarray(values, np.float64))

    kept = run.stage("localise", inputs, compute)
    return Localisation(*(kept.read(name) for name in Localisation._fields))


def _maps_and_boxes(
    target: Target, source: Source, cam: str, count: int, size: int
) -> tuple[Float[np.ndarray, "image row column"], Float[np.ndarray, "image 4"]]:
    """Maps of whole images, and their boxes as fractions of the image."""

    def prepare(_: int, example: Example) -> tuple[np.ndarray, np.ndarray]:
        box = np.asarray(example.box, np.float64) / (example.image.size * 2)
        return target.preprocess.squash(example.image), box

    maps, boxes = [], []
    for chunk in batches(source, range(count), prepare, size):
        pixels, inside = zip(*chunk, strict=True)
        views = padded(np.stack(pixels), size)
        maps.append(np.asarray(attend(target, views, None, cam)[0])[: len(chunk)])
        boxes.append(np.stack(inside))
    return np.concatenate(maps), np.concatenate(boxes)


def _localised(looks: Mapping[str, Sequence[Localisation]]) -> Table:
    """Each map's shares, and their differences to Grad-CAM's on the same images."""
    rows: list[tuple[Cell, ...]] = []
    for cam, sets in looks.items():
        found = _joined(sets)
        # The images of a slow map are the first of the first probe sets.
        pairs = zip(sets, looks[DEFAULT], strict=False)
        usual = _joined([[v[: len(look.chance)] for v in other] for look, other in pairs])
        mapped = ~np.isnan(found.energy)
        both = mapped & ~np.isnan(usual.energy)
        shares = found.pointing, found.energy[mapped], found.chance
        compared: tuple[Cell, ...] = (None, None)
        if cam != DEFAULT:
            energies = paired(found.energy[both], usual.energy[both])
            compared = paired(found.pointing, usual.pointing), energies
        empty = float((~mapped).mean())
        rows.append((cam, *map(bootstrap, shares), *compared, empty, len(mapped)))
    compared_by = tuple(f"{name}, cam − {DEFAULT}" for name in ("pointing", "energy"))
    columns = ("cam", *Localisation._fields, *compared_by, "without a map", "images")
    return Table("localisation", columns, tuple(rows))


def _joined(sets: Sequence[Sequence[np.ndarray]]) -> Localisation:
    return Localisation(*(np.concatenate(parts) for parts in zip(*sets, strict=True)))
