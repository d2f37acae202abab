"""Units that fire on few images: are their labels right, and if not, does a flag say so?

Image features are made up with a pretrained CLIP's cosines (`benchmark.features`, narrow). Each
latent fires on some images of one class. Its right label is the concept that all images of the
class get together, so that what is judged is the choice of exemplars and not CLIP.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int

from jaxdesc.api import describe_activations
from jaxdesc.benchmark import features
from jaxdesc.evaluation.statistics import wilson
from jaxdesc.evidence.table import Cell, Table
from jaxdesc.result import Result

CODES = ("ReLU", "signed", "top-k")
# What a latent's value is on all other images: 0, a constant, or noise of that size.
FLOORS = ("none", "constant", "noise")
FLOOR = 1e-6
ORDERS = ("by class", "shuffled")


@dataclass(frozen=True)
class Study:
    """What is measured; the defaults are those of the page.

    Attributes:
        classes: of images, one latent each.
        each: images per class.
        fires: numbers of images of its class on which a latent fires.
        concepts: size of the vocabulary.
        width: of the features.
        exemplars: asked for.
    """

    classes: int = 100
    each: int = 50
    fires: tuple[int, ...] = (3, 5, 10, 20, 40, 50)
    concepts: int = 1000
    width: int = 512
    exemplars: int = 40


def tables(workdir: str | Path, study: Study | None = None) -> tuple[Table]:
    """Describe latents of every code, floor and number of images.

    Args:
        workdir: unused; nothing is kept.
        study: what is measured.

    Returns:
        "sparse": of latents in both orders of images, the shares that are named rightly, that are
        named rightly or flagged, and that are named wrongly without a flag.
    """
    del workdir
    study = study or Study()
    arrays, labels = _images(study)
    right = _best(study, arrays, _whole_classes(labels))
    rows: list[tuple[Cell, ...]] = []
    for code, floor, fires in product(CODES, FLOORS, study.fires):
        values = _latents(study, code, floor, fires, labels)
        found = [_judged(study, arrays, values, order, right) for order in ORDERS]
        correct, flagged = (np.concatenate(part) for part in zip(*found, strict=True))
        shares = correct, correct | flagged, ~(correct | flagged)
        bounds = [wilson(int(share.sum()), len(share)) for share in shares]
        rows.append((code, floor, fires, len(correct), *bounds))
    head = ("code", "floor", "fires on", "latents", "right", "right or flagged", "wrong, no flag")
    return (Table("sparse", head, tuple(rows)),)


def _images(study: Study) -> tuple[features.Arrays, Int[np.ndarray, " image"]]:
    """Features of all images in class order, and each one's class."""
    texts, base = features.concepts(study.concepts, study.width)
    count = study.classes * study.each
    arrays = features.made_up("narrow", texts, base, study.classes, study.each, count)
    return arrays, np.arange(count) // study.each


def _whole_classes(labels: Int[np.ndarray, " image"]) -> Float32[np.ndarray, "image latent"]:
    return (labels[:, None] == np.unique(labels)[None]).astype(np.float32)


def _latents(
    study: Study, code: str, floor: str, fires: int, labels: Int[np.ndarray, " image"]
) -> Float32[np.ndarray, "image latent"]:
    """Activations of one latent per class, which fires on some of its images."""
    rng = np.random.default_rng([fires, CODES.index(code)])
    values = np.zeros((len(labels), study.classes), np.float32)
    for latent in range(study.classes):
        own = np.flatnonzero(labels == latent)
        chosen = rng.choice(own, fires, replace=False)
        values[chosen, latent] = rng.uniform(0.5, 2, fires)
        if code == "signed":  # and is negative on some images of other classes
            strange = rng.choice(np.flatnonzero(labels != latent), study.each, replace=False)
            values[strange, latent] = -rng.uniform(0.5, 2, study.each)
    rests = values == 0
    if floor == "constant":
        values[rests] = FLOOR
    if floor == "noise":
        noise = FLOOR * rng.normal(size=int(rests.sum())).astype(np.float32)
        values[rests] = np.maximum(noise, 0) if code == "ReLU" else noise
        if code == "top-k":  # of an image's latents only the largest are kept
            values[values < np.partition(values, -8, axis=1)[:, -8:-7]] = 0
    return values


def _describe(
    study: Study,
    arrays: features.Arrays,
    values: Float32[np.ndarray, "image latent"],
    images: Int[np.ndarray, " image"],
) -> Result:
    """Describe the latents by the images in some order."""
    return describe_activations(
        values[images],
        arrays.images[images],
        arrays.texts,
        arrays.base,
        list(map(str, range(study.concepts))),
        exemplars=study.exemplars,
        images=[f"{image:05d}.jpg" for image in images.tolist()],
    )


def _first(found: Result) -> Iterator[str]:
    return (neuron.concepts[0][0] if neuron.concepts else "" for neuron in found)


def _best(
    study: Study, arrays: features.Arrays, values: Float32[np.ndarray, "image latent"]
) -> list[str]:
    whole = Study(**{**vars(study), "exemplars": study.each})
    return [*_first(_describe(whole, arrays, values, np.arange(len(values))))]


def _judged(
    study: Study,
    arrays: features.Arrays,
    values: Float32[np.ndarray, "image latent"],
    order: str,
    right: list[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each latent's first concept is right, and whether it is flagged."""
    images = np.arange(len(values))
    if order == "shuffled":
        images = np.random.default_rng(0).permutation(images)
    found = _describe(study, arrays, values, images)
    correct = [name == own for name, own in zip(_first(found), right, strict=True)]
    return np.array(correct), np.array([bool(neuron.flags) for neuron in found])
