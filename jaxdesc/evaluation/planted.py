"""Made-up probe passes in which every neuron's concepts are known.

No network can tell whether a neuron was named rightly. Here the truth comes first: images are made
of known concepts, each neuron responds to concepts that were chosen for it, and a method sees
activations and features alone. What makes naming hard in earnest can be turned up one by one.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from jaxdesc.evaluation.probe import Probe
from jaxdesc.exemplars import exemplars

# What an entry of the vocabulary is.
SHOWN, SYNONYM, HUB, DISTRACTOR = range(4)

# Cosine of the directions that all images and all texts have in common: CLIP's two towers lie apart
# (Liang et al., "Mind the Gap", NeurIPS 2022), with cosines of 0.1 to 0.3 between any two.
_GAP = 0.5

# Strengths with which an image shows a concept: uniform around 1.
_WEAKEST, _STRONGEST = 0.5, 1.5


@dataclass(frozen=True)
class Recipe:
    """How many of everything, and how hard it is. Lengths are relative to a concept's own.

    Attributes:
        images: probe images.
        neurons: neurons.
        width: of a feature.
        exemplars: of each neuron.
        shown: concepts that images show, and that neurons respond to.
        scene: how many of them an image shows.
        synonyms: entries beside a shown concept, too near to it to be told apart easily; no neuron
            was made for them.
        synonym_cosine: cosine of a synonym's direction with its concept's.
        hubs: entries that are nearer to all images than others are.
        hub_pull: how far a hub points where all images do.
        distractors: entries that no image shows.
        cone: length of what all features of a kind have in common; large ones lie in a narrow cone.
        noise: length of what an image feature says beside its concepts.
        activation_noise: standard deviation of what an activation says beside its concepts.
        impurity: share of images without the neuron's concept among those that excite it most.
        polysemantic: share of neurons that respond to two concepts.
    """

    images: int = 4000
    neurons: int = 64
    width: int = 64
    exemplars: int = 20
    shown: int = 150
    scene: int = 3
    synonyms: int = 50
    synonym_cosine: float = 0.9
    hubs: int = 5
    hub_pull: float = 0.7
    distractors: int = 195
    cone: float = 1.2
    noise: float = 1.5
    activation_noise: float = 0.3
    impurity: float = 0.4
    polysemantic: float = 0.25

    def __post_init__(self) -> None:
        """Refuse what can't be made.

        Raises:
            ValueError: a number is out of range.
        """
        counts = self.images, self.neurons, self.width, self.exemplars, self.scene
        shares = self.impurity, self.polysemantic, self.synonym_cosine
        lengths = self.cone, self.noise, self.activation_noise, self.hub_pull
        others = self.synonyms, self.hubs, self.distractors
        # Written so that NaN fails.
        possible = (
            min(counts) >= 1
            and all(number >= 0 for number in (*lengths, *others))
            and all(0 <= share <= 1 for share in shares)
            and self.impurity < 1
            and max(self.scene, self.synonyms, 2) <= self.shown
            and self.exemplars <= self.images
        )
        if not possible:
            raise ValueError(
                f"{self} can't be planted: counts must be at least 1, lengths and other entries at "
                "least 0, shares within 0 to 1 (impurity below 1), shown at least 2, scene and "
                "synonyms at most shown, and exemplars at most images."
            )


class Planted(NamedTuple):
    """A probe pass and the truth about it.

    Attributes:
        probe: what methods are given.
        truth: the concepts that each neuron was made for, one or two.
        present: the concepts that each image shows.
        original: of each entry the concept that it is a synonym of, or itself.
        kind: of each entry: `SHOWN`, `SYNONYM`, `HUB` or `DISTRACTOR`.
    """

    probe: Probe
    truth: Bool[np.ndarray, "neuron concept"]
    present: Bool[np.ndarray, "image concept"]
    original: Int[np.ndarray, "concept"]
    kind: Int[np.ndarray, "concept"]

    @property
    def lenient(self) -> Bool[np.ndarray, "neuron concept"]:
        """The truth, synonyms of each of its concepts included."""
        return self.truth[:, self.original]


def plant(recipe: Recipe, seed: int = 0) -> Planted:
    """Make up a probe pass whose neurons' concepts are known.

    Args:
        recipe: how many of everything, and how hard it is.
        seed: of the generator.
    """
    rng = np.random.default_rng(seed)
    kind, original = _entries(recipe, rng)
    shown = np.flatnonzero(kind == SHOWN)
    strengths = _scenes(recipe, shown, len(kind), rng)
    own, common = _directions(recipe, kind, original, rng)
    texts = _texts(recipe, kind, own, common)
    truth = _meanings(recipe, shown, len(kind), rng)
    activations = _activations(recipe, strengths, truth, rng)
    noise = recipe.noise * _unit(rng.normal(size=(recipe.images, recipe.width)))
    probe = Probe(
        activations=activations,
        images=_unit(recipe.cone * common[0] + strengths @ own + noise).astype(np.float32),
        concepts=texts,
        base=_unit(texts.mean(axis=0, dtype=np.float64)).astype(np.float32),
        exemplars=exemplars(activations, recipe.exemplars).slots,
    )
    return Planted(probe, truth, strengths > 0, original, kind)


def _entries(
    recipe: Recipe, rng: np.random.Generator
) -> tuple[Int[np.ndarray, "concept"], Int[np.ndarray, "concept"]]:
    """What each entry is, in random order, so that no index tells; and which one it copies."""
    counts = recipe.shown, recipe.synonyms, recipe.hubs, recipe.distractors
    kind = rng.permutation(np.repeat([SHOWN, SYNONYM, HUB, DISTRACTOR], counts))
    original = np.arange(len(kind))
    copied = rng.choice(np.flatnonzero(kind == SHOWN), recipe.synonyms, replace=False)
    original[kind == SYNONYM] = copied
    return kind, original


def _scenes(
    recipe: Recipe, shown: Int[np.ndarray, "shown"], entries: int, rng: np.random.Generator
) -> Float[np.ndarray, "image concept"]:
    """How strongly each image shows each entry: `scene` of the shown concepts, at random."""
    strengths = np.zeros((recipe.images, entries))
    chosen = rng.permuted(np.tile(shown, (recipe.images, 1)), axis=1)[:, : recipe.scene]
    np.put_along_axis(strengths, chosen, rng.uniform(_WEAKEST, _STRONGEST, chosen.shape), axis=1)
    return strengths


def _directions(
    recipe: Recipe,
    kind: Int[np.ndarray, "concept"],
    original: Int[np.ndarray, "concept"],
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "concept feature"], Float[np.ndarray, "2 feature"]]:
    """Each entry's own direction, and those that all images and that all texts share."""
    own = _unit(rng.normal(size=(len(kind), recipe.width)))
    copies, cosine = kind == SYNONYM, recipe.synonym_cosine
    concepts = own[original[copies]]
    apart = _unit(own[copies] - (own[copies] * concepts).sum(axis=1, keepdims=True) * concepts)
    own[copies] = cosine * concepts + np.sqrt(1 - cosine**2) * apart
    of_images, other = _unit(rng.normal(size=(2, recipe.width)))
    of_texts = _unit(_GAP * of_images + np.sqrt(1 - _GAP**2) * other)
    return own, np.stack([of_images, of_texts])


