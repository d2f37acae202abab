"""Refuse a run that can't work, and try its target on a few images first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from PIL import Image, ImageDraw, ImageFont

from jaxdesc.attention.cams import CAMS, check_cam
from jaxdesc.attention.units import check_units
from jaxdesc.config import Config, CropConfig, ScoreConfig, converted
from jaxdesc.errors import InputError, shown
from jaxdesc.evaluation.top1 import Top1
from jaxdesc.images.example import Source
from jaxdesc.images.labels import Matched, matched
from jaxdesc.images.loader import even
from jaxdesc.images.preprocess import PRESETS
from jaxdesc.images.views import ATTENTION, Attend, Batch, cut_views
from jaxdesc.images.windows import VIEWS
from jaxdesc.models.target import LOGITS, Target
from jaxdesc.similarity import SIMILARITIES
from jaxdesc.stages.activate import attention_of, beginning, check_finite, missing_layers
from jaxdesc.stages.run import Run

SHOWN, COLUMNS = 24, 6  # windows of a sheet
CELL, MARGIN, CAPTION = 132, 6, 34  # px
MOST_ACTIVE = 0.5  # share of the latents of a dictionary that may fire on an image without a doubt


def check_names(config: Config) -> None:
    """Refuse a config that is wrong in itself, such as unknown names, before anything is loaded."""
    preprocessings, crop = ("", *PRESETS), config.crop
    for key, name, entries in (
        ("target.preprocess", config.target.preprocess, preprocessings),
        ("clip.preprocess", config.clip.preprocess, preprocessings),
        ("crop.cam", crop.cam, ("", *CAMS)),
        ("score.similarity", config.score.similarity, tuple(SIMILARITIES)),
        *(("crop.view", view, VIEWS) for view in (crop.view, *config.ablation.views)),
    ):
        if name not in entries:
            raise InputError(f"config.{key} is {shown(name)}: expected one of {entries}.")
    table = config.ablation.views and config.ablation.kappas
    if table:
        check_single(config, "config.ablation compares", ", or --config.ablation.views='()'")
    if table and config.score.similarity != ScoreConfig.similarity:
        raise InputError(
            "config.ablation compares t-vMF with the cosine, its κ = 0, but "
            f"config.score.similarity is {config.score.similarity!r}: choose "
            f"{ScoreConfig.similarity!r}, or no ablation "
            "(--config.ablation.views='()')."
        )


def check_single(config: Config, what: str, otherwise: str = "") -> None:
    """Refuse several layers where metrics of one are compared; `what` begins the sentence."""
    if config.target.layers:
        raise InputError(
            f"{what} metrics of one layer, but config.target.layers is "
            f"{shown(','.join(config.target.layers))}: give one, with config.target.layer"
            f"{otherwise}."
        )


def check(run: Run) -> None:
    """Refuse a config that does not fit its inputs: layers, map, views, images or class names."""
    config, source, target, names = run.config, run.inputs.source, run.inputs.target, run.names
    for layer in config.target.described:
        target.check_layer(layer, config.target.pooling)
    if "attention" in run.views:
        check_cam(target, config.crop.cam)
    if config.crop.units:
        _check_units(run)
    if config.score.exemplars > len(source):
        raise InputError(
            f"config.score.exemplars is {config.score.exemplars}, but {source.spec} holds only "
            f"{len(source)} images: ask for at most as many."
        )
    if "box" in run.views and not source.has_boxes:
        raise InputError(
            f"config.crop.view is 'box', but {source.spec} has no boxes: choose another view."
        )
    if config.crop.cam_class == "label" and not source.has_labels:
        raise InputError(
            f"config.crop.cam_class is 'label', but {source.spec} has no labels: choose "
            "'predicted'."
        )
    if config.ablation.views and config.ablation.kappas and not names:
        raise InputError(
            f"config.ablation asks for a table, but the neurons of layer {config.target.layer!r} "
            "have no known names: use layer 'fc' of a target with label_names, or no ablation."
        )
    if names and len(names) != target.logit_count:
        raise InputError(
            f"{target.name} has {target.logit_count} logits, but names for {len(names)} classes: "
            "give names for each class, or none at all."
        )
    if not all(names):
        raise InputError(
            f"Class {names.index(())} of {target.name} has no name: give names for each class, or "
            "none at all."
        )


def _check_units(run: Run) -> None:
    """Refuse windows of units that can't have their own."""
    config = run.config
    for name, value, usual in (
        ("cam_input", config.crop.cam_input, "whole"),
        ("cam_class", config.crop.cam_class, "predicted"),
    ):
        if value != usual:
            raise InputError(
                "config.crop.of is 'unit', whose maps are of units and of whole images, but "
                f"config.crop.{name} is {value!r}: choose {usual!r}."
            )
    for layer in config.target.described:
        check_units(run.inputs.target, layer, config.target.pooling, config.crop.cam)


