"""Activate: every neuron's activation on the view of every image."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Array

from jaxdesc.ahead import ahead
from jaxdesc.config import TargetConfig
from jaxdesc.device import Watch
from jaxdesc.errors import InputError
from jaxdesc.images.loader import even
from jaxdesc.models.target import Target
from jaxdesc.result import Skipped
from jaxdesc.stages.run import Run
from jaxdesc.store import Artifact, Draft
from jaxdesc.views import Batch, Views, cut_views, relevant_options


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
    crops = {view: replace(config.crop, view=view) for view in views}
    common = {
        "target": target.fingerprint,
        "source": source.fingerprint(),
        "layer": config.target.layer,
        "pooling": config.target.pooling,
    }
    inputs = {
        view: common | {"crop": relevant_options(crop, source)} for view, crop in crops.items()
    }

    def compute(drafts: Mapping[str, Draft]) -> None:
        watch, size = Watch(), even(len(source), config.images.batch)
        cut = cut_views(target, source, config.crop, tuple(drafts), size, watch)
        started = ((batch, watch(_start(target, config.target, batch))) for batch in cut)
        skipped: list[tuple[str, str]] = []
        with run.bar(len(source), f"activate {', '.join(drafts)}") as bar:
            for batch, activations in ahead(started):
                for view, draft in drafts.items():
                    values = _finish(target, config.target, activations[view], batch.skipped)
                    _record(draft, batch, batch.views[view], values, len(source))
                run.first_batch = run.first_batch or time.perf_counter() - run.began
                reasons = enumerate(batch.skipped, batch.first)
                skipped += [(source.identify(i), reason) for i, reason in reasons if reason]
                bar.update(len(batch.skipped))
        run.idle["activate"] = watch.share()
        for draft in drafts.values():
            draft.values["skipped"] = skipped

    artifacts = run.stages("activate", inputs, compute)
    for artifact in artifacts.values():
        _check_skipped(run, artifact)
    return artifacts


def _start(target: Target, config: TargetConfig, batch: Batch) -> dict[str, Array]:
    """Start the forward passes of a batch's views, without waiting for them."""
    return {
        view: target.view_activations(views.pixels, config.layer, config.pooling)
        for view, views in batch.views.items()
    }


def _finish(
    target: Target, config: TargetConfig, activations: Array, skipped: Sequence[str]
) -> np.ndarray:
    """Wait for a batch's activations; NaN stands for an image that can't be used."""
    values = np.array(activations, np.float32)[: len(skipped)]
    unusable = np.array([bool(reason) for reason in skipped])
    if np.isnan(values[~unusable]).any():
        raise InputError(
            f"Layer {config.layer!r} of {target.name} gives NaN: its weights or its preprocessing "
            "are broken; check the checkpoint."
        )
    values[unusable] = np.nan
    return values


def _record(draft: Draft, batch: Batch, views: Views, values: np.ndarray, total: int) -> None:
    skipped = np.array([bool(reason) for reason in batch.skipped])
    fallback = views.fallback & ~skipped
    rows = {
        "activations": values,
        "boxes": np.where(skipped[:, None], np.float32("nan"), views.boxes),
        "centres": np.where(skipped[:, None], np.nan, views.centres),
        "fallback": fallback,
        "skipped": skipped,
    }
    for name, own in rows.items():
        draft.write_rows(name, batch.first, own, total)
    draft.values["fallbacks"] = draft.values.get("fallbacks", 0) + int(fallback.sum())


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
