"""Agreement of concept and neuron over all probe images, not the exemplars alone.

A concept may fit a neuron's strongest images and say nothing of the rest. Here the neuron's
activation is compared with the presence of its concept in each image. AUPRC and correlation are
among the measures that pass the sanity checks of NeuronEval (Oikarinen et al., "Evaluating Neuron
Explanations", ICML 2025): they fall if labels are added or left out.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy  # imports scipy.stats on first use
from jaxtyping import Bool, Float64, Shaped

from jaxdesc.evaluation.methods import Selected
from jaxdesc.evaluation.probe import Probe


class Faithfulness(NamedTuple):
    """One value per neuron, of its first concept; NaN without one, or for constant values.

    `auprc` is the average precision of finding the images with the concept by the activation,
    `pearson` the correlation of activation and presence.
    """

    auprc: Float64[np.ndarray, "neuron"]
    pearson: Float64[np.ndarray, "neuron"]


def by_truth(
    probe: Probe, selected: Selected, present: Bool[np.ndarray, "image concept"]
) -> Faithfulness:
    """Faithfulness if it is known which concepts each image shows."""
    return _each(probe, selected, lambda concept: (present[:, concept], present[:, concept]))


def by_similarity(probe: Probe, selected: Selected, share: float = 0.05) -> Faithfulness:
    """Faithfulness by CLIP's judgement of what an image shows.

    Correlations are with the cosine of image and concept; for AUPRC the `share` of images nearest
    to a concept show it.
    """
    nearest = int(len(probe.images) * share)

    def presence(concept: int) -> tuple[np.ndarray, np.ndarray]:
        cosines = probe.images @ probe.concepts[concept]
        return cosines >= np.partition(cosines, -nearest)[-nearest], cosines

    return _each(probe, selected, presence)


def auprc(activations: Shaped[np.ndarray, "image"], present: Bool[np.ndarray, "image"]) -> float:
    """Average precision Σ_k (R_k − R_{k−1}) P_k over the distinct activations, the largest first.

    Equal activations are found together. NaN if no image has the concept.
    """
    if not present.any():
        return np.nan
    order = np.argsort(-activations, kind="stable")
    found = np.cumsum(present[order])
    last = np.flatnonzero(np.append(np.diff(activations[order]) != 0, True))
    gained = np.diff(found[last], prepend=0) / found[-1]
    return float((gained * found[last] / (last + 1)).sum())


def pearson(first: Shaped[np.ndarray, "image"], second: Shaped[np.ndarray, "image"]) -> float:
    """Correlation in float64; NaN if either is constant."""
    if first.min() == first.max() or second.min() == second.max():
        return np.nan
    pair = np.asarray(first, np.float64), np.asarray(second, np.float64)
    return float(scipy.stats.pearsonr(*pair).statistic)


def auc(
    activations: Shaped[np.ndarray, "image neuron"], present: Bool[np.ndarray, "image concept"]
) -> Float64[np.ndarray, "neuron concept"]:
    """Chance that an image with the concept excites a neuron more than one without; ties count ½.

    The Mann-Whitney statistic, by which INVERT (Bykov et al., "Labeling Neural Representations
    with Inverse Recognition", NeurIPS 2023) labels neurons. NaN for a concept that all images show,
    or none.
    """
    ranks = scipy.stats.rankdata(activations, axis=0).T
    positive = present.sum(axis=0)
    pairs = positive * (len(present) - positive)
    above = ranks @ present - positive * (positive + 1) / 2
    return np.where(pairs > 0, above / np.maximum(pairs, 1), np.nan)


def _each(
    probe: Probe, selected: Selected, presence: Callable[[int], tuple[np.ndarray, np.ndarray]]
) -> Faithfulness:
    """Measure each neuron; `presence` returns presence and degree of a concept in each image."""
    values, dead = np.full((2, len(selected)), np.nan), probe.dead
    for neuron, concepts in enumerate(selected):
        if len(concepts) and not dead[neuron]:
            activations = probe.activations[:, neuron]
            shown, degree = presence(int(concepts[0]))
            values[:, neuron] = auprc(activations, shown), pearson(activations, degree)
    return Faithfulness(*values)
