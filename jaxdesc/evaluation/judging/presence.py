"""Presence of concepts in images: by the truth, by the images' labels, or by another network.

Each is a function from concepts to rows [concept, image] of chances from 0 to 1 that the image
shows the concept. A concept on which nothing is known has a row of NaN.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from scipy import optimize, special

from jaxdesc.models.encoder import Namer
from jaxdesc.vocabulary import wordnet

TRUTH, LABELS, SCORER = "truth", "labels", "scorer"
PAIRS = 2_000_000  # of images and classes, by which a sigmoid is fitted at most

# From texts to their unit features.
Encode = Callable[[Sequence[str]], Float32[np.ndarray, "text feature"]]


@dataclass(frozen=True)
class Presence:
    """Chances that images show concepts.

    Attributes:
        kind: TRUTH, LABELS or SCORER.
        of: concepts -> rows; without a row's NaN, of the `known` images.
        known: images that can be judged by it.
        notes: what was assumed, in sentences.
    """

    kind: str
    of: Callable[[Sequence[str]], Float32[np.ndarray, "concept image"]]
    known: Bool[np.ndarray, "image"]
    notes: tuple[str, ...] = ()


class Sigmoid(NamedTuple):
    """Chance that an image shows a text, from their cosine: sigmoid(a (cosine + b))."""

    a: float
    b: float

    def __call__(self, cosines: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Return the chances."""
        return special.expit(np.float32(self.a) * (cosines + np.float32(self.b)))


# That of OpenAI's ViT-L/14 at 336 px, fitted on ImageNet's classes and superclasses by the authors
# of NeuronEval. Cosines of the other CLIPs are similar.
PUBLISHED = Sigmoid(58.0, -0.25)


def by_truth(
    shows: Callable[[Sequence[str]], Float32[np.ndarray, "concept image"]],
    known: Bool[np.ndarray, "image"],
) -> Presence:
    """The presence that a source knows itself; a concept that no image shows can't be judged."""
    return Presence(TRUTH, lambda concepts: _shown_somewhere(shows(concepts)[:, known]), known)


def by_labels(
    labels: Int[np.ndarray, "image"],
    classes: Sequence[Sequence[str]],
    wnids: Sequence[str] = (),
) -> Presence:
    """Presence of 1 for the names of an image's class, and of its WordNet hypernyms, if known.

    `labels` are indices of classes, −1 without one. A name that belongs to no class of an image
    here can't be judged: whether it is an attribute, a part or a class without images is unknown.
    """
    known = (labels >= 0) & (labels < len(classes))
    shown: dict[str, set[int]] = {}
    for index in np.unique(labels[known]).tolist():
        for name in (*classes[index], *(_hypernyms(wnids[index]) if len(wnids) else ())):
            shown.setdefault(folded(name), set()).add(index)
    of_images = labels[known]

    def of(concepts: Sequence[str]) -> Float32[np.ndarray, "concept image"]:
        rows = np.full((len(concepts), len(of_images)), np.nan, np.float32)
        for row, concept in zip(rows, concepts, strict=True):
            if classes_of := shown.get(folded(concept)):
                row[:] = np.isin(of_images, list(classes_of))
        return rows

    return Presence(LABELS, of, known)


def by_scorer(
    features: Float32[np.ndarray, "image feature"],
    encode: Encode,
    sigmoid: Sigmoid,
    encoded: Mapping[str, np.ndarray] = {},
) -> Presence:
    """Presence by a network's cosines of images and texts, some of which may be `encoded`."""
    kept = dict(encoded)

    def of(concepts: Sequence[str]) -> Float32[np.ndarray, "concept image"]:
        new = [text for text in dict.fromkeys(concepts) if text not in kept]
        if new:
            kept.update(zip(new, encode(new), strict=True))
        texts = np.stack([kept[text] for text in concepts])
        return sigmoid(texts @ features.T)

    return Presence(SCORER, of, np.ones(len(features), bool))


def sigmoid_of(
    namer: Namer,
    features: Float32[np.ndarray, "image feature"],
    labels: Int[np.ndarray, "image"],
    classes: Float32[np.ndarray, "class feature"] | None,
) -> tuple[Sigmoid, tuple[str, ...]]:
    """Return how an encoder's cosines become chances, and what was assumed.

    SigLIP has been trained with a sigmoid. CLIP's is fitted on the images that have labels, by the
    features of the classes' names; without any it is the published one.
    """
    if namer.logit_bias is not None and namer.logit_scale:
        return Sigmoid(namer.logit_scale, namer.logit_bias / namer.logit_scale), ()
    known = labels >= 0
    if classes is not None and known.any():
        found = fitted(features[known] @ classes.T, labels[known])
        note = (
            f"chances that {namer.name} sees a concept are sigmoid({found.a:.3g} (cosine "
            f"{found.b:+.3g})), fitted on {int(known.sum())} labelled images"
        )
        return found, (note,)
    note = (
        f"chances that {namer.name} sees a concept are sigmoid({PUBLISHED.a:g} (cosine "
        f"{PUBLISHED.b:+g})), fitted on another CLIP by NeuronEval: no image has a label to fit "
        "them by"
    )
    return PUBLISHED, (note,)


def fitted(
    cosines: Float32[np.ndarray, "image class"], labels: Int[np.ndarray, "image"]
) -> Sigmoid:
    """Fit a and b by logistic regression over pairs of images and classes, a being positive."""
    some = np.random.default_rng(0).permutation(len(labels))[: max(1, PAIRS // cosines.shape[1])]
    right = labels[some, None] == np.arange(cosines.shape[1])[None]
    x = cosines[some].astype(np.float64)
    centre, scale = x.mean(), max(float(x.std()), 1e-6)
    x = (x - centre) / scale

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        slope, offset = np.exp(weights[0]), weights[1]
        logits = slope * x + offset
        gap = special.expit(logits) - right
        # log(1 + e^z) − y z
        value = np.logaddexp(0, logits) - np.where(right, logits, 0)
        return float(value.mean()), np.array([(gap * x).mean() * slope, gap.mean()])

    start = np.array([0.0, special.logit(np.clip(right.mean(), 1e-6, 1 - 1e-6))])
    log_slope, offset = optimize.minimize(loss, start, jac=True, method="L-BFGS-B").x
    a = float(np.exp(log_slope) / scale)
    return Sigmoid(a, float(offset / a - centre))


def folded(name: str) -> str:
    """A name as it is compared: case and the kind of space do not matter."""
    return " ".join(name.replace("_", " ").split()).casefold()


def _hypernyms(wnid: str) -> Iterator[str]:
    """All words of all hypernyms of a synset."""
    words, parents = wordnet.noun_synsets(), wordnet.hypernyms()
    above = set(parents.get(wnid, ()))
    while above:
        each = above.pop()
        yield from words[each]
        above |= set(parents.get(each, ()))


def _shown_somewhere(
    rows: Float32[np.ndarray, "concept image"],
) -> Float32[np.ndarray, "concept image"]:
    return np.where(rows.any(axis=1, keepdims=True), rows, np.float32(np.nan))
