"""Activate: every neuron's activation on the view of every image."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array

from jaxdesc.attention.cams import attend_as, cam_fingerprint
from jaxdesc.attention.units import looking_at_once, weights_at_once
from jaxdesc.errors import InputError
from jaxdesc.evaluation.top1 import Top1
from jaxdesc.images.loader import even
from jaxdesc.images.views import ATTENTION, Attend, Batch, cut_views, relevant_options
from jaxdesc.models.target import Target
from jaxdesc.result import Skipped
from jaxdesc.runtime.ahead import ahead
from jaxdesc.runtime.device import Watch
from jaxdesc.runtime.mesh import device_count, local_mesh
from jaxdesc.stages.latents import Latents, Packed, Packer, are_packed
from jaxdesc.stages.run import Run
from jaxdesc.store import Artifact, Draft, Shards


class Key(NamedTuple):
    """One artifact of a pass."""

    layer: str
    view: str


def activate(run: Run) -> Artifact:
    """Cut every image's view and record every neuron's activation on it.

    The other views of an ablation are cut in the same pass. The run is of one layer.

    Arrays: activations [I, N]; boxes [I, 4] of the views in pixels; centres [I, 2]; fallback [I],
    true if the attention map was empty or the image has no box, so that the view is the centre;
    skipped [I], true if the image can't be used, so that its other rows are NaN. If the source has
    labels, also label [I], the image's class or -1, and predicted [I], the target's for the view.
    Latents of a dictionary are packed instead (`stages.latents`): counts [I] of those of each
    image, the arrays of each shard, and the numbers of latents and of a shard's images as values.
    For windows of units also peaks [I, N], as `attention.units` finds them in this
    pass, of layers whose units' peaks it gives.
    """
    return activate_all(run, run.views)[Key(run.config.target.layer, run.config.crop.first)]


def activate_all(run: Run, views: Sequence[str]) -> dict[Key, Artifact]:
    """Activate all layers and several views in one pass over the images, decoding each once.

    Returns the artifact of `activate` of each layer in each view, regardless of `config.crop.view`;
    existing ones are kept. The pass runs the program of all layers, even if some exist, so that an
    interrupted run ends with the same bits. A shard is a batch of one device. Activations that are
    NaN, or more skipped images than `config.images.max_skipped` allows, end the run.
    """
    shards, inputs = _shards(run), _inputs(run, views)

    def sum_up(draft: Draft) -> None:
        every = list(draft.shard_values())
        draft.values["fallbacks"] = sum(values["fallbacks"] for values in every)
        draft.values["skipped"] = [image for values in every for image in values["skipped"]]
        if "latents" in every[0]:
            draft.values |= {"latents": every[0]["latents"], "shard": shards.each}

    artifacts = run.stages("activate", inputs, partial(_pass, run, shards), sum_up)
    for artifact in artifacts.values():
        _check_skipped(run, artifact)
    return artifacts


def missing_layers(run: Run) -> list[str]:
    """Return the layers that lack an artifact of `activate`."""
    every = _inputs(run, run.views).items()
    return list(
        dict.fromkeys(key.layer for key, inputs in every if not run.store.has("activate", inputs))
    )


def mislabelled(run: Run, activated: Artifact) -> str:
    """Name the images whose labels are not classes of the target; empty if there are none."""
    source, classes = run.inputs.source, run.inputs.target.logit_count
    if not (source.has_labels and classes):
        return ""
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


def left_below(run: Run, activated: Artifact) -> str:
    """Say on how many images latents may have been dropped; empty if on none."""
    kept = run.config.target.kept
    full = int((activated.read("counts") == kept).sum()) if kept and are_packed(activated) else 0
    if not full:
        return ""
    return (
        f"of {full} images only the {kept} largest latents were kept (config.target.kept): others "
        "count as 0 there, in density, mean and flags too"
    )


def top1(run: Run, activated: Artifact) -> Top1 | None:
    """Share of images whose class the target predicts; None if classes aren't known."""
    classes = run.inputs.target.logit_count
    if not (run.inputs.source.has_labels and classes):
        return None
    labels, predicted = activated.read("label"), activated.read("predicted")
    known = (labels >= 0) & (labels < classes)
    if not known.any():
        return None
    right = int((labels == predicted)[known].sum())
    return Top1(right, int(known.sum()), classes, run.config.crop.first)


