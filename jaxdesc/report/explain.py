"""Explanation of one image by concepts (what), maps (where) and contributions (why)."""

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxdesc.attention.contribution import (
    contributions,
    cosine,
    image_map,
    neuron_map,
    top_neurons,
)
from jaxdesc.config import converted
from jaxdesc.errors import InputError, UnusableImage, check_type, shown
from jaxdesc.images.example import Source, decode, in_rgb, load
from jaxdesc.images.labels import matched
from jaxdesc.models.target import LOGITS, Target
from jaxdesc.report.explained import Explanation, Part
from jaxdesc.result import Result

# An image, its bytes [height, width], [height, width, 3] or [height, width, 4], or a file's path.
Picture = Image.Image | np.ndarray | str | os.PathLike[str]

SHOWN = 3  # neurons
PEERS = 50  # other images of the class


def explain(
    target: Target,
    image: Picture,
    found: Result,
    *,
    peers: Iterable[Picture] = (),
    neurons: int = SHOWN,
) -> Explanation:
    """Explain a prediction by the neurons that contribute most to it (WWW, Ahn et al. 2024).

    The network sees the whole image, as its Grad-CAM does.

    Args:
        target: the network.
        image: the image to explain: a PIL image of 8 bits per channel, bytes (uint8) of shape
            [height, width, 3], [height, width, 4] or [height, width], or the path of a file;
            converted to RGB.
        found: a description of the neurons of one of its layers other than the logits.
        peers: other images of the predicted class, which give the class map.
        neurons: how many to show.

    Returns:
        Its class; for each neuron its concepts (what), its map (where) and its share (why); and
        the agreement of the class map with the sample map.

    Raises:
        InputError: a result of the logits or of another network, or an image that can't be decoded.
    """
    check_type(target, Target, "target", "load_target")
    check_type(found, Result, "found", "describe")
    layer, neurons = found[0].layer, converted(int, neurons, "neurons")
    if layer == LOGITS:
        raise InputError(
            f"The result describes {LOGITS!r}, whose neurons are the classes themselves: describe "
            "a layer before it, such as layer4, to explain a prediction."
        )
    target.check_layer(layer)
    if neurons < 1:
        raise InputError(f"{neurons} neurons are asked for: expected at least 1.")
    single = isinstance(peers, str) or getattr(peers, "ndim", 4) < 4
    if single or not isinstance(peers, Iterable):
        raise InputError(f"peers is {shown(peers)}: expected images, such as a list of them.")
    pixels = target.preprocess.squash(_rgb(image, "image"))
    contributed = contributions(target, layer, pixels[None])
    values, maps, logits = (np.asarray(array)[0] for array in contributed)
    if len(values) != len(found):
        raise InputError(
            f"Layer {layer!r} of {target.name} has {len(values)} neurons, but {len(found)} are "
            "described: give the result of the same network."
        )
    if not values.any():
        raise InputError(
            f"Nothing of {target.name} can be explained: no neuron of {layer!r} contributes to the "
            "logit; apply must go on with what its tap returns."
        )
    label, size = int(logits.argmax()), len(pixels)
    where, mean = image_map(values, maps, size), _class_mean(target, layer, label, peers)
    class_where = None if mean is None else image_map(mean, maps, size)
    positive = np.maximum(values, 0).sum()
    return Explanation(
        pixels=pixels,
        label=label,
        names=target.classes[label] if target.classes else (),
        logit=float(logits[label]),
        probability=float(1 / np.exp(logits.astype(np.float64) - logits[label]).sum()),
        parts=tuple(
            Part(
                neuron=found[unit],
                contribution=float(values[unit]),
                share=float(max(values[unit], 0) / positive) if positive > 0 else 0.0,
                where=neuron_map(maps[..., unit], size),
            )
            for unit in top_neurons(values, neurons)
        ),
        where=where,
        class_where=class_where,
        agreement=float("nan") if class_where is None else cosine(where, class_where),
    )


def explain_among(
    target: Target,
    image: Picture,
    found: Result,
    source: Source,
    *,
    peers: int = PEERS,
    neurons: int = SHOWN,
) -> Explanation:
    """Explain a prediction as `explain` does, with peers from a source if it has labels.

    Args:
        target: the network.
        image: to explain, as `explain` takes it.
        found: a description of the neurons.
        source: its first images of the predicted class give the class map.
        peers: how many of them at most.
        neurons: how many to show.

    Raises:
        InputError: `peers` is negative, or as `explain`.
    """
    peers = converted(int, peers, "peers")
    if peers < 0:
        raise InputError(
            f"{peers} peers are asked for: expected a number of images, or 0 for none."
        )
    alone = explain(target, image, found, neurons=neurons)
    source = matched(source, target)
    if not (source.has_labels and peers):
        return alone
    others = islice(_of_class(source, alone.label), peers)
    return explain(target, image, found, peers=others, neurons=neurons)


def _rgb(image: Any, name: str) -> Image.Image:
    """Read a picture as a run's sources do."""
    if isinstance(image, str | os.PathLike):
        path = os.path.expanduser(image)
        return decode(Path(path), repr(str(path)))
    try:
        return in_rgb(image, name)
    except UnusableImage as error:
        raise InputError(f"{name} {error.reason}.") from error


def _of_class(source: Source, label: int) -> Iterator[Image.Image]:
    for index in range(len(source)):
        try:
            example = load(source, index)
        except UnusableImage:
            continue
        if example.label == label:
            yield example.image


def _class_mean(
    target: Target, layer: str, label: int, peers: Iterable[Picture]
) -> np.ndarray | None:
    """Φ[y], each neuron's mean contribution to the class over its images, one after the other.

    Behind a mean and a linear layer that is W[y, k] · mean(a_k | label y).
    """
    total, count, classes = np.zeros(()), 0, np.array([label], np.int32)
    for peer in peers:
        pixels = target.preprocess.squash(_rgb(peer, "one of peers"))
        values = contributions(target, layer, pixels[None], classes).values
        total, count = total + np.asarray(values, np.float64)[0], count + 1
    return total / count if count else None