def _texts(
    recipe: Recipe,
    kind: Int[np.ndarray, "concept"],
    own: Float[np.ndarray, "concept feature"],
    common: Float[np.ndarray, "2 feature"],
) -> Float32[np.ndarray, "concept feature"]:
    pull = recipe.hub_pull * (kind == HUB)[:, None] * common[0]
    return _unit(recipe.cone * common[1] + own + pull).astype(np.float32)


def _meanings(
    recipe: Recipe, shown: Int[np.ndarray, "shown"], entries: int, rng: np.random.Generator
) -> Bool[np.ndarray, "neuron concept"]:
    truth = np.zeros((recipe.neurons, entries), bool)
    several = rng.permutation(recipe.neurons) < round(recipe.polysemantic * recipe.neurons)
    for neuron, two in enumerate(several):
        truth[neuron, rng.choice(shown, 2 if two else 1, replace=False)] = True
    return truth


def _activations(
    recipe: Recipe,
    strengths: Float[np.ndarray, "image concept"],
    truth: Bool[np.ndarray, "neuron concept"],
    rng: np.random.Generator,
) -> Float32[np.ndarray, "image neuron"]:
    """The strength of the neuron's strongest concept, on strange images too, and noise; ≥ 0."""
    response = np.stack([strengths[:, own].max(axis=1) for own in truth], axis=1)
    for neuron in range(recipe.neurons):
        shows = response[:, neuron] > 0
        many = shows.sum() * recipe.impurity / (1 - recipe.impurity)
        without = np.flatnonzero(~shows)
        strange = rng.choice(without, min(round(many), len(without)), replace=False)
        response[strange, neuron] = rng.uniform(_WEAKEST, _STRONGEST, len(strange))
    noise = recipe.activation_noise * rng.normal(size=response.shape)
    return np.maximum(response + noise, 0).astype(np.float32)


def _unit(features: Any) -> Float[np.ndarray, "..."]:
    return features / np.linalg.norm(features, axis=-1, keepdims=True)
