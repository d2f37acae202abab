"""Activate: every neuron's activation on the view of every image."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Array

from jaxdesc.config import TargetConfig
from jaxdesc.errors import InputError
from jaxdesc.evaluation.top1 import Top1
from jaxdesc.images.example import Source
from jaxdesc.images.loader import even
from jaxdesc.images.views import Batch, cut_views, relevant_options
from jaxdesc.models.target import Target
from jaxdesc.result import Skipped
from jaxdesc.runtime.ahead import ahead
from jaxdesc.runtime.device import Watch
from jaxdesc.runtime.mesh import device_count, local_mesh
from jaxdesc.stages.run import Run
from jaxdesc.store import Artifact, Draft, Shards


def activate(run: Run) -> Artifact:
    """Cut every image's view and record every neuron's activation on it.

    The other views of an ablation are cut in the same pass.

    Arrays: activations [I, N], boxes [I, 4] of the views in pixels, centres [I, 2] and fallback
    [I]: whether the attention map was empty (or the image has no box), so that the view is the
    centre; skipped [I]: whether the image can't be used, so that its other rows are NaN; of a
    source with labels also label [I] and predicted [I]: each image's class, -1 where it isn't
    known, and the target's for the view.

    Raises:
        InputError: as `probe`.
    """
    return probe(run, run.views)[run.config.crop.view]


def probe(run: Run, views: Sequence[str]) -> dict[str, Artifact]:
    """Activate several views in one pass over the images, each of which is decoded once.

    A shard is a batch of one device.

    Args:
        run: all whose choices hold, but for `config.crop.view`.
        views: names of the views.

    Returns:
        What `activate` gives for each view; what is there already is not computed again.

    Raises:
        InputError: activations that are NaN, or more images that can't be used than
            `config.images.max_skipped` allows.
    """
    shards = Shards(len(run.inputs.source), even(len(run.inputs.source), run.config.images.batch))
    inputs = _inputs(run, views, shards)
    artifacts = run.stages("activate", inputs, partial(_pass, run, shards), _sum_up)
    for artifact in artifacts.values():
        _check_skipped(run, artifact)
    return artifacts


def is_done(run: Run) -> bool:
    """Whether nothing of what `activate` computes is missing."""
    shards = Shards(len(run.inputs.source), even(len(run.inputs.source), run.config.images.batch))
    inputs = _inputs(run, run.views, shards)
    return all(run.store.has("activate", own) for own in inputs.values())


def mislabelled(run: Run, activated: Artifact) -> str:
    """Name the images whose labels are not classes of the target; empty if there are none."""
    if not run.inputs.source.has_labels:
        return ""
    source, classes = run.inputs.source, run.inputs.target.logit_count
    labels = activated.read("label")
    wrong = np.flatnonzero((labels < -1) | (labels >= classes))
    if not wrong.size:
        return ""
    first = int(wrong[0])
    return (
        f"{wrong.size} of the images have labels that are not classes of the target, 0 to "
        f"{classes - 1}, such as {source.identify(first)!r} with {labels[first]}: they count as "
        "unlabelled"
    )


def top1(run: Run, activated: Artifact) -> Top1 | None:
    """How often the target tells the images' own classes; None where these aren't known."""
    if not run.inputs.source.has_labels:
        return None
    labels, predicted = activated.read("label"), activated.read("predicted")
    known = (labels >= 0) & (labels < run.inputs.target.logit_count)
    if not known.any():
        return None
    right = int((labels == predicted)[known].sum())
    classes = run.inputs.target.logit_count
    return Top1(right, int(known.sum()), classes, run.config.crop.view)


def _inputs(run: Run, views: Sequence[str], shards: Shards) -> dict[str, dict[str, Any]]:
    """All that the activations of each view depend on."""
    target, source, config = run.inputs.target, run.inputs.source, run.config
    crops = {view: replace(config.crop, view=view) for view in views}
    common = {
        "target": target.fingerprint,
        "source": source.fingerprint(),
        "layer": config.target.layer,
        "pooling": config.target.pooling,
        "batch": shards.each,
    }
    return {view: common | {"crop": relevant_options(crop, source)} for view, crop in crops.items()}


def _pass(run: Run, shards: Shards, drafts: Mapping[str, Draft]) -> None:
    """Go over the images of all shards that are missing of any view."""
    missing = {view: set(draft.missing(len(shards))) for view, draft in drafts.items()}
    images = [i for shard in sorted(set().union(*missing.values())) for i in shards.rows(shard)]
    if not images:
        return
    source, config, watch, mesh = run.inputs.source, run.config, Watch(), local_mesh()
    target, size = run.inputs.target.on(mesh), shards.each * device_count(mesh)
    cut = cut_views(target, source, config.crop, tuple(drafts), images, size, watch)
    labelled = source.has_labels
    started = ((batch, watch(begin(target, config.target, batch, labelled))) for batch in cut)
    with run.bar(len(images), f"activate {', '.join(drafts)}") as bar:
        for batch, activations in ahead(started):
            rows = {
                view: _rows(target, config.target, batch, view, *activations[view])
                for view in drafts
            }
            run.idle["activate"] = watch.so_far()
            run.first_batch = run.first_batch or time.perf_counter() - run.began
            for start in range(0, len(batch.images), shards.each):
                own = slice(start, start + shards.each)
                shard = batch.images[start] // shards.each
                for view, draft in drafts.items():
                    if shard in missing[view]:
                        _commit(draft, shard, shards, rows[view], own, _reasons(source, batch, own))
                bar.update(len(batch.images[own]))
    run.idle["activate"] = watch.share()


def begin(
    target: Target, config: TargetConfig, batch: Batch, classify: bool
) -> dict[str, tuple[Array, ...]]:
    """Start the forward passes of a batch's views, without waiting for them.

    Returns:
        Of each view its activations [B, N], and its classes [B] where `classify` is set.
    """
    options = config.layer, config.pooling
    if classify:
        return {
            view: target.view_activations_and_classes(views.pixels, *options)
            for view, views in batch.views.items()
        }
    return {
        view: (target.view_activations(views.pixels, *options),)
        for view, views in batch.views.items()
    }


def _rows(
    target: Target,
    config: TargetConfig,
    batch: Batch,
    view: str,
    activations: Array,
    predicted: Array | None = None,
) -> dict[str, np.ndarray]:
    """Wait for a batch's activations; NaN stands for an image that can't be used."""
    views, skipped = batch.views[view], np.array([bool(reason) for reason in batch.skipped])
    values = np.array(activations, np.float32)[: len(skipped)]
    check_finite(target, config.layer, values[~skipped])
    values[skipped] = np.nan
    classes = {}
    if predicted is not None:
        own = np.asarray(predicted, np.int32)[: len(skipped)]
        classes = {"label": batch.labels, "predicted": np.where(skipped, np.int32(-1), own)}
    return classes | {
        "activations": values,
        "boxes": np.where(skipped[:, None], np.float32("nan"), views.boxes),
        "centres": np.where(skipped[:, None], np.nan, views.centres),
        "fallback": views.fallback & ~skipped,
        "skipped": skipped,
    }


def check_finite(target: Target, layer: str, activations: np.ndarray) -> None:
    """Raise `InputError` for activations that are NaN or infinite."""
    if not np.isfinite(activations).all():
        raise InputError(
            f"Layer {layer!r} of {target.name} gives NaN or infinity: its weights or its "
            "preprocessing are broken; check the checkpoint."
        )


def _reasons(source: Source, batch: Batch, own: slice) -> list[tuple[str, str]]:
    """Which images of a shard can't be used, and why."""
    reasons = zip(batch.images[own], batch.skipped[own], strict=True)
    return [(source.identify(image), reason) for image, reason in reasons if reason]


