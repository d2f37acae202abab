"""Oracle of WWW's discovery (Ahn et al. 2024) by itself: loops in float64, by its own rules.

Written from method: Scores, Selection and Vocabularies. It shares nothing with the other oracles:
WWW has no concentration, sums over exemplars instead of averaging, and has no rule for a
largest score that isn't positive, since α of it lies above it anyway.
"""

import math


def cosine(a, b):
    """a · b / (‖a‖ ‖b‖)."""
    product = squares_a = squares_b = 0.0
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        product += x * y
        squares_a += x * x
        squares_b += y * y
    return product / math.sqrt(squares_a * squares_b)


def scores(exemplars, concepts, base):
    """Σ_o cos(v_o, W_j) − cos(v_o, b) of one neuron, for each concept j.

    CLIP's features: exemplars [n, d], concepts W [T, d], duplicates among them, and base b [d].
    """
    of_base = [cosine(image, base) for image in exemplars]
    found = []
    for concept in concepts:
        pairs = zip(exemplars, of_base, strict=True)
        found.append(sum(cosine(image, concept) - image_base for image, image_base in pairs))
    return found


def select(scores_of_neuron, alpha):
    """Indices of the concepts strictly above α · max, best first; equal scores by index."""
    threshold = alpha * max(scores_of_neuron)
    kept = [j for j, score in enumerate(scores_of_neuron) if score > threshold]
    return sorted(kept, key=lambda j: (-scores_of_neuron[j], j))


def discover(exemplars, concepts, base, alpha):
    """The selected concepts of every neuron: exemplars [N, n, d], α = 0.95 in WWW."""
    return [select(scores(of_neuron, concepts, base), alpha) for of_neuron in exemplars]