def _shards(run: Run) -> Shards:
    count = len(run.inputs.source)
    return Shards(count, even(count, run.config.images.batch))


def _inputs(run: Run, views: Sequence[str]) -> dict[Key, dict[str, Any]]:
    """Inputs that the activations of each layer and view depend on, for its fingerprint."""
    target, source, config = run.inputs.target, run.inputs.source, run.config
    common = {
        "target": target.fingerprint,
        "source": source.fingerprint(),
        "pooling": config.target.pooling,
        "batch": _shards(run).each,
    }
    crops = {}
    for view in views:
        crops[view] = relevant_options(replace(config.crop, view=view), source)
        if view == ATTENTION:
            crops[view]["cam"] = cam_fingerprint(target, config.crop.cam)
        if config.crop.of == "unit" and view == "full":
            crops[view]["peaks"] = config.crop.cam
    kept = {layer: {"kept": config.target.kept} for layer in target.sparse}
    return {
        Key(layer, view): common | {"layer": layer, "crop": crops[view]} | kept.get(layer, {})
        for layer, view in product(config.target.described, views)
    }


def attention_of(run: Run, target: Target) -> Attend:
    """Return the function that computes the maps that a run's windows are cut around."""
    return lambda pixels, labels: attend_as(run.config.crop, target, pixels, labels)[0]


def _pass(run: Run, shards: Shards, drafts: Mapping[Key, Draft]) -> None:
    """Go over the images of all shards that are missing in any layer or view."""
    missing = {key: set(draft.missing(len(shards))) for key, draft in drafts.items()}
    images = [i for shard in sorted(set().union(*missing.values())) for i in shards.rows(shard)]
    if not images:
        return
    source, config, watch, mesh = run.inputs.source, run.config, Watch(), local_mesh()
    target, size = run.inputs.target.on(mesh), shards.each * device_count(mesh)
    layers, views = config.target.described, list(dict.fromkeys(key.view for key in drafts))
    crop = target.preprocess, source, config.crop, views, images, size
    cut = cut_views(*crop, attention_of(run, target), watch, config.images.workers)
    begin = beginning(run, target, layers)
    started = ((batch, watch(begin(batch))) for batch in cut)
    with run.bar(len(images), f"activate {', '.join(views)}") as bar:
        for batch, activations in ahead(started):
            rows = {key: _rows(run, batch, key, activations[key.view]) for key in drafts}
            latents = {key: _latents(run, batch, key, activations[key.view]) for key in drafts}
            run.idle["activate"] = watch.so_far()
            run.first_batch = run.first_batch or time.perf_counter() - run.began
            for start in range(0, len(batch.images), shards.each):
                part = slice(start, start + shards.each)
                shard = batch.images[start] // shards.each
                for key, draft in drafts.items():
                    if shard in missing[key]:
                        values = {name: column[part] for name, column in rows[key].items()}
                        reasons = zip(batch.images[part], batch.skipped[part], strict=True)
                        notes = {
                            "fallbacks": int(values["fallback"].sum()),
                            "skipped": [(source.identify(i), r) for i, r in reasons if r],
                        }
                        alone: dict[str, np.ndarray] = {}
                        if found := latents[key]:
                            few = found.part(start, start + shards.each)
                            values, alone = values | {"counts": few.counts}, few.arrays(shard)
                            notes["latents"] = target.shapes[key.layer][-1]
                        draft.commit(shard, values, shards, notes, alone)
                bar.update(len(batch.images[part]))
    run.idle["activate"] = watch.share()


class Begun(NamedTuple):
    """Forward passes of one view of a batch; two of their results are by layer."""

    activations: Mapping[str, Array]  # [B, N]
    predicted: Array | None  # [B], if images have labels and the target has logits
    peaks: Mapping[str, Array] = {}  # [B, N]
    packers: Mapping[str, Packer] = {}  # of latents of dictionaries
    packed: Mapping[str, Packed] = {}


