"""The effect of a window's position, and the attention map that finds the best position.

In the embedded world the objects are anywhere, and their true boxes are known. All windows of a
size show the same share of an image: centre and random windows zoom just as attention's do, so only
the position makes a difference. The whole image is not a window, and has a separate row.
"""

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from jaxdesc.attention.cams import CAMS, GRAD_CAM
from jaxdesc.config import Config
from jaxdesc.evidence.table import NAMES, Cell, Measured, Table, differences, grouped, means
from jaxdesc.evidence.world import PROBES, SCENES, SETTING, on_probe, open_run
from jaxdesc.images.views import ATTENTION
from jaxdesc.models.architectures import load_target
from jaxdesc.models.encoder import Namer
from jaxdesc.models.namers import load_namer
from jaxdesc.models.target import Target
from jaxdesc.pipeline import Grid, run_networks, sweep
from jaxdesc.stages.run import Run

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
        slow: number of probe sets for Score-CAM, which runs the network once per channel.
    """

    probes: tuple[str, ...] = PROBES
    fields: tuple[float, ...] = FIELDS
    field: float = 0.65
    cams: tuple[str, ...] = tuple(name for name, cam in CAMS.items() if not cam.probabilities)
    kappas: tuple[float, ...] = (0.0, 16.0)
    exemplars: int = 16
    slow: int = 1

    def probes_of(self, cam: str) -> tuple[str, ...]:
        """The probe sets on which an attention map is measured."""
        return self.probes[: self.slow] if CAMS[cam].passes else self.probes


def tables(
    workdir: str | Path,
    study: Study | None = None,
    target: Target | None = None,
    clip: Namer | None = None,
) -> tuple[Table, ...]:
    """Measure everything that `workdir` does not hold yet, by default on the embedded world.

    Returns "windows" and "window differences", of windows of each size; "maps" and "map
    differences", of the attention maps.

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


def map_tables(run: Run, study: Study) -> tuple[Table, Table]:
    """Windows around the peaks of each attention map."""
    found, boxes = {}, {}
    for cam in study.cams:
        with_cam, probes = _cropped(run, cam=cam, field=study.field), study.probes_of(cam)
        by_view = _measured(with_cam, study, probes, (ATTENTION,))
        found[cam] = {kappa: measured for (_, kappa), measured in by_view.items()}
        runs = [on_probe(with_cam, probe) for probe in probes]
        boxes[cam] = [run_networks(each).activated.read("boxes") for each in runs]
    rows: list[tuple[Cell, ...]] = []
    gaps: list[tuple[Cell, ...]] = []
    for cam, by_kappa in found.items():
        sets = len(boxes[cam])
        pairs = zip(boxes[cam], boxes[GRAD_CAM], strict=False)
        same = float(np.concatenate([(a == b).all(axis=1) for a, b in pairs]).mean())
        for kappa, measured in by_kappa.items():
            rows.append((cam, kappa, *means(measured), same, sets))
            if cam != GRAD_CAM:
                usual = found[GRAD_CAM][kappa][:sets]
                gaps.append((cam, kappa, *differences(measured, usual), sets))
    names = tuple(NAMES.values())
    compared_by = tuple(f"{name}, cam − {GRAD_CAM}" for name in names)
    head = ("cam", "kappa", *names, "same window", "probe sets")
    return (
        Table("maps", head, tuple(rows)),
        Table("map differences", ("cam", "kappa", *compared_by, "p", "probe sets"), tuple(gaps)),
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
