"""Made-up image features with the cosines of a pretrained CLIP's, and other kinds."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int

KINDS = ("narrow", "mixed", "wide", "random")


class Arrays(NamedTuple):
    """Input of every side of a benchmark, as `scoring.discover` takes it: unit features."""

    images: Float32[np.ndarray, "image feature"]
    exemplars: Int[np.ndarray, "neuron exemplar"]
    texts: Float32[np.ndarray, "concept feature"]
    base: Float32[np.ndarray, "feature"]


def made_up(
    kind: str,
    texts: Float32[np.ndarray, "concept feature"],
    base: Float32[np.ndarray, "feature"],
    neurons: int,
    exemplars: int,
    images: int,
    seed: int = 0,
) -> Arrays:
    """Make up features of about `images` images, given those of texts and of the base template.

    "narrow" has a pretrained CLIP's cosines: about 0.7 between images of a class, 0.4 beyond, 0.3
    to the class's own concept and 0.1 to 0.2 to others. Each image is a sum of one direction of
    all images, the mean concept, its class's own concept and direction, and noise, half of it in 48
    directions. A neuron's exemplars are of one class; if there are fewer images than neurons ×
    exemplars, neurons share classes. "mixed" replaces three of ten exemplars by any image, "wide"
    has twice the noise, and "random" has neither classes nor concepts.
    """
    rng = np.random.default_rng(seed)
    width = texts.shape[1]
    if kind == "random":
        views = unit(rng.normal(size=(images, width)))
        return Arrays(views, rng.integers(0, images, (neurons, exemplars)), texts, base)
    classes = max(1, min(neurons, images // exemplars))
    each = max(exemplars, images // classes)
    mean = unit(texts.mean(axis=0))
    concept = unit(texts[rng.integers(0, len(texts), classes)] - texts.mean(axis=0))
    shared, direction = unit(rng.normal(size=width)), unit(rng.normal(size=(classes, width)))
    centre = 0.6 * shared + 0.2 * mean + 0.17 * concept + 0.45 * direction
    of_image = np.arange(classes * each) // each
    few = unit(rng.normal(size=(len(of_image), 48)) @ rng.normal(size=(48, width)))
    noise = 0.7 * few + 0.7 * unit(rng.normal(size=(len(of_image), width)))
    views = unit(centre[of_image] + (1.1 if kind == "wide" else 0.55) * noise)
    chosen = rng.random((neurons, each)).argsort(axis=1)[:, :exemplars]
    rows = (np.arange(neurons) % classes)[:, None] * each + chosen
    if kind == "mixed":
        foreign = rng.random(rows.shape) < 0.3
        rows = np.where(foreign, rng.integers(0, len(views), rows.shape), rows)
    used, inverse = np.unique(rows, return_inverse=True)
    return Arrays(views[used], inverse.reshape(rows.shape), texts, base)


def concepts(
    count: int, width: int, seed: int = 1
) -> tuple[Float32[np.ndarray, "concept feature"], Float32[np.ndarray, "feature"]]:
    """Texts in a cone, like those of one template, and a base template in its middle."""
    rng = np.random.default_rng(seed)
    texts = unit(0.7 * rng.normal(size=width) + rng.normal(size=(count, width)))
    return texts, unit(texts[:99].mean(axis=0))


def resampled(
    features: Float[np.ndarray, "text feature"], count: int, seed: int = 1
) -> tuple[Float32[np.ndarray, "concept feature"], Float32[np.ndarray, "feature"]]:
    """Draw texts with the mean and covariance of others, and a base template in their middle."""
    features = np.asarray(features, np.float64)
    moments = features.mean(axis=0), np.cov(features.T)
    texts = np.random.default_rng(seed).multivariate_normal(*moments, count, method="eigh")
    return unit(texts), unit(features.mean(axis=0))


def lifted(
    features: Float32[np.ndarray, "text narrow"], width: int, seed: int = 2
) -> Float32[np.ndarray, "text width"]:
    """Embed features in a wider space, turned at random; their cosines stay."""
    turned = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0]
    return unit(features @ turned[: features.shape[1]])


def cosines(arrays: Arrays) -> dict[str, str]:
    """Mean cosines and their spread: the width of the features' cone."""
    some = arrays.exemplars[:: max(1, len(arrays.exemplars) // 50)]
    views, texts = arrays.images[some], arrays.texts[:: max(1, len(arrays.texts) // 2000)]
    same = np.einsum("nof,npf->nop", views, views)
    same = same[:, ~np.eye(views.shape[1], dtype=bool)]
    to_texts = views.mean(axis=1) @ arrays.texts.T
    return {
        "exemplars of a neuron": _spread(same),
        "image and text": _spread(views[:, 0] @ texts.T),
        "image and best text": _spread(to_texts.max(axis=1)),
        "text and text": _spread((texts @ texts.T)[np.triu_indices(len(texts), 1)]),
    }


def _spread(values: Float[np.ndarray, "..."]) -> str:
    return f"{values.mean():.2f} ± {values.std():.2f}"


def unit(features: Any) -> Float32[np.ndarray, "..."]:
    """Divide each feature by its length."""
    lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    return np.asarray(features / lengths, np.float32)