def beginning(
    run: Run, target: Target, layers: Sequence[str]
) -> Callable[[Batch], dict[str, Begun]]:
    """Return the function that starts the forward passes of a batch's views, and waits for none.

    `target` is the run's on the devices to use.
    """
    config, classify = run.config, run.inputs.source.has_labels and target.logit_count > 0
    options = tuple(layers), config.target.pooling, classify
    look: Callable[[np.ndarray], Any] | None = None
    if config.crop.of == "unit":
        weights = weights_at_once(target, layers, config.target.pooling, config.crop.cam)
        look = looking_at_once(target, *options, weights)
    packers = {layer: Packer(config.target.kept) for layer in layers if layer in target.sparse}

    def begin_view(view: str, pixels: np.ndarray) -> Begun:
        peaked = look and view == "full"
        begun = Begun(*(look(pixels) if look and peaked else target.activate(pixels, *options)))
        packed = {
            layer: packer.start(begun.activations[layer], begun.peaks.get(layer))
            for layer, packer in packers.items()
        }
        return begun._replace(packers=packers, packed=packed)

    return lambda batch: {view: begin_view(view, cut.pixels) for view, cut in batch.views.items()}


def _rows(run: Run, batch: Batch, key: Key, begun: Begun) -> dict[str, np.ndarray]:
    """Wait for a batch's activations; NaN stands for an image that can't be used."""
    views, skipped = batch.views[key.view], np.array([bool(reason) for reason in batch.skipped])
    rows: dict[str, np.ndarray] = {}
    if key.layer not in begun.packed:
        values = np.array(begun.activations[key.layer], np.float32)[: len(skipped)]
        check_finite(run.inputs.target, key.layer, values[~skipped])
        values[skipped] = np.nan
        rows["activations"] = values
    rows |= {
        "boxes": np.where(skipped[:, None], np.float32("nan"), views.boxes),
        "centres": np.where(skipped[:, None], np.nan, views.centres),
        "fallback": views.fallback & ~skipped,
        "skipped": skipped,
    }
    if key.layer in begun.peaks and key.layer not in begun.packed:
        rows["peaks"] = np.asarray(begun.peaks[key.layer])[: len(skipped)]
    if begun.predicted is not None:
        classes = np.asarray(begun.predicted, np.int32)[: len(skipped)]
        rows |= {"label": batch.labels, "predicted": np.where(skipped, np.int32(-1), classes)}
    return rows


def _latents(run: Run, batch: Batch, key: Key, begun: Begun) -> Latents | None:
    """Wait for a batch's latents, if the layer's are packed; skipped images have none."""
    if key.layer not in begun.packed:
        return None
    packed, used = begun.packed[key.layer], np.array([not reason for reason in batch.skipped])
    if not np.asarray(packed.finite)[: len(used)][used].all():
        raise _broken(run.inputs.target, key.layer)
    dense = begun.activations[key.layer], begun.peaks.get(key.layer)
    return begun.packers[key.layer].finish(packed, *dense, used)


def check_finite(target: Target, layer: str, activations: np.ndarray) -> None:
    """Raise `InputError` for activations that are NaN or infinite."""
    if not np.isfinite(activations).all():
        raise _broken(target, layer)


def _broken(target: Target, layer: str) -> InputError:
    return InputError(
        f"Layer {layer!r} of {target.name} gives NaN or infinity: its weights or its "
        "preprocessing are broken; check the checkpoint."
    )


def left_out(run: Run, activated: Artifact) -> list[Skipped]:
    """List the images that can't be used and those that the source has passed over, and why."""
    source = run.inputs.source
    listed = (*activated.values["skipped"], *getattr(source, "passed_over", ()))
    return [Skipped(image, reason, source.spec) for image, reason in listed]


def _check_skipped(run: Run, activated: Artifact) -> None:
    """Note the images that are left out; too many of them, or too few usable ones, end the run."""
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
