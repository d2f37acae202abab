"""Ranks, equal values sharing the middle one, and what rests on them."""

import numpy as np
from jaxtyping import Bool, Float64, Shaped


def mid_ranks(values: Shaped[np.ndarray, "value"]) -> Float64[np.ndarray, "value"]:
    """Rank of each value from 1 on, the smallest first; equal ones get the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def auc(
    activations: Shaped[np.ndarray, "image neuron"], present: Bool[np.ndarray, "image concept"]
) -> Float64[np.ndarray, "neuron concept"]:
    """Chance that an image with the concept excites a neuron more than one without; ties count ½.

    The Mann-Whitney statistic, by which INVERT (Bykov et al., "Labeling Neural Representations
    with Inverse Recognition", NeurIPS 2023) labels neurons.

    Args:
        activations: of each neuron on each image.
        present: whether each image shows each concept, such as the truth.

    Returns:
        Areas under the ROC curve; NaN for a concept that all images show, or none.
    """
    ranks = np.stack([mid_ranks(own) for own in activations.T])
    positive = present.sum(axis=0)
    pairs = positive * (len(present) - positive)
    above = ranks @ present - positive * (positive + 1) / 2
    return np.where(pairs > 0, above / np.maximum(pairs, 1), np.nan)
