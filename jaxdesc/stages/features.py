"""CLIP's features of images and of concepts, as the pipeline computes them."""

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

    Images that can't be used are left out, and a warning counts them: the activations have to be of
    the images that are named.

    Args:
        clip: encodes them.
        images: a folder, `folder:PATH`, `tfds:NAME/SPLIT`, `scenes:…`, or a source of your own.
        batch: images per forward pass and device.
        quiet: no progress bar.

    Returns:
        Names of the images, as `write_report` finds them in the same source, and their unit
        features.

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
    told = [f"{source.identify(index)} ({skipped[index]})" for index in sorted(skipped)[:NAMED]]
    more = ", …" if len(skipped) > NAMED else ""
    if not names:
        raise InputError(
            f"No image of {source.spec} can be used ({', '.join(told)}{more}): repair them, or "
            "give another source."
        )
    if skipped:
        _log.warning(
            "%d of the %d images of %s can't be used and are left out: %s%s.",
            len(skipped), len(source), source.spec, ", ".join(told), more,
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
        concepts: any iterable of strings, "imagenet", "wordnet", `broden:PATH`, `file:PATH`, or
            "scenes".
        template: prompt around a concept.

    Returns:
        The concepts, each once; unit features of their prompts; that of the base template, which is
        the prompt without a concept.

    Raises:
        InputError: concepts or a template that can't be used.
    """
    check_type(clip, Namer, "clip", "load_clip")
    vocabulary, template = load_vocabulary(concepts), VocabularyConfig(template=template).template
    features = clip.encode_texts(prompts(vocabulary, template))
    (base,) = clip.encode_texts([base_template(template)])
    return list(vocabulary.concepts), features, base


def whole_image(clip: Namer, index: int, example: Example) -> np.ndarray:
    """Cut what CLIP sees of a whole image, by CLIP's preprocessing."""
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
        skip: called with an image that can't be used, which is left out; without it that is an
            error.

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