def _commit(
    draft: Draft,
    shard: int,
    shards: Shards,
    rows: Mapping[str, np.ndarray],
    own: slice,
    skipped: list[tuple[str, str]],
) -> None:
    values = {"fallbacks": int(rows["fallback"][own].sum()), "skipped": skipped}
    draft.commit(shard, {name: values[own] for name, values in rows.items()}, shards, values)


def _sum_up(draft: Draft) -> None:
    every = list(draft.shard_values())
    draft.values["fallbacks"] = sum(own["fallbacks"] for own in every)
    draft.values["skipped"] = [one for own in every for one in own["skipped"]]


def left_out(run: Run, activated: Artifact) -> list[Skipped]:
    """The images that can't be used, those that the source has passed over, and why."""
    source = run.inputs.source
    listed = (*activated.values["skipped"], *getattr(source, "passed_over", ()))
    return [Skipped(image, reason, source.spec) for image, reason in listed]


def _check_skipped(run: Run, activated: Artifact) -> None:
    """Keep the images that are left out; too many unusable, or too few others, stop the run."""
    source = run.inputs.source
    run.skipped.update(left_out(run, activated))
    skipped = activated.values["skipped"]
    most, wanted = run.config.images.max_skipped, run.config.score.exemplars
    count, total = len(skipped), len(source)
    if count / total > most:
        first = ", ".join(f"{image} ({reason})" for image, reason in skipped[:3])
        more = f" and {count - 3} more" if count > 3 else ""
        raise InputError(
            f"{count} of the {total} images of {source.spec} can't be used, more than the share "
            f"{most:g} that config.images.max_skipped allows: {first}{more}; repair or remove "
            "them, or allow a larger share."
        )
    if wanted > total - count:
        raise InputError(
            f"config.score.exemplars is {wanted}, but only {total - count} of the {total} images "
            f"of {source.spec} can be used: ask for at most as many."
        )
