"""Units that fire on few images: are their labels right, and if not, does a flag say so?

Image features are made up with a pretrained CLIP's cosines (`benchmark.features`, narrow). Each
latent fires on some images of one class. Its right label is the concept that all images of the
class get together, so that the choice of exemplars is judged, and not CLIP.
"""

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int

from jaxdesc.api import describe_activations
from jaxdesc.benchmark import features
from jaxdesc.evaluation.statistics import proportion
from jaxdesc.evidence.table import Cell, Table

CODES = ("ReLU", "signed", "top-k")
# A latent's value on all other images: 0, the constant FLOOR, or noise of that size.
FLOORS = ("none", "constant", "noise")
FLOOR = 1e-6


@dataclass(frozen=True)
class Study:
    """Sizes of the study; the defaults are those of the page.

    Attributes:
        classes: classes of images; there is a latent for each.
        each: images per class.
        fires: numbers of its class's images on which a latent fires.
        concepts: concepts of the vocabulary.
        width: width of the features.
        exemplars: exemplars asked for per latent.
    """

    classes: int = 100
    each: int = 50
    fires: tuple[int, ...] = (3, 5, 10, 20, 40, 50)
    concepts: int = 1000
    width: int = 512
    exemplars: int = 40


def tables(workdir: str | Path, study: Study | None = None) -> tuple[Table]:
    """Describe latents of every code, floor and number of images; nothing is kept in `workdir`.

    Returns "sparse": with images by class and shuffled, the shares of latents that are named
    correctly, named correctly or flagged, and named wrongly without a flag.
    """
    del workdir
    study = study or Study()
    arrays, labels = _images(study)
    in_order = np.arange(len(labels))
    orders = in_order, np.random.default_rng(0).permutation(in_order)
    whole = (labels[:, None] == np.unique(labels)[None]).astype(np.float32)
    right, _ = _described(replace(study, exemplars=study.each), arrays, whole, in_order)
    rows: list[tuple[Cell, ...]] = []
    for code, floor, fires in product(CODES, FLOORS, study.fires):
        values = _latents(study, code, floor, fires, labels)
        first, flags = zip(
            *(_described(study, arrays, values, images) for images in orders), strict=True
        )
        correct, flagged = np.equal(first, right).ravel(), np.ravel(flags)
        shares = correct, correct | flagged, ~(correct | flagged)
        bounds = [proportion(int(share.sum()), len(share)) for share in shares]
        rows.append((code, floor, fires, len(correct), *bounds))
    head = ("code", "floor", "fires on", "latents", "right", "right or flagged", "wrong, no flag")
    return (Table("sparse", head, tuple(rows)),)


def _images(study: Study) -> tuple[features.Arrays, Int[np.ndarray, " image"]]:
    """Features of all images in class order, and the class of each."""
    texts, base = features.concepts(study.concepts, study.width)
    count = study.classes * study.each
    arrays = features.made_up("narrow", texts, base, study.classes, study.each, count)
    return arrays, np.arange(count) // study.each


def _latents(
    study: Study, code: str, floor: str, fires: int, labels: Int[np.ndarray, " image"]
) -> Float32[np.ndarray, "image latent"]:
    """Activations of one latent per class, which fires on some of its images."""
    rng = np.random.default_rng([fires, CODES.index(code)])
    values = np.zeros((len(labels), study.classes), np.float32)
    for latent in range(study.classes):
        of_class = np.flatnonzero(labels == latent)
        chosen = rng.choice(of_class, fires, replace=False)
        values[chosen, latent] = rng.uniform(0.5, 2, fires)
        if code == "signed":  # and is negative on some images of other classes
            foreign = rng.choice(np.flatnonzero(labels != latent), study.each, replace=False)
            values[foreign, latent] = -rng.uniform(0.5, 2, study.each)
    rests = values == 0
    if floor == "constant":
        values[rests] = FLOOR
    if floor == "noise":
        noise = FLOOR * rng.normal(size=int(rests.sum())).astype(np.float32)
        values[rests] = np.maximum(noise, 0) if code == "ReLU" else noise
        if code == "top-k":  # of an image's latents only the largest are kept
            values[values < np.partition(values, -8, axis=1)[:, -8:-7]] = 0
    return values


def _described(
    study: Study,
    arrays: features.Arrays,
    values: Float32[np.ndarray, "image latent"],
    images: Int[np.ndarray, " image"],
) -> tuple[list[str], list[bool]]:
    """First concept of each latent, by the images in some order, and if it is flagged."""
    found = describe_activations(
        values[images],
        arrays.images[images],
        arrays.texts,
        arrays.base,
        list(map(str, range(study.concepts))),
        exemplars=study.exemplars,
        images=[f"{image:05d}.jpg" for image in images.tolist()],
    )
    first = [neuron.concepts[0][0] if neuron.concepts else "" for neuron in found]
    return first, [bool(neuron.flags) for neuron in found]
