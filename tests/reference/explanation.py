"""Oracle of where and why (Ahn et al. 2024): loops in float64, by the rules of the method."""

import math

import numpy as np

from tests.reference.attention import upsampled


def contributions(activations, weights):
    """φ_k = W[y, k] · a_k of one image, a_k being the mean of its channel [row, column, k]."""
    rows, columns, neurons = activations.shape
    found = []
    for k in range(neurons):
        total = sum(float(activations[y, x, k]) for y in range(rows) for x in range(columns))
        found.append(float(weights[k]) * total / (rows * columns))
    return found


def class_contributions(activations_of_images, weights):
    """Φ[y, k] = W[y, k] · mean(a_k | label y)."""
    each = [contributions(activations, weights) for activations in activations_of_images]
    return [sum(values[k] for values in each) / len(each) for k in range(len(weights))]


def percentile(values, percent):
    """NumPy's and PyTorch's usual one: linear between the two nearest ranks."""
    ordered = sorted(values)
    place = percent / 100 * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def neuron_map(channel, size):
    """Values ≤ the 70th percentile are 0; bilinear to the view; between 0 and 1."""
    channel = np.asarray(channel, np.float64)
    limit = percentile(channel.ravel().tolist(), 70)
    large = upsampled(np.where(channel > limit, channel, 0.0), size, size)
    low, high = large.min(), large.max()
    return (large - low) / (high - low) if high > low else np.zeros_like(large)


def image_map(contributed, activations, size):
    """Σ over the three neurons of largest φ of φ_k/Σφ × map; Σφ over those three."""
    best = sorted(range(len(contributed)), key=lambda k: (-contributed[k], k))[:3]
    best = [k for k in best if contributed[k] > 0]
    total, found = sum(contributed[k] for k in best), np.zeros((size, size))
    for k in best:
        found += contributed[k] / total * neuron_map(activations[:, :, k], size)
    return found


def cosine(first, second):
    """Between two maps, all positions in a row."""
    pairs = list(zip(np.ravel(first).tolist(), np.ravel(second).tolist(), strict=True))
    norms = math.sqrt(sum(a * a for a, _ in pairs)) * math.sqrt(sum(b * b for _, b in pairs))
    return sum(a * b for a, b in pairs) / norms if norms > 0 else math.nan
