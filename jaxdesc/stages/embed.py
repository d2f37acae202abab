"""Embed: CLIP's features of the exemplars, and of all images where methods are compared."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float32, Int32

from jaxdesc.config import ClipConfig, CropConfig, converted
from jaxdesc.errors import InputError, UnusableImage, check_type
from jaxdesc.images.example import Example, Source
from jaxdesc.images.loader import batches, padded
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.images.sources import open_source
from jaxdesc.images.views import cut_view
from jaxdesc.images.windows import MIDDLE
from jaxdesc.models.encoder import Namer
from jaxdesc.runtime.mesh import device_count, local_mesh
from jaxdesc.runtime.progress import Bar, Progress
from jaxdesc.stages.run import Run
from jaxdesc.stages.select import chosen
from jaxdesc.store import Artifact, Draft, Shards

NAMED = 3  # unusable images in a warning

_log = logging.getLogger(__name__)


def embed(run: Run, activated: Artifact, selected: Artifact) -> Artifact:
    """Encode the distinct exemplar views with CLIP, each once.

    Arrays: images [U] (indices, ascending), features [U, d]; `values["names"]` are the images'.
    """
    images, _ = chosen(selected).slots.distinct()

    def finish(draft: Draft) -> None:
        draft.write("images", images)
        # Kept, since a TFDS set has to read a record to name its image.
        draft.values["names"] = [run.inputs.source.identify(i) for i in images.tolist()]

    return _embed(run, activated, images, {"select": selected.name}, finish)


def embed_all(run: Run, activated: Artifact) -> Artifact:
    """Encode the views of all images that can be used. Arrays: those of `embed`."""
    images = np.flatnonzero(~activated.read("skipped")).astype(np.int32)

    def finish(draft: Draft) -> None:
        draft.write("images", images)

    return _embed(run, activated, images, {"activate": activated.name}, finish)


def _embed(
    run: Run,
    activated: Artifact,
    images: Int32[np.ndarray, "image"],
    known_by: Mapping[str, str],
    finish: Callable[[Draft], None],
) -> Artifact:
    clip, config = run.inputs.clip, run.config
    # WWW, whose views are the centre ones, shows CLIP whole images.
    by_method = config.clip.input == "method" and config.crop.view == "centre"
    sees_image = config.clip.input == "image" or by_method
    shards = Shards(len(images), config.clip.batch)
    inputs = {
        **known_by,
        "clip": clip.fingerprint,
        "input": "image" if sees_image else "view",
        "batch": shards.each,
    }

    def compute(drafts: Mapping[str, Draft]) -> None:
        draft = drafts["embed"]
        missing = draft.missing(len(shards))
        wanted = [int(images[row]) for shard in missing for row in shards.rows(shard)]
        if not wanted:
            return
        prepare = partial(_view, clip.preprocess, config.crop, activated.read("centres"))
        if sees_image:
            prepare = partial(_whole_image, clip.preprocess)
        each = iter(missing)
        with run.bar(len(wanted), "embed") as bar:
            photos = run.inputs.source, wanted, prepare, shards.each, None, config.images.workers
            for features in _encoded(clip, *photos):
                for start in range(0, len(features), shards.each):
                    part = features[start : start + shards.each]
                    draft.commit(next(each), {"features": part}, shards)
                    bar.update(len(part))

    return run.stages("embed", {"embed": inputs}, compute, finish)["embed"]


def _whole_image(preprocess: Preprocess, index: int, example: Example) -> np.ndarray:
    """Preprocess a whole image as CLIP does."""
    del index
    return preprocess.cut(example.image, MIDDLE)[0]


def _view(
    preprocess: Preprocess, crop: CropConfig, centres: np.ndarray, index: int, example: Example
) -> np.ndarray:
    """Cut the view that the target saw, for CLIP."""
    y, x = centres[index]
    return cut_view(preprocess, crop, example.image, (y, x))[0]


def _encoded(
    clip: Namer,
    source: Source,
    images: Sequence[int],
    prepare: Callable[[int, Example], np.ndarray],
    batch: int,
    skip: Callable[[int, UnusableImage], None] | None = None,
    workers: int = 0,
) -> Iterator[Float32[np.ndarray, "image width"]]:
    """Encode views of images batch by batch, on all devices of this process.

    `prepare` cuts the view of an image, and `batch` counts images per forward pass and device. An
    image that can't be used goes to `skip` and is left out; without `skip` its error is raised.
    """
    mesh = local_mesh()
    encoder, size = clip.on(mesh), batch * device_count(mesh)
    for chunk in batches(source, images, prepare, size, skip, workers):
        views = [view for view in chunk if view is not None]
        if views:
            pixels = padded(np.stack(views), size)
            yield np.asarray(encoder.encode_views(pixels))[: len(views)]


def image_features(
    clip: Namer,
    images: str | os.PathLike[str] | Source,
    *,
    batch: int = ClipConfig.batch,
    quiet: bool = False,
) -> tuple[list[str], Float32[np.ndarray, "image width"]]:
    """Encode whole images, as CLIP's preprocessing cuts them, for `describe_activations`.

    Images that can't be used are left out, and a warning counts them: activations must belong to
    the images that are named.

    Args:
        clip: encodes them.
        images: the path of a folder, `KIND:REST` with a kind of `images.sources.SOURCES`, or your
            source.
        batch: images per forward pass and device.
        quiet: no progress bar.

    Returns:
        Names of the images, by which `write_report` finds them, and their unit features.

    Raises:
        InputError: a source that can't be opened, or without any image that can be used.
    """
    check_type(clip, Namer, "clip", "load_namer")
    batch = ClipConfig(batch=batch).batch
    displays = [] if converted(bool, quiet, "quiet") else [Bar]
    source = open_source(images)
    skipped: dict[int, str] = {}

    def skip(index: int, error: UnusableImage) -> None:
        skipped[index] = error.reason

    prepare, everything = partial(_whole_image, clip.preprocess), range(len(source))
    with Progress(len(source), "image features", displays) as bar:
        found = []
        for features in _encoded(clip, source, everything, prepare, batch, skip):
            found.append(features)
            bar.update(len(features))
    names = [source.identify(index) for index in everything if index not in skipped]
    reasons = [f"{source.identify(index)} ({skipped[index]})" for index in sorted(skipped)]
    listed = ", ".join(reasons[:NAMED]) + (", …" if len(reasons) > NAMED else "")
    if not names:
        raise InputError(
            f"No image of {source.spec} can be used ({listed}): repair them, or give another "
            "source."
        )
    if skipped:
        _log.warning(
            "%d of the %d images of %s can't be used and are left out: %s.",
            len(skipped), len(source), source.spec, listed,
        )  # fmt: skip
    return names, np.concatenate(found)
