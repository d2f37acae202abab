"""Embed: CLIP's features of the exemplars, and of all images where methods are compared."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Float32, Int32, UInt8
from PIL import Image
from scipy import sparse

from jaxdesc.config import ClipConfig, CropConfig, converted
from jaxdesc.errors import InputError, UnusableImage, check_type
from jaxdesc.exemplars import Slots
from jaxdesc.images.example import Example, Source
from jaxdesc.images.loader import batches, padded, regrouped
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.images.sources import open_source
from jaxdesc.images.views import cut_view
from jaxdesc.images.windows import MIDDLE, Centre
from jaxdesc.models.encoder import Namer
from jaxdesc.runtime.mesh import device_count, local_mesh
from jaxdesc.runtime.progress import Bar, Progress
from jaxdesc.stages.look import Windows
from jaxdesc.stages.run import Run
from jaxdesc.stages.select import chosen
from jaxdesc.store import Artifact, Draft, Shards
from jaxdesc.vocabulary.names import check_name
from jaxdesc.vocabulary.vocabulary import Vocabulary, base_template, prompts

NAMED = 3  # unusable images in a warning

_log = logging.getLogger(__name__)


def embed(run: Run, windows: Windows, selected: Artifact) -> Artifact:
    """Encode the distinct exemplar views with CLIP, each once.

    Arrays: rows [U] of the windows, ascending, and features [U, d]; `values["names"]` are those of
    their images.
    """
    rows, _ = chosen(selected).slots.distinct()

    def finish(draft: Draft) -> None:
        draft.write("rows", rows)
        # Kept, since a TFDS set has to read a record to name its image.
        images = windows.images[rows].tolist()
        draft.values["names"] = [run.inputs.source.identify(index) for index in images]

    return _embed(run, windows, run.config.crop, rows, {"select": selected.name}, finish)


def embed_all(run: Run, activated: Artifact) -> Artifact:
    """Encode the first views of all images that can be used. Arrays: those of `embed`."""
    crop = replace(run.config.crop, view=run.config.crop.first)
    rows = np.flatnonzero(~activated.read("skipped")).astype(np.int32)

    def finish(draft: Draft) -> None:
        draft.write("rows", rows)

    windows, known_by = Windows.of_images(activated), {"activate": activated.name}
    return _embed(run, windows, crop, rows, known_by, finish)


def _embed(
    run: Run,
    windows: Windows,
    crop: CropConfig,
    rows: Int32[np.ndarray, "row"],
    known_by: Mapping[str, str],
    finish: Callable[[Draft], None],
) -> Artifact:
    clip, config = run.inputs.clip, run.config
    # WWW, whose views are the centre ones, shows CLIP whole images.
    by_method = "image" if crop.view == "centre" else "view"
    seen = {"method": [by_method], "both": ["view", "image"]}.get(
        config.clip.input, [config.clip.input]
    )
    shards = Shards(len(rows), config.clip.batch)
    inputs = {
        **known_by,
        "clip": clip.fingerprint,
        "input": seen,
        "batch": shards.each,
    }

    def compute(drafts: Mapping[str, Draft]) -> None:
        draft = drafts["embed"]
        missing = draft.missing(len(shards))
        wanted = [int(rows[place]) for shard in missing for place in shards.rows(shard)]
        if not wanted:
            return
        ways = {
            "view": partial(cut_view, clip.preprocess, crop),
            "image": partial(_whole_image, clip.preprocess),
        }
        prepare, images = windows.cutting([ways[way] for way in seen], wanted)
        photos = run.inputs.source, images, prepare, shards.each, None, config.images.workers
        each = iter(missing)
        with run.bar(len(wanted), "embed") as bar:
            encoded = _averaged(_encoded(clip, *photos), len(seen))
            for features in regrouped([encoded], shards.each):
                draft.commit(next(each), {"features": np.stack(features)}, shards)
                bar.update(len(features))

    return run.stages("embed", {"embed": inputs}, compute, finish)["embed"]


def _whole_image(
    preprocess: Preprocess, image: Image.Image, centre: Centre
) -> UInt8[np.ndarray, "size size 3"]:
    """Preprocess a whole image as CLIP does."""
    del centre
    return preprocess.cut(image, MIDDLE)[0]


def _alone(preprocess: Preprocess, index: int, example: Example) -> list[np.ndarray]:
    del index
    return [_whole_image(preprocess, example.image, MIDDLE)]


def _averaged(
    features: Iterable[Float32[np.ndarray, "view width"]], views: int
) -> Iterator[Float32[np.ndarray, "row width"]]:
    """Average the features of each row's views, to unit length."""
    left = np.zeros((0, 0), np.float32)
    for found in features:
        left = np.concatenate([left, found]) if len(left) else found
        whole = len(left) // views * views
        rows = left[:whole].reshape(-1, views, left.shape[1]).mean(axis=1)
        left = left[whole:]
        yield rows / np.linalg.norm(rows, axis=1, keepdims=True) if views > 1 else rows


def _encoded(
    clip: Namer,
    source: Source,
    images: Sequence[int],
    prepare: Callable[[int, Example], list[np.ndarray]],
    batch: int,
    skip: Callable[[int, UnusableImage], list[np.ndarray]] | None = None,
    workers: int = 0,
) -> Iterator[Float32[np.ndarray, "view width"]]:
    """Encode views of images batch by batch, on all devices of this process.

    `prepare` cuts the views of an image, and `batch` counts views per forward pass and device. For
    an image that can't be used, `skip` gives others; without it its error is raised.
    """
    mesh = local_mesh()
    encoder, size = clip.on(mesh), batch * device_count(mesh)
    read = batches(source, images, prepare, size, skip, workers)
    for views in regrouped(read, size):
        yield np.asarray(encoder.encode_views(padded(np.stack(views), size)))[: len(views)]


def searcher(run: Run, embedded: Artifact, slots: Slots) -> Callable[[str], np.ndarray]:
    """Return what compares a text with each unit's mean exemplar feature.

    It gives the cosine with the text's prompt minus that with the base template, NaN for a unit
    without exemplars. `slots` are rows of the artifact of `embed`, which need not outlive this.
    """
    ends = np.arange(len(slots.rows) + 1) * slots.rows.shape[1]
    rows = slots.weights.ravel(), slots.rows.ravel(), ends
    features = embedded.read("features") if embedded.read("rows").size else np.zeros((1, 1))
    means = sparse.csr_array(rows, (len(slots.rows), len(features))) @ features
    with np.errstate(invalid="ignore"):
        means = (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)
    return partial(_similarities, run.inputs.clip, run.config.vocabulary.template, means)


def _similarities(
    clip: Namer, template: str, means: Float32[np.ndarray, "unit width"], text: str
) -> Float32[np.ndarray, "unit"]:
    check_name(text, "the text")
    (prompt,) = prompts(Vocabulary((text,), "search"), template)
    ours, base = clip.encode_texts([prompt, base_template(template)])
    return means @ (ours - base)


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

    def skip(index: int, error: UnusableImage) -> list[np.ndarray]:
        skipped[index] = error.reason
        return []

    prepare, everything = partial(_alone, clip.preprocess), range(len(source))
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
