"""Windows of the predicted class and of the unit: which of them names units better.

Units with known names: the logits of the attribute network, of the classifier, and of the vision
transformer that classifies the same scenes; and sparse ones, which fire on few images, as the
latents of a dictionary do. Defaults were chosen on validation worlds, before the
probe worlds were looked at; both are in the tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float

from jaxdesc.attention.units import weights_at_once
from jaxdesc.evaluation.statistics import bootstrap, paired
from jaxdesc.evidence.table import Cell, Table, grouped
from jaxdesc.evidence.world import PROBES, SETTING, open_run
from jaxdesc.images.example import Example
from jaxdesc.images.loader import batches
from jaxdesc.images.sources import open_source
from jaxdesc.models.architectures import load_target
from jaxdesc.models.encoder import Namer
from jaxdesc.models.namers import load_clip
from jaxdesc.models.taps import Apply, Tap, recorded, untouched
from jaxdesc.models.target import LOGITS, Target
from jaxdesc.pipeline import Grid, sweep
from jaxdesc.runtime.compiler import contraction
from jaxdesc.scenes.attributes import ATTRIBUTES, KINDS
from jaxdesc.stages.run import Run

FIELDS = (0.35, 0.5, 0.65, 0.8, 224 / 256, 1.0)
KAPPAS = (0.0, 16.0)
SPARSE, FIRING = "sparse", 0.05  # share of images on which a sparse unit fires
NETWORKS = {
    "attributes": "scenes:attributes",
    SPARSE: "scenes:attributes",
    "classes": "scenes",
    "ViT": "scenes:vit",
}
WORLDS = {
    "validation": tuple(f"scenes:split=validation,seed={seed},count=640" for seed in range(1, 4)),
    "probe": PROBES,
}
# Changes of the config, by what the window is of.
CLASS, WHOLE, ALL = "class", "whole image", "all"
UNIT = {"crop": {"view": "attention", "of": "unit"}}
WINDOWS: dict[str, dict[str, dict[str, Any]]] = {
    CLASS: {"crop": {"view": "attention"}},
    "class and whole image": {"crop": {"view": "attention"}, "clip": {"input": "both"}},
    "unit": UNIT,
    "unit, ranked by image": {"crop": {**UNIT["crop"], "rank": "image"}},
    "unit and whole image": {**UNIT, "clip": {"input": "both"}},
    "centre": {"crop": {"view": "centre"}},
    "random": {"crop": {"view": "random"}},
    "box": {"crop": {"view": "box"}},
}

# Hits [probe set, unit] of a network's units by (field, window, kappa); no field for whole images.
Hits = Mapping[tuple[float | None, str, float], Float[np.ndarray, "probe unit"]]


def tables(
    workdir: str | Path,
    *,
    worlds: Mapping[str, Sequence[str]] = WORLDS,
    networks: Mapping[str, str] = NETWORKS,
    fields: Sequence[float] = FIELDS,
) -> tuple[Table, Table]:
    """Return "unit windows" and "unit differences", measuring what `workdir` does not hold yet.

    The first has the Hit Rate of each kind of window, by kind of attribute, each unit averaged over
    the probe sets; the second the differences from the class's windows and from the whole image,
    paired over units.

    Raises:
        InputError: as `pipeline.run_networks`.
    """
    clip = load_clip("scenes")
    rows: list[tuple[Cell, ...]] = []
    gaps: list[tuple[Cell, ...]] = []
    for world, probes in worlds.items():
        for network, source in networks.items():
            target = load_target(source)
            if network == SPARSE:
                target = sparse(target, WORLDS["validation"][0])
            hits = _hits(workdir, clip, target, probes, fields)
            kinds = _kinds(network)
            for (field, window, kappa), found in hits.items():
                each = found.mean(axis=0)
                shares = (bootstrap(each[kind]) if kind.any() else None for kind in kinds.values())
                rows.append((world, network, field, window, kappa, *shares))
            gaps += [(world, network, *gap) for gap in _gaps(hits)]
    where = ("world", "network", "field", "window", "kappa")
    return (
        Table("unit windows", (*where, *ATTRIBUTES, ALL), tuple(rows)),
        Table("unit differences", (*where, f"− {CLASS}", f"− {WHOLE}"), tuple(gaps)),
    )


def sparse(network: Target, images: str) -> Target:
    """Return a network whose logits are the largest values of another's in any cell, if large.

    That is the maximum over the cells of relu(w · a − τ), a being a cell of the last layer, w the
    weights of a logit, and τ such that a unit fires on `FIRING` of some images.
    """
    weights = weights_at_once(network, (LOGITS,), "mean", "cam")[LOGITS]
    source, found = open_source(images), []
    for chunk in batches(source, range(len(source)), partial(_squashed, network), 64):
        every = _Sparse(network.apply, network.attention_layer)
        pixels = network.preprocess.normalise(np.stack(chunk))
        found.append(every.cells(network.params, weights, pixels, untouched).max(axis=(1, 2)))
    threshold = np.quantile(np.concatenate(found), 1 - FIRING, axis=0).astype(np.float32)
    return Target(
        params={"network": network.params, "weights": weights, "threshold": threshold},
        apply=_Sparse(network.apply, network.attention_layer),
        preprocess=network.preprocess,
        classes=network.classes,
        name="sparse",
        attention="latents",
    )


def _squashed(network: Target, index: int, example: Example) -> np.ndarray:
    del index
    return network.preprocess.squash(example.image)


@dataclass(frozen=True)
class _Sparse:
    """The network of `sparse`, by the other's function and its last layer."""

    apply: Apply
    last: str

    def cells(self, params: Any, weights: Any, pixels: Any, tap: Tap) -> Any:
        """Return the logits of each cell [B, row, column, unit], without their bias."""
        _, values = recorded(partial(self._tapped, tap), params, pixels, (self.last,))
        return contraction("bhwc,cu->bhwu", values[self.last], weights)

    def _tapped(self, outer: Tap, params: Any, pixels: Any, inner: Tap) -> Any:
        return self.apply(params, pixels, lambda name, x: inner(name, outer(name, x)))

    def __call__(self, params: Any, pixels: Any, tap: Tap) -> Any:
        cells = self.cells(params["network"], params["weights"], pixels, tap)
        return tap("latents", jax.nn.relu(cells - params["threshold"][None, None, None])).max(
            axis=(1, 2)
        )


