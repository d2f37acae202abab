"""Oracle of the whole pipeline: image by image, text by text, put together from the other oracles.

The networks are handed over as functions of one image or one text, so nothing here knows of
batches, padding, stages or files. Windows are cut by the library's `Preprocess`.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdesc.config import Config
from tests.reference import attention, exemplars, metrics, saliency, scoring


class Networks(NamedTuple):
    """Functions that the oracle calls.

    Attributes:
        target: pixels [S, S, 3], normalised -> feature maps [h, w, C], taps by name, logits [K].
        weight, bias: [K, C] and [K] of its head, which is linear in the maps' mean.
        preprocess: of the target.
        image: CLIP's feature [d] of pixels, normalised; any length.
        clip_preprocess: of CLIP.
        text: CLIP's feature [d] of a text; any length.
    """

    target: Callable[[np.ndarray], tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]]
    weight: np.ndarray
    bias: np.ndarray
    preprocess: Any
    image: Callable[[np.ndarray], np.ndarray]
    clip_preprocess: Any
    text: Callable[[str], np.ndarray]


class Description(NamedTuple):
    """Expected results of the pipeline.

    Attributes:
        activations: [I, N].
        boxes: (left, top, right, bottom) of each view.
        fallbacks: how many attention maps were empty.
        exemplars: [N, n].
        scores: S [N, T].
        selected: for each neuron its (concept index, score) pairs.
        metrics: [N] each; empty without names.
    """

    activations: np.ndarray
    boxes: list[tuple[float, ...]]
    fallbacks: int
    exemplars: np.ndarray
    scores: np.ndarray
    selected: list[list[tuple[int, float]]]
    metrics: dict[str, list[float]]


def describe(
    config: Config,
    networks: Networks,
    source: Any,
    concepts: Sequence[str],
    names: Sequence[Sequence[str]] = (),
) -> Description:
    """The five stages; method: Views to Metrics.

    Args:
        config: all choices; batches and blocks are not looked at.
        networks: both.
        source: the probe images.
        concepts: the vocabulary.
        names: of the classes, if the neurons are the logits.
    """
    centres, found = [], []
    for index in range(len(source)):
        centre, ok = _centre(config, networks, source, source[index], index)
        centres.append(centre)
        found.append(ok)
    views = [
        _cut(config, networks.preprocess, source[i].image, centres[i]) for i in range(len(source))
    ]
    activations = np.array(
        [_activation(config, networks, pixels) for pixels, _ in views], dtype=np.float64
    )
    best = exemplars.exemplars(activations, config.score.exemplars)
    seen = {i: _feature(config, networks, source[i].image, centres[i]) for i in set().union(*best)}
    features = np.zeros((len(source), len(next(iter(seen.values())))))
    for index, feature in seen.items():
        features[index] = feature
    texts = [config.vocabulary.template.replace("{concept}", concept) for concept in concepts]
    scores = scoring.scores(
        features,
        best,
        np.array([_unit(networks.text(text)) for text in texts]),
        _unit(networks.text(" ".join(config.vocabulary.template.replace("{concept}", "").split()))),
        config.score.kappa,
    )
    selected = scoring.select(scores, config.score.alpha)
    chosen = [[concepts[j] for j, _ in pairs] for pairs in selected]
    return Description(
        activations,
        [box for _, box in views],
        found.count(False),
        best,
        scores,
        selected,
        _metrics(networks, chosen, names) if names else {},
    )


def _centre(
    config: Config, networks: Networks, source: Any, example: Any, index: int
) -> tuple[tuple[float, float], bool]:
    """(y, x) of the window's middle in fractions of the image, and whether it was found."""
    crop, image = config.crop, example.image
    height, width = float(image.height), float(image.width)
    if crop.view in ("centre", "full"):
        return (0.5, 0.5), True
    if crop.view == "box":
        left, top, right, bottom = example.box
        return ((top + bottom) / 2.0 / height, (left + right) / 2.0 / width), True
    if crop.view == "random":
        seed = crop.seed ^ zlib.crc32(source.spec.encode())
        shares = np.random.Generator(np.random.Philox(key=[seed, index])).random(2)
        side = crop.field * min(height, width)
        y = side / 2.0 + shares[0] * (height - side)
        x = side / 2.0 + shares[1] * (width - side)
        return (y / height, x / width), True
    if crop.cam_input == "whole":
        pixels, (left, top, right, bottom) = (
            networks.preprocess.squash(image),
            (0, 0, width, height),
        )
    else:
        pixels, (left, top, right, bottom) = networks.preprocess.cut(image, (0.5, 0.5), crop.field)
    seen = _normalised(networks.preprocess, pixels)
    maps, _, logits = networks.target(seen)
    class_ = example.label if crop.cam_class == "label" else int(np.argmax(logits))
    (y, x), found = attention.peak(_map(crop.cam, networks, seen, maps, class_))
    if not found:
        return (0.5, 0.5), False
    return ((top + y * (bottom - top)) / height, (left + x * (right - left)) / width), True


