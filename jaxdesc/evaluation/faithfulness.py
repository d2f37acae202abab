"""How well a concept explains a neuron over all probe images, not its exemplars alone.

A concept may fit a neuron's strongest images and say nothing of the rest. Here the neuron's
activation is compared with whether, or how much, each image shows its concept. AUPRC and
correlation are among the measures that pass the sanity checks of NeuronEval (Oikarinen et al.,
"Evaluating Neuron Explanations", ICML 2025): they fall where labels are added or left out.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int, Shaped

from jaxdesc.evaluation.accuracy import NONE
from jaxdesc.evaluation.probe import Probe
from jaxdesc.evaluation.ranks import mid_ranks


class Faithfulness(NamedTuple):
    """One value a neuron; NaN where it has no concept, or what is compared is constant.

    Attributes:
        auprc: average precision of finding the images with the concept by the activation.
        chance: share of images with the concept: the AUPRC of an activation that says nothing.
        pearson: correlation of activation and presence.
        spearman: of their ranks.
    """

    auprc: Float64[np.ndarray, "neuron"]
    chance: Float64[np.ndarray, "neuron"]
    pearson: Float64[np.ndarray, "neuron"]
    spearman: Float64[np.ndarray, "neuron"]


def by_truth(
    probe: Probe, concepts: Int[np.ndarray, "neuron"], present: Bool[np.ndarray, "image concept"]
) -> Faithfulness:
    """Faithfulness where it is known what each image shows.

    Args:
        probe: the arrays.
        concepts: each neuron's concept, or `accuracy.NONE`.
        present: whether each image shows each concept.
    """
    return _each(probe, concepts, lambda concept: (present[:, concept], present[:, concept]))


def by_similarity(
    probe: Probe, concepts: Int[np.ndarray, "neuron"], share: float = 0.05
) -> Faithfulness:
    """Faithfulness where CLIP must tell what an image shows.

    Correlations are with the cosine of image and concept; for AUPRC the `share` of images that lie
    nearest to a concept show it.

    Args:
        probe: the arrays.
        concepts: each neuron's concept, or `accuracy.NONE`.
        share: of the images.

    Raises:
        ValueError: `share` leaves no image with a concept, or none without.
    """
    images = len(probe.images)
    count = int(images * share)
    if not 1 <= count < images:
        raise ValueError(
            f"{share:.3g} of {images} images is {count}, but there must be images with a concept "
            "and images without: give more images or another share."
        )

    def of(concept: int) -> tuple[np.ndarray, np.ndarray]:
        cosines = probe.images @ probe.concepts[concept]
        return cosines >= np.partition(cosines, -count)[-count], cosines

    return _each(probe, concepts, of)


def auprc(activations: Shaped[np.ndarray, "image"], present: Bool[np.ndarray, "image"]) -> float:
    """Average precision Σ_k (R_k − R_{k−1}) P_k over the distinct activations, the largest first.

    Equal activations are found together, so their order has no part in it. NaN where no image has
    the concept.
    """
    if not present.any():
        return np.nan
    order = np.argsort(-activations, kind="stable")
    found = np.cumsum(present[order])
    # The last image of each distinct activation.
    last = np.flatnonzero(np.append(np.diff(activations[order]) != 0, True))
    gained = np.diff(found[last], prepend=0) / found[-1]
    return float((gained * found[last] / (last + 1)).sum())


def pearson(first: Shaped[np.ndarray, "image"], second: Shaped[np.ndarray, "image"]) -> float:
    """Correlation in float64; NaN where either is constant."""
    one, other = (np.asarray(values, np.float64) for values in (first, second))
    if one.min() == one.max() or other.min() == other.max():
        return np.nan
    one, other = one - one.mean(), other - other.mean()
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


def spearman(first: Shaped[np.ndarray, "image"], second: Shaped[np.ndarray, "image"]) -> float:
    """Correlation of ranks, equal values sharing the middle one; NaN where either is constant."""
    return pearson(mid_ranks(first), mid_ranks(second))


def _each(
    probe: Probe,
    concepts: Int[np.ndarray, "neuron"],
    presence: Callable[[int], tuple[np.ndarray, np.ndarray]],
) -> Faithfulness:
    """Measure each neuron; `presence` gives whether and how much the images show a concept."""
    values, dead = np.full((4, len(concepts)), np.nan), probe.dead
    for neuron, concept in enumerate(concepts.tolist()):
        if concept == NONE or dead[neuron]:
            continue
        own = probe.activations[:, neuron]
        shown, much = presence(concept)
        values[:, neuron] = (
            auprc(own, shown), shown.mean(), pearson(own, much), spearman(own, much)
        )  # fmt: skip
    return Faithfulness(*values)