def _kinds(network: str) -> dict[str, Bool[np.ndarray, " unit"]]:
    if network in ("attributes", SPARSE):
        every = np.ones(len(KINDS), bool)
        return {**{kind: np.equal(KINDS, kind) for kind in ATTRIBUTES}, ALL: every}
    classes = np.ones(len(ATTRIBUTES["class"]), bool)
    return {**dict.fromkeys(ATTRIBUTES, ~classes), "class": classes, ALL: classes}


def _hits(
    workdir: str | Path, clip: Namer, target: Target, probes: Sequence[str], fields: Sequence[float]
) -> Hits:
    config = replace(SETTING, target=replace(SETTING.target, source=target.name))
    config = replace(config, images=replace(config.images, source=probes[0]))
    run = open_run(workdir, config, target, clip)
    found: dict[tuple[float | None, str, float], np.ndarray] = {}
    with run.store.held():
        for field in fields:
            for window, changes in WINDOWS.items():
                changed = _changed(run, changes, field)
                found |= {(field, window, k): v for k, v in _swept(changed, probes).items()}
        whole = _changed(run, {"crop": {"view": "full"}}, fields[0])
        found |= {(None, WHOLE, kappa): hits for kappa, hits in _swept(whole, probes).items()}
    return found


def _changed(run: Run, changes: Mapping[str, Mapping[str, Any]], field: float) -> Run:
    config = run.config
    for group, options in changes.items():
        config = replace(config, **{group: replace(getattr(config, group), **options)})
    return replace(run, config=replace(config, crop=replace(config.crop, field=field)))


def _swept(run: Run, probes: Sequence[str]) -> dict[float, Float[np.ndarray, "probe unit"]]:
    score = run.config.score
    views = (run.config.crop.view,)
    grid = Grid(KAPPAS, (score.alpha,), (score.exemplars,), views, tuple(probes))
    measured = grouped(sweep(run, grid), "kappa")
    return {kappa: np.array([each["hit"] for each in sets]) for (kappa,), sets in measured.items()}


def _gaps(hits: Hits) -> list[tuple[Cell, ...]]:
    gaps: list[tuple[Cell, ...]] = []
    for (field, window, kappa), found in hits.items():
        if window in (CLASS, WHOLE):
            continue
        each = found.mean(axis=0)
        others = hits[field, CLASS, kappa], hits[None, WHOLE, kappa]
        compared = (paired(each, other.mean(axis=0)) for other in others)
        gaps.append((field, window, kappa, *compared))
    for field in dict.fromkeys(field for field, *_ in hits if field is not None):
        for kappa in KAPPAS:
            each, whole = (
                hits[where].mean(axis=0) for where in ((field, CLASS, kappa), (None, WHOLE, kappa))
            )
            gaps.append((field, CLASS, kappa, None, paired(each, whole)))
    return gaps
