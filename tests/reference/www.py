"""Oracle of WWW's discovery (Ahn et al. 2024) by itself: loops in float64, by its own rules.

Written from method: Scores, Selection and Vocabularies. It shares nothing with the other oracles:
WWW has no concentration, sums over exemplars instead of averaging, and has no rule for a
largest score that isn't positive, since α of it lies above it anyway.
"""

import math

import numpy as np


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """a · b / (‖a‖ ‖b‖)."""
    product = squares_a = squares_b = 0.0
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        product += x * y
        squares_a += x * x
        squares_b += y * y
    return product / math.sqrt(squares_a * squares_b)


def scores(exemplars: np.ndarray, concepts: np.ndarray, base: np.ndarray) -> list[float]:
    """Σ_o cos(v_o, W_j) − cos(v_o, b) of one neuron, for each concept j.

    Args:
        exemplars: [n, d], CLIP's image features of the neuron's exemplars.
        concepts: [T, d], W, CLIP's text features; duplicates among them.
        base: [d], b, the text feature of the base template.
    """
    of_base = [cosine(image, base) for image in exemplars]
    found = []
    for concept in concepts:
        total = 0.0
        for image, own_base in zip(exemplars, of_base, strict=True):
            total += cosine(image, concept) - own_base
        found.append(total)
    return found


def select(scores_of_neuron: list[float], alpha: float) -> list[int]:
    """Indices of the concepts strictly above α · max, best first; equal scores by index.

    Args:
        scores_of_neuron: [T].
        alpha: concept sensitivity.
    """
    threshold = alpha * max(scores_of_neuron)
    kept = [j for j, score in enumerate(scores_of_neuron) if score > threshold]
    return sorted(kept, key=lambda j: (-scores_of_neuron[j], j))


def discover(
    exemplars: np.ndarray, concepts: np.ndarray, base: np.ndarray, alpha: float
) -> list[list[int]]:
    """The selected concepts of every neuron.

    Args:
        exemplars: [N, n, d], image features of each neuron's exemplars.
        concepts: [T, d].
        base: [d].
        alpha: concept sensitivity, 0.95 in WWW.

    Returns:
        For each of the N neurons, concept indices, best first.
    """
    return [select(scores(of_neuron, concepts, base), alpha) for of_neuron in exemplars]