@dataclass(frozen=True)
class Check:
    """Results of a target on a few images.

    Attributes:
        name: the target's.
        layers: shape of each layer for one image: (classes,), (rows, columns, channels), or
            (tokens, channels).
        images: how many were looked at.
        top1, top5: share of images whose class had the largest logit, or one of the five largest;
            None if no label is known.
        doubts: what may be wrong, a sentence each.
        sheet: some of the windows that the target saw, each with the class that it predicts and
            the image's own.
    """

    name: str
    layers: dict[str, tuple[int, ...]]
    images: int
    top1: float | None
    top5: float | None
    doubts: tuple[str, ...]
    sheet: Image.Image

    def __str__(self) -> str:
        shapes = (f"{name} {'×'.join(map(str, shape))}" for name, shape in self.layers.items())
        lines = [f"{self.name}: {', '.join(shapes)}"]
        if self.top1 is not None:
            lines.append(
                f"top-1 {self.top1:.1%}, top-5 {self.top5:.1%} on {self.images} labelled images"
            )
        doubts = [f"doubt: {doubt}" for doubt in self.doubts]
        return "\n".join(lines + (doubts or [f"no doubt, on {self.images} images"]))

    def _repr_png_(self) -> Any:
        """Show the sheet in a notebook."""
        return self.sheet._repr_png_()


def look(target: Target, source: Source, layer: str = LOGITS, count: int = 64) -> Check:
    """Run a target on the centre views of at most `count` images, spread evenly over the source.

    The activations of `layer` are checked as well as the logits.
    """
    target.check_layer(layer)
    count = converted(int, count, "count")
    if count < 1:
        raise InputError(f"count is {count}: expected a number of images, at least 1.")
    source = matched(source, target)
    batch, usable = _batch(target, source, CropConfig(view="centre"), min(count, len(source)))
    pixels, labels = batch.views["centre"].pixels[usable], batch.labels[usable]
    doubts = [*target.notes, *_on_labels(source)]
    layers = [name for name in dict.fromkeys((layer, LOGITS)) if name in target.layers]
    found, _ = target.activate(batch.views["centre"].pixels, layers)
    values = {name: np.asarray(found[name], np.float32)[usable] for name in layers}
    for name in layers:
        check_finite(target, name, values[name])
        doubts += _on_activations(target, name, values[name])
    known = (labels >= 0) & (labels < target.logit_count)
    ranked = np.argsort(-values.get(LOGITS, np.zeros((len(labels), 0))), axis=1, kind="stable")
    hits = (ranked[:, :5] == labels[:, None])[known]
    doubts += _on_classes(target, ranked[:, :1], labels, "centre")
    captions = [""] * len(labels[:SHOWN])
    if ranked.size:
        pairs = zip(ranked[:SHOWN, 0].tolist(), labels[:SHOWN].tolist(), strict=True)
        captions = [_caption(target, *pair) for pair in pairs]
    return Check(
        name=target.name,
        layers=target.shapes,
        images=int(known.sum()) if known.any() else len(labels),
        top1=float(hits[:, 0].mean()) if known.any() else None,
        top5=float(hits.any(axis=1).mean()) if known.any() else None,
        doubts=tuple(doubts),
        sheet=_sheet([Image.fromarray(window) for window in pixels[:SHOWN]], captions),
    )


