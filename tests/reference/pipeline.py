"""Oracle of the whole pipeline: image by image, text by text, put together from the other oracles.

The networks are handed over as functions of one image or one text, so nothing here knows of
batches, padding, stages or files. Windows are cut by the library's `Preprocess`.
"""

import zlib
from collections import namedtuple
from types import SimpleNamespace

import numpy as np

from tests.reference import attention, exemplars, metrics, scoring

# `target` gives feature maps [h, w, C], taps by name and logits [K] of normalised pixels [S, S, 3];
# its head is linear in the maps' mean: `weight` [K, C] and `bias` [K]. `image` and `text` give
# CLIP's features [d], of any length, of normalised pixels and of a text.
Networks = namedtuple("Networks", "target weight bias preprocess image clip_preprocess text")


def describe(config, networks, source, concepts, names=()):
    """The five stages by a config, whose batches and blocks are not looked at; Views to Metrics.

    `names` are those of the classes, if the neurons are the logits. Returns the `activations`
    [I, N]; the views' `boxes` (left, top, right, bottom); `fallbacks`, how many attention maps were
    empty; each neuron's `exemplars`; `scores` S [N, T]; `selected` (concept index, score) pairs of
    each neuron; and its `metrics`, empty without names.
    """
    examples = [source[index] for index in range(len(source))]
    found = [centre(config, networks, source, each, i) for i, each in enumerate(examples)]
    views = [
        cut(config, networks.preprocess, example.image, middle)
        for example, (middle, _) in zip(examples, found, strict=True)
    ]
    activations = np.array([_activation(config, networks, pixels) for pixels, _ in views])
    best = exemplars.exemplars(activations, config.score.exemplars)
    features = [  # of exemplars alone; no other image is seen
        _feature(config, networks, example.image, middle) if i in set().union(*best) else None
        for i, (example, (middle, _)) in enumerate(zip(examples, found, strict=True))
    ]
    template = config.vocabulary.template
    texts = [_unit(networks.text(template.replace("{concept}", concept))) for concept in concepts]
    base = _unit(networks.text(" ".join(template.replace("{concept}", "").split())))
    scores = scoring.scores(features, best, texts, base, config.score.kappa)
    selected = scoring.select(scores, config.score.alpha)
    chosen = [[concepts[j] for j, _ in pairs] for pairs in selected]
    return SimpleNamespace(
        activations=activations,
        boxes=[box for _, box in views],
        fallbacks=[peaked for _, peaked in found].count(False),
        exemplars=best,
        scores=scores,
        selected=selected,
        metrics=_metrics(networks, chosen, names) if names else {},
    )


def centre(config, networks, source, example, index):
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
        pixels = networks.preprocess.squash(image)
        left, top, right, bottom = 0, 0, width, height
    else:
        pixels, box = networks.preprocess.cut(image, (0.5, 0.5), crop.field)
        left, top, right, bottom = box
    seen = _normalised(networks.preprocess, pixels)
    maps, _, logits = networks.target(seen)
    class_ = example.label if crop.cam_class == "label" else int(np.argmax(logits))
    (y, x), found = attention.peak(_map(crop.cam, networks, seen, maps, class_))
    if not found:
        return (0.5, 0.5), False
    return ((top + y * (bottom - top)) / height, (left + x * (right - left)) / width), True


def _map(cam, networks, pixels, maps, class_):
    """The attention map whose peak the window is around; method: Grad-CAM."""

    def head(maps):
        return networks.weight @ maps.mean(axis=(0, 1)) + networks.bias

    if cam in ("", "cam", "grad_cam"):  # behind such a head they differ by the factor h·w alone
        return attention.cam(networks.weight, maps, class_)
    if cam == "score_cam":
        whole = lambda pixels: networks.target(pixels.astype(np.float32))[2]  # noqa: E731
        return attention.score_cam(whole, pixels, maps, class_)
    return getattr(attention, cam)(head, maps, class_)


def cut(config, preprocess, image, middle):
    """Pixels of a view and its box in the image."""
    if config.crop.view == "full":
        return preprocess.squash(image), (0.0, 0.0, image.width, image.height)
    return preprocess.cut(image, middle, config.crop.field)


def _normalised(preprocess, pixels):
    scaled = (np.asarray(pixels, np.float64) / 255.0 - preprocess.mean) / preprocess.std
    return scaled.astype(np.float32)


def _activation(config, networks, pixels):
    """Every neuron's activation on one view; method: Neurons."""
    _, taps, logits = networks.target(_normalised(networks.preprocess, pixels))
    if config.target.layer == "fc":
        return np.asarray(logits, np.float64)
    cells = np.asarray(taps[config.target.layer], np.float64)
    cells = cells.reshape(-1, cells.shape[-1])
    return cells.mean(axis=0) if config.target.pooling == "mean" else cells.max(axis=0)


def _feature(config, networks, image, middle):
    """CLIP's unit feature of what it sees of one exemplar; method: Views, CLIP's input."""
    if config.clip.input == "image":
        pixels, _ = networks.clip_preprocess.cut(image, (0.5, 0.5))
    else:
        pixels, _ = cut(config, networks.clip_preprocess, image, middle)
    return _unit(networks.image(_normalised(networks.clip_preprocess, pixels)))


def _metrics(networks, chosen, names):
    def features(words):
        return np.array([_unit(networks.text(word.lower())) for word in words])

    pairs = list(zip(chosen, map(list, names), strict=True))
    return {
        "hit": [float(metrics.hit(p, g)) for p, g in pairs],
        "f1": [metrics.f1(p, g) for p, g in pairs],
        "clip_cos": [
            metrics.mean_cosine(features(p or ["none"]), features(g), cap=True) for p, g in pairs
        ],
    }


def _unit(vector):
    vector = np.asarray(vector, np.float64)
    return vector / np.sqrt(np.sum(vector**2))
