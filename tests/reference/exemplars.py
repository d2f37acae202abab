"""Oracles of the exemplars and of dead neurons."""

import numpy as np


def exemplars(activations: np.ndarray, n: int) -> np.ndarray:
    """Indices of the n most activating views of each neuron.

    Section 2 and 4.1 of the paper (the images with the highest activation); method: Symbols and
    shapes. Best first; equal activations by image index, the lower first.

    Args:
        activations: A [I, N], no NaN.
        n: exemplars per neuron, at most I.

    Returns:
        [N, n] indices into the I views.
    """
    a = np.asarray(activations, dtype=np.float64)
    images, neurons = a.shape
    if n > images:
        raise ValueError(f"{n} exemplars of {images} images")
    if np.isnan(a).any():
        raise ValueError("NaN has no order")
    result = np.zeros((neurons, n), dtype=np.int64)
    for i in range(neurons):
        order = sorted(range(images), key=lambda image: (-a[image, i], image))
        for o in range(n):
            result[i, o] = order[o]
    return result


def dead(activations: np.ndarray) -> np.ndarray:
    """Neurons whose activation is the same on every view.

    Method: Selection (dead neuron: constant activation). The constant need not be 0.

    Args:
        activations: A [I, N].

    Returns:
        [N] bool.
    """
    a = np.asarray(activations)
    images, neurons = a.shape
    result = np.zeros(neurons, dtype=bool)
    for i in range(neurons):
        result[i] = all(a[image, i] == a[0, i] for image in range(images))
    return result
