"""Activate: every neuron's activation on the view of every image."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Array

from jaxdesc.ahead import ahead
from jaxdesc.config import TargetConfig
from jaxdesc.device import Watch
from jaxdesc.errors import InputError
from jaxdesc.images.example import Source
from jaxdesc.images.loader import even
from jaxdesc.mesh import device_count, local_mesh
from jaxdesc.models.target import Target
from jaxdesc.result import Skipped
from jaxdesc.stages.run import Run
from jaxdesc.store import Artifact, Draft, Shards
from jaxdesc.views import Batch, cut_views, relevant_options


def activate(run: Run) -> Artifact:
    """Cut every image's view and record every neuron's activation on it.

    The other views of an ablation are cut in the same pass.

    Arrays: activations [I, N], boxes [I, 4] of the views in pixels, centres [I, 2] and fallback
    [I]: whether the attention map was empty (or the image has no box), so that the view is the
    centre; skipped [I]: whether the image can't be used, so that its other rows are NaN.

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
    target, source, config = run.inputs.target, run.inputs.source, run.config
    shards = Shards(len(source), even(len(source), config.images.batch))
    crops = {view: replace(config.crop, view=view) for view in views}
    common = {
        "target": target.fingerprint,
        "source": source.fingerprint(),
        "layer": config.target.layer,
        "pooling": config.target.pooling,
        "batch": shards.each,
    }
    inputs = {
        view: common | {"crop": relevant_options(crop, source)} for view, crop in crops.items()
    }
    artifacts = run.stages("activate", inputs, partial(_pass, run, shards), _sum_up)
    for artifact in artifacts.values():
        _check_skipped(run, artifact)
    return artifacts


def _pass(run: Run, shards: Shards, drafts: Mapping[str, Draft]) -> None:
    """Go over the images of all shards that are missing of any view."""
    missing = {view: set(draft.missing(len(shards))) for view, draft in drafts.items()}
    images = [i for shard in sorted(set().union(*missing.values())) for i in shards.rows(shard)]
    if not images:
        return
    source, config, watch, mesh = run.inputs.source, run.config, Watch(), local_mesh()
    target, size = run.inputs.target.on(mesh), shards.each * device_count(mesh)
    cut = cut_views(target, source, config.crop, tuple(drafts), images, size, watch)
    started = ((batch, watch(_start(target, config.target, batch))) for batch in cut)
    with run.bar(len(images), f"activate {', '.join(drafts)}") as bar:
        for batch, activations in ahead(started):
            rows = {
                view: _rows(target, config.target, batch, view, activations[view])
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


def _start(target: Target, config: TargetConfig, batch: Batch) -> dict[str, Array]:
    """Start the forward passes of a batch's views, without waiting for them."""
    return {
        view: target.view_activations(views.pixels, config.layer, config.pooling)
        for view, views in batch.views.items()
    }


def _rows(
    target: Target, config: TargetConfig, batch: Batch, view: str, activations: Array
) -> dict[str, np.ndarray]:
    """Wait for a batch's activations; NaN stands for an image that can't be used."""
    views, skipped = batch.views[view], np.array([bool(reason) for reason in batch.skipped])
    values = np.array(activations, np.float32)[: len(skipped)]
    if not np.isfinite(values[~skipped]).all():
        raise InputError(
            f"Layer {config.layer!r} of {target.name} gives NaN or infinity: its weights or its "
            "preprocessing are broken; check the checkpoint."
        )
    values[skipped] = np.nan
    return {
        "activations": values,
        "boxes": np.where(skipped[:, None], np.float32("nan"), views.boxes),
        "centres": np.where(skipped[:, None], np.nan, views.centres),
        "fallback": views.fallback & ~skipped,
        "skipped": skipped,
    }


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


def unusable(run: Run, activated: Artifact) -> list[Skipped]:
    """The images that can't be used, and why."""
    spec = run.inputs.source.spec
    return [Skipped(image, reason, spec) for image, reason in activated.values["skipped"]]


def _check_skipped(run: Run, activated: Artifact) -> None:
    """Note the images that can't be used; too many, or too few others, stop the run."""
    skipped, source = unusable(run, activated), run.inputs.source
    run.skipped.update(skipped)
    most, wanted = run.config.images.max_skipped, run.config.score.exemplars
    count, total = len(skipped), len(source)
    if count / total > most:
        first = ", ".join(f"{one.image} ({one.reason})" for one in skipped[:3])
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