def _sheet(windows: Sequence[Image.Image], captions: Sequence[str]) -> Image.Image:
    """Draw windows in rows, each above its caption, which is cut to the window's width."""
    font, step = ImageFont.load_default(12), CELL + MARGIN
    rows = -(-len(windows) // COLUMNS)
    sheet = Image.new("RGB", (MARGIN + COLUMNS * step, MARGIN + rows * (step + CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (window, caption) in enumerate(zip(windows, captions, strict=True)):
        row, column = divmod(index, COLUMNS)
        left, top = MARGIN + column * step, MARGIN + row * (step + CAPTION)
        sheet.paste(window.resize((CELL, CELL), Image.Resampling.LANCZOS), (left, top))
        while draw.textlength(caption, font) > CELL:
            caption = caption[:-2].rstrip("…") + "…"
        draw.text((left, top + CELL + MARGIN), caption, "black", font)
    return sheet


def look_before(run: Run) -> None:
    """Try a run's target on one batch of its images, and print every doubt.

    Layers that have seen all images already are not tried again. So doubts about the batch are not
    kept in the result, which is the same whether or not the run was interrupted. The run uses the
    programs that are compiled here.
    """
    target, source, config = run.inputs.target, run.inputs.source, run.config
    for sentence in (*target.notes, *run.inputs.clip.notes, *_on_labels(source)):
        run.note(sentence)
    layers = missing_layers(run)
    if not layers:
        return
    size = even(len(source), config.images.batch)
    crop = replace(config.crop, view=config.crop.first)
    if crop.view == ATTENTION and CAMS[crop.cam].passes:
        crop = CropConfig(view="centre")
    batch, usable = _batch(target, source, crop, size, attention_of(run, target))
    begun = beginning(run, target, config.target.described)(batch)[crop.view]
    found, predicted = begun.activations, begun.predicted
    doubts = []
    for layer in layers:
        activations = np.asarray(found[layer])[: len(usable)][usable]
        check_finite(target, layer, activations)
        doubts += _on_activations(target, layer, activations)
    if predicted is not None:
        classes = np.asarray(predicted)[: len(usable), None][usable]
        doubts += _on_classes(target, classes, batch.labels[usable], crop.view)
    empty = int(batch.views[crop.view].fallback[usable].sum())
    if crop.view == ATTENTION and 2 * empty > usable.sum():
        doubts.append(
            f"the attention map is empty for {empty} of {usable.sum()} images, whose view is the "
            "centre"
        )
    for doubt in doubts:
        run.tell(f"doubt: {doubt}")


def _batch(
    target: Target, source: Source, crop: CropConfig, size: int, attend: Attend | None = None
) -> tuple[Batch, np.ndarray]:
    """Cut one view of at most `size` images, spread evenly; return which of them can be used."""
    spread = np.linspace(0, len(source) - 1, min(size, len(source)))
    images = sorted(set(spread.astype(int).tolist()))
    batch = next(cut_views(target.preprocess, source, crop, (crop.view,), images, size, attend))
    if all(batch.skipped):
        first = source.identify(batch.images[0])
        raise InputError(
            f"None of {len(images)} images of {source.spec} that were looked at can be used: "
            f"{first!r} {batch.skipped[0]}."
        )
    return batch, np.array([not reason for reason in batch.skipped])


def _on_labels(source: Source) -> list[str]:
    if not isinstance(source, Matched):
        return []
    how = source.match.how
    if not source.has_labels:
        return [f"the images of {source.spec} have no labels: {how}"]
    return [f"the images of {source.spec} are labelled {how}"] if "order" in how else []


def _on_activations(
    target: Target, layer: str, activations: Float[np.ndarray, "image neuron"]
) -> list[str]:
    share = float((activations > 0).mean())
    if layer in target.sparse and not 0 < share < MOST_ACTIVE:
        return [
            f"{share:.0%} of the latents of {layer} are above zero on an image, where few should "
            "be: check that the dictionary was trained on this layer, normalised like this"
        ]
    if len(activations) < 2 or (np.ptp(activations, axis=0) > 0).any():
        return []
    return [f"every neuron of {layer} has the same activation on all {len(activations)} images"]


def _on_classes(
    target: Target,
    predicted: Int[np.ndarray, "image _"],
    labels: Int[np.ndarray, " image"],
    view: str,
) -> list[str]:
    known = (labels >= 0) & (labels < target.logit_count)
    if not known.any():
        return []
    right = int((predicted[:, 0] == labels)[known].sum())
    found = Top1(right, int(known.sum()), target.logit_count, view)
    return [near_chance(target, found)] if found.near_chance else []


def near_chance(target: Target, found: Top1) -> str:
    """Return the warning for a top-1 near chance."""
    return (
        f"{target.name} is near chance ({found}): check its preprocessing, the order of its "
        "classes, the images' labels, and whether the views show what is labelled; if one of them "
        "is wrong, the neurons' concepts mean little"
    )


def _caption(target: Target, predicted: int, label: int) -> str:
    def name(index: int) -> str:
        return target.classes[index][0] if target.classes else f"class {index}"

    differs = 0 <= label < target.logit_count and label != predicted
    return name(predicted) + (f" (is {name(label)})" if differs else "")