def _map(
    cam: str, networks: Networks, pixels: np.ndarray, maps: np.ndarray, class_: int
) -> np.ndarray:
    """The map of attention whose peak the window lies around; method: Grad-CAM."""

    def head(maps: np.ndarray) -> np.ndarray:
        return networks.weight @ maps.mean(axis=(0, 1)) + networks.bias

    if cam == "grad_cam":
        return attention.grad_cam_linear(networks.weight, networks.bias, maps, class_)
    if cam == "cam":
        return np.maximum(attention.cam(networks.weight, maps, class_), 0)
    if cam == "score_cam":
        whole = lambda pixels: networks.target(pixels.astype(np.float32))[2]  # noqa: E731
        return saliency.score_cam(whole, pixels, maps, class_)
    return {"grad_cam_pp": saliency.grad_cam_pp, "layer_cam": saliency.layer_cam}[cam](
        head, maps, class_
    )


def _cut(
    config: Config, preprocess: Any, image: Any, centre: tuple[float, float]
) -> tuple[np.ndarray, tuple[float, ...]]:
    if config.crop.view == "full":
        return preprocess.squash(image), (0.0, 0.0, image.width, image.height)
    return preprocess.cut(image, centre, config.crop.field)


def _normalised(preprocess: Any, pixels: np.ndarray) -> np.ndarray:
    scaled = (np.asarray(pixels, np.float64) / 255.0 - preprocess.mean) / preprocess.std
    return scaled.astype(np.float32)


def _activation(config: Config, networks: Networks, pixels: np.ndarray) -> np.ndarray:
    """Every neuron's activation on one view; method: Neurons."""
    _, taps, logits = networks.target(_normalised(networks.preprocess, pixels))
    if config.target.layer == "fc":
        return np.asarray(logits, np.float64)
    cells = np.asarray(taps[config.target.layer], np.float64)
    cells = cells.reshape(-1, cells.shape[-1])
    return cells.mean(axis=0) if config.target.pooling == "mean" else cells.max(axis=0)


def _feature(
    config: Config, networks: Networks, image: Any, centre: tuple[float, float]
) -> np.ndarray:
    """CLIP's unit feature of what it sees of one exemplar; method: Views, CLIP's input."""
    if config.clip.input == "image":
        pixels, _ = networks.clip_preprocess.cut(image, (0.5, 0.5))
    else:
        pixels, _ = _cut(config, networks.clip_preprocess, image, centre)
    return _unit(networks.image(_normalised(networks.clip_preprocess, pixels)))


def _metrics(
    networks: Networks, chosen: list[list[str]], names: Sequence[Sequence[str]]
) -> dict[str, list[float]]:
    def features(words: Sequence[str]) -> np.ndarray:
        return np.array([_unit(networks.text(word.lower())) for word in words])

    pairs = list(zip(chosen, map(list, names), strict=True))
    return {
        "hit": [float(metrics.hit(p, g)) for p, g in pairs],
        "f1": [metrics.f1(p, g) for p, g in pairs],
        "clip_cos": [
            metrics.mean_cosine(features(p or ["none"]), features(g), cap=True) for p, g in pairs
        ],
    }


def _unit(vector: np.ndarray) -> np.ndarray:
    vector = np.asarray(vector, dtype=np.float64)
    return vector / np.sqrt(np.sum(vector**2))
