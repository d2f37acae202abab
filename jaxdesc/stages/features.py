"""CLIP's features of images and of concepts, which the pipeline and users compute alike."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float32

from jaxdesc.config import TEMPLATE, ClipConfig, VocabularyConfig, converted
from jaxdesc.errors import InputError, UnusableImage, check_type
from jaxdesc.images.example import Example, Source
from jaxdesc.images.loader import batches, padded
from jaxdesc.images.sources import open_source
from jaxdesc.images.windows import MIDDLE
from jaxdesc.models.encoder import Namer
from jaxdesc.runtime.mesh import device_count, local_mesh
from jaxdesc.runtime.progress import Bar, Progress
from jaxdesc.vocabulary.vocabulary import base_template, load_vocabulary, prompts

NAMED = 3  # unusable images in a warning

_log = logging.getLogger(__name__)


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
    check_type(clip, Namer, "clip", "load_clip")
    batch = ClipConfig(batch=batch).batch
    displays = [] if converted(bool, quiet, "quiet") else [Bar]
    source = open_source(images)
    skipped: dict[int, str] = {}

    def skip(index: int, error: UnusableImage) -> None:
        skipped[index] = error.reason

    prepare, everything = partial(whole_image, clip), range(len(source))
    with Progress(len(source), "image features", displays) as bar:
        found = []
        for features in encoded(clip, source, everything, prepare, batch, skip):
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


def concept_features(
    clip: Namer,
    concepts: str | os.PathLike[str] | Iterable[str],
    *,
    template: str = TEMPLATE,
) -> tuple[list[str], Float32[np.ndarray, "concept width"], Float32[np.ndarray, " width"]]:
    """Encode the prompts of concepts and the base template, for `describe_activations`.

    Args:
        clip: encodes them.
        concepts: any iterable of strings, or `KIND` or `KIND:PATH` with a kind of
            `vocabulary.VOCABULARIES`.
        template: prompt around a concept.

    Returns:
        The concepts, each once; unit features of their prompts; the unit feature of the base
        template, the prompt without a concept.

    Raises:
        InputError: concepts or a template that can't be used.
    """
    check_type(clip, Namer, "clip", "load_clip")
    vocabulary, template = load_vocabulary(concepts), VocabularyConfig(template=template).template
    features = clip.encode_texts(prompts(vocabulary, template))
    (base,) = clip.encode_texts([base_template(template)])
    return list(vocabulary.concepts), features, base


def whole_image(clip: Namer, index: int, example: Example) -> np.ndarray:
    """Preprocess a whole image as CLIP does."""
    del index
    return clip.preprocess.cut(example.image, MIDDLE)[0]


def encoded(
    clip: Namer,
    source: Source,
    images: Sequence[int],
    prepare: Callable[[int, Example], np.ndarray],
    batch: int,
    skip: Callable[[int, UnusableImage], None] | None = None,
) -> Iterator[Float32[np.ndarray, "image width"]]:
    """Encode views of images batch by batch, on all devices of this process.

    Args:
        clip: encodes them.
        source: of the images.
        images: their indices, in the order wanted.
        prepare: cuts the view of an image.
        batch: images per forward pass and device.
        skip: called with an image that can't be used, which is left out; without it the error is
            raised.

    Yields:
        Unit features of a batch's images.

    Raises:
        UnusableImage: an image that can't be used.
    """
    mesh = local_mesh()
    encoder, size = clip.on(mesh), batch * device_count(mesh)
    for chunk in batches(source, images, prepare, size, skip):
        views = [view for view in chunk if view is not None]
        if views:
            pixels = padded(np.stack(views), size)
            yield np.asarray(encoder.encode_views(pixels))[: len(views)]
