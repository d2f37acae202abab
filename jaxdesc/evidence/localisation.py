"""Attention maps of a ResNet and of a vision transformer, against true boxes.

Both classify the same scenes. The ResNet's maps have 4 × 4 cells and the transformer's 10 × 10.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxdesc.attention.cams import CAMS, GRAD_CAM, attend, cam_fingerprint, check_cam
from jaxdesc.evaluation.localisation import Localisation, localisation
from jaxdesc.evaluation.statistics import bootstrap, paired
from jaxdesc.evidence.table import Cell, Table
from jaxdesc.evidence.world import PROBES, SCENES, SETTING, on_probe, open_run
from jaxdesc.images.example import Example, Source
from jaxdesc.images.loader import batches, padded
from jaxdesc.models.architectures import load_target
from jaxdesc.models.namers import load_clip
from jaxdesc.models.target import Target
from jaxdesc.stages.run import Run
from jaxdesc.store import Draft

NETWORKS = {"ResNet": SCENES, "ViT": f"{SCENES}:vit"}
# CAM needs a head that is linear in a mean, and Score-CAM takes a pass per channel.
MAPS = {
    "ResNet": tuple(name for name, cam in CAMS.items() if not cam.probabilities),
    "ViT": (GRAD_CAM, "grad_cam_pp", "layer_cam", "legrad", "class_attention"),
}


@dataclass(frozen=True)
class Study:
    """Sizes of the study; the defaults are those of the page.

    Attributes:
        probes: sets of scenes.
        slow: for Score-CAM, which runs the network once per channel: the number of probe sets, and
            of images in each.
    """

    probes: tuple[str, ...] = PROBES
    slow: tuple[int, int] = (1, 160)


def tables(
    workdir: str | Path,
    study: Study | None = None,
    targets: Mapping[str, Target] | None = None,
    maps: Mapping[str, Sequence[str]] = MAPS,
) -> tuple[Table]:
    """Return "localisation", how well the maps of each network find the objects' boxes.

    Measures what `workdir` does not hold yet, by default on the embedded world's classifiers.

    Raises:
        InputError: a map does not suit its network.
    """
    study, clip = study or Study(), load_clip(SCENES)
    rows: list[tuple[Cell, ...]] = []
    for network, target in (targets or _classifiers()).items():
        run = open_run(workdir, SETTING, target, clip)
        with run.store.held():
            looks = {cam: _looks(run, cam, study) for cam in maps[network]}
        rows += [(network, *row) for row in _compared(looks)]
    compared_by = tuple(f"{name}, cam − {GRAD_CAM}" for name in ("pointing", "energy"))
    columns = ("network", "cam", *Localisation._fields, *compared_by, "without a map", "images")
    return (Table("localisation", columns, tuple(rows)),)


def _classifiers() -> dict[str, Target]:
    return {name: load_target(source) for name, source in NETWORKS.items()}


def _looks(run: Run, cam: str, study: Study) -> list[Localisation]:
    """Score a map against the boxes of each probe set's images; kept as artifacts."""
    check_cam(run.inputs.target, cam)
    sets, most = study.slow if CAMS[cam].passes else (len(study.probes), None)
    return [_look(on_probe(run, probe), cam, most) for probe in study.probes[:sets]]


def _look(run: Run, cam: str, most: int | None) -> Localisation:
    target, source, size = run.inputs.target, run.inputs.source, run.config.images.batch
    count = min(len(source), most or len(source))
    inputs: dict[str, Any] = {"target": target.fingerprint, "source": source.fingerprint()}
    inputs |= {"cam": cam_fingerprint(target, cam), "images": count, "batch": size}

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


def _compared(looks: Mapping[str, Sequence[Localisation]]) -> list[tuple[Cell, ...]]:
    """Each map's shares, and their differences to Grad-CAM's on the same images."""
    rows: list[tuple[Cell, ...]] = []
    for cam, sets in looks.items():
        found = _joined(sets)
        # The images of a slow map are the first of the first probe sets.
        pairs = zip(sets, looks[GRAD_CAM], strict=False)
        usual = _joined([[v[: len(look.chance)] for v in other] for look, other in pairs])
        mapped = ~np.isnan(found.energy)
        both = mapped & ~np.isnan(usual.energy)
        shares = found.pointing, found.energy[mapped], found.chance
        compared: tuple[Cell, ...] = (None, None)
        if cam != GRAD_CAM:
            energies = paired(found.energy[both], usual.energy[both])
            compared = paired(found.pointing, usual.pointing), energies
        empty = float((~mapped).mean())
        rows.append((cam, *map(bootstrap, shares), *compared, empty, len(mapped)))
    return rows


def _joined(sets: Sequence[Sequence[np.ndarray]]) -> Localisation:
    return Localisation(*(np.concatenate(parts) for parts in zip(*sets, strict=True)))
