"""Made-up probe passes in which every neuron's concepts are known.

No network can tell if a neuron was named correctly. Here the truth comes first: images are made of
known concepts, each neuron responds to concepts that were chosen for it, and a method sees
activations and features alone. Each difficulty of real naming can be turned up by itself.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int

from jaxdesc.evaluation.methods import Selected
from jaxdesc.evaluation.probe import Probe
from jaxdesc.exemplars import exemplars

# Kinds of vocabulary entries.
SHOWN, SYNONYM, HUB, DISTRACTOR = range(4)

# Cosine of the directions that all images and all texts share: CLIP's two towers are apart (Liang
# et al., "Mind the Gap", NeurIPS 2022), with cosines of 0.1 to 0.3 between any two.
_GAP = 0.5

# Strengths with which an image shows a concept: uniform around 1.
_WEAKEST, _STRONGEST = 0.5, 1.5


class Accuracy(NamedTuple):
    """A method's answers against the truth, one value per neuron.

    `top` is True if its first concept is one of the neuron's, `f1` the harmonic mean of precision
    and recall of all its concepts, or 0.
    """

    top: Bool[np.ndarray, "neuron"]
    f1: Float64[np.ndarray, "neuron"]


def accuracy(selected: Selected, truth: Bool[np.ndarray, "neuron concept"]) -> Accuracy:
    """Compare selected concepts with those of each neuron, at least one."""
    pairs = list(zip(selected, truth, strict=True))
    top = [bool(len(concepts) and row[concepts[0]]) for concepts, row in pairs]
    f1 = [2 * row[concepts].sum() / (len(concepts) + row.sum()) for concepts, row in pairs]
    return Accuracy(np.array(top, bool), np.array(f1, np.float64))


@dataclass(frozen=True)
class Recipe:
    """Sizes and difficulty of a made-up pass. Lengths are relative to a concept's direction."""

    images: int = 4000
    neurons: int = 64
    width: int = 64  # of a feature
    exemplars: int = 20  # per neuron
    shown: int = 150  # concepts that images show, and that neurons respond to
    scene: int = 3  # shown concepts per image
    synonyms: int = 50  # entries near a shown concept, for which no neuron was made
    synonym_cosine: float = 0.9  # of a synonym's direction and its concept's
    hubs: int = 5  # entries that are nearer to all images than others are
    hub_pull: float = 0.7  # length of a hub's part in the direction of all images
    distractors: int = 195  # entries that no image shows
    cone: float = 1.2  # length of the part that all features of a kind share
    noise: float = 1.5  # length of the noise in an image's feature
    activation_noise: float = 0.3  # standard deviation of the noise in an activation
    impurity: float = 0.4  # share of the most active images that lack the neuron's concept
    polysemantic: float = 0.25  # share of neurons that respond to two concepts


class Planted(NamedTuple):
    """A probe pass and the truth about it.

    `truth` holds the concepts that each neuron was made for, one or two, and `present` those that
    each image shows. For each entry, `original` is the concept that it is a synonym of, or itself,
    and `kind` is `SHOWN`, `SYNONYM`, `HUB` or `DISTRACTOR`.
    """

    probe: Probe
    truth: Bool[np.ndarray, "neuron concept"]
    present: Bool[np.ndarray, "image concept"]
    original: Int[np.ndarray, "concept"]
    kind: Int[np.ndarray, "concept"]

    @property
    def lenient(self) -> Bool[np.ndarray, "neuron concept"]:
        """The truth, with synonyms of each of its concepts."""
        return self.truth[:, self.original]


def plant(recipe: Recipe, seed: int = 0) -> Planted:
    """Make up a probe pass whose neurons' concepts are known."""
    rng = np.random.default_rng(seed)
    # In random order, so that the index says nothing about the kind.
    counts = recipe.shown, recipe.synonyms, recipe.hubs, recipe.distractors
    kind = rng.permutation(np.repeat([SHOWN, SYNONYM, HUB, DISTRACTOR], counts))
    shown, original = np.flatnonzero(kind == SHOWN), np.arange(len(kind))
    original[kind == SYNONYM] = rng.choice(shown, recipe.synonyms, replace=False)
    strengths = np.zeros((recipe.images, len(kind)))
    scenes = rng.permuted(np.tile(shown, (recipe.images, 1)), axis=1)[:, : recipe.scene]
    drawn = rng.uniform(_WEAKEST, _STRONGEST, scenes.shape)
    np.put_along_axis(strengths, scenes, drawn, axis=1)
    directions, of_images, of_texts = _directions(recipe, kind, original, rng)
    pull = recipe.hub_pull * (kind == HUB)[:, None] * of_images
    texts = _unit(recipe.cone * of_texts + directions + pull).astype(np.float32)
    truth = np.zeros((recipe.neurons, len(kind)), bool)
    several = rng.permutation(recipe.neurons) < round(recipe.polysemantic * recipe.neurons)
    for neuron, two in enumerate(several):
        truth[neuron, rng.choice(shown, 2 if two else 1, replace=False)] = True
    activations = _activations(recipe, strengths, truth, rng)
    noise = recipe.noise * _unit(rng.normal(size=(recipe.images, recipe.width)))
    probe = Probe(
        activations=activations,
        images=_unit(recipe.cone * of_images + strengths @ directions + noise).astype(np.float32),
        concepts=texts,
        base=_unit(texts.mean(axis=0, dtype=np.float64)).astype(np.float32),
        exemplars=exemplars(activations, recipe.exemplars).slots,
    )
    return Planted(probe, truth, strengths > 0, original, kind)


def _directions(
    recipe: Recipe,
    kind: Int[np.ndarray, "concept"],
    original: Int[np.ndarray, "concept"],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Direction of each entry, the one that all images share, and the one that all texts share."""
    directions = _unit(rng.normal(size=(len(kind), recipe.width)))
    copies, cosine = kind == SYNONYM, recipe.synonym_cosine
    concepts = directions[original[copies]]
    along = (directions[copies] * concepts).sum(axis=1, keepdims=True) * concepts
    apart = _unit(directions[copies] - along)
    directions[copies] = cosine * concepts + np.sqrt(1 - cosine**2) * apart
    of_images, other = _unit(rng.normal(size=(2, recipe.width)))
    return directions, of_images, _unit(_GAP * of_images + np.sqrt(1 - _GAP**2) * other)


def _activations(
    recipe: Recipe,
    strengths: Float[np.ndarray, "image concept"],
    truth: Bool[np.ndarray, "neuron concept"],
    rng: np.random.Generator,
) -> Float32[np.ndarray, "image neuron"]:
    """Strength of the neuron's strongest concept, or of a foreign image, plus noise; ≥ 0."""
    response = np.stack([strengths[:, row].max(axis=1) for row in truth], axis=1)
    for neuron in range(recipe.neurons):
        shows = response[:, neuron] > 0
        count = shows.sum() * recipe.impurity / (1 - recipe.impurity)
        without = np.flatnonzero(~shows)
        foreign = rng.choice(without, min(round(count), len(without)), replace=False)
        response[foreign, neuron] = rng.uniform(_WEAKEST, _STRONGEST, len(foreign))
    noise = recipe.activation_noise * rng.normal(size=response.shape)
    return np.maximum(response + noise, 0).astype(np.float32)


def _unit(features: Any) -> Float[np.ndarray, "..."]:
    return features / np.linalg.norm(features, axis=-1, keepdims=True)
