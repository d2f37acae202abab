"""Oracles of CLIP-Dissect's similarity functions and of INVERT's AUC: float64 loops.

Each takes A [I, N], activations, and P [I, T], cosines of images and concepts, and returns [N, T];
its rule is under its own name in the method.
"""

import math

import numpy as np


def _each(function, activations, cosines):
    a, p = np.asarray(activations, np.float64), np.asarray(cosines, np.float64)
    return np.array([[function(unit, concept) for concept in p.T] for unit in a.T])


def cos(activations, cosines):
    """Cosine of two columns."""
    return _each(lambda a, p: sum(a * p) / math.sqrt(sum(a * a) * sum(p * p)), activations, cosines)


def cos_cubed(activations, cosines):
    """Centre, cube, cosine, norms at least 1e-3."""

    def one(a, p):
        a, p = (a - sum(a) / len(a)) ** 3, (p - sum(p) / len(p)) ** 3
        return sum(a * p) / (max(math.sqrt(sum(a * a)), 1e-3) * max(math.sqrt(sum(p * p)), 1e-3))

    return _each(one, activations, cosines)


def _top(activations, count):
    """Images of each neuron, largest activation first, of equal ones the lower index first."""
    columns = np.asarray(activations).T
    return [sorted(range(len(a)), key=lambda o: (-a[o], o))[:count] for a in columns]


def _less_the_mean(logs, weight):
    """Subtract λ · log of the mean over neurons of exp."""
    logs = np.array(logs)
    for j in range(logs.shape[1]):
        largest = max(logs[:, j])
        mean = sum(math.exp(value - largest) for value in logs[:, j]) / len(logs)
        logs[:, j] -= weight * (largest + math.log(mean))
    return logs


def _softmax(cosines, factor):
    exponentials = np.exp(factor * np.asarray(cosines, np.float64))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def wpmi(activations, cosines, count=28):
    """softmax_j(2P), top 28, λ = 0.6."""
    q = _softmax(cosines, 2)
    logs = [
        [sum(math.log(q[o, j] + 1e-7) for o in top) for j in range(q.shape[1])]
        for top in _top(activations, count)
    ]
    return _less_the_mean(logs, 0.6)


def soft_wpmi(activations, cosines, count=100):
    """softmax_j(10P), top 100, λ = 1, p_r = 0.998 − (r/100)·0.028."""
    q = _softmax(cosines, 10)
    chances = [0.998 - r / count * 0.028 for r in range(count)]
    logs = [
        [
            sum(math.log(1 + p * (q[o, j] - 1) + 1e-7) for p, o in zip(chances, top, strict=False))
            for j in range(q.shape[1])
        ]
        for top in _top(activations, count)
    ]
    return _less_the_mean(logs, 1.0)


def rank_reorder(activations, cosines, share, orders):
    """Cubed rank error over that of random orders, over (mean P)^0.5, of a share of the images.

    `orders` are the random orders of each neuron [N, orders, images].
    """
    a, p = np.asarray(activations, np.float64), np.asarray(cosines, np.float64)
    count = int(len(a) * share)
    result = np.full((a.shape[1], p.shape[1]), -np.inf)
    for i, top in enumerate(_top(a, count)):
        falling = [a[o, i] for o in top]
        rising = falling[::-1]
        base = np.mean(
            [abs(rising[k] - rising[order[k]]) ** 3 for order in orders[i] for k in range(count)]
        )
        for j in range(p.shape[1]):
            ranks = {o: rank for rank, o in enumerate(sorted(top, key=lambda o: p[o, j]))}
            errors = [abs(falling[k] - rising[ranks[o]]) ** 3 for k, o in enumerate(top)]
            mean = np.mean([p[o, j] for o in top])
            if mean > 0 and base > 0:
                result[i, j] = -np.mean(errors) / base / math.sqrt(mean)
    return result


def auc(activations, present):
    """Share of pairs, one image with the concept and one without, in the right order; ties ½."""

    def one(a, shows):
        pairs = [(x > y) + 0.5 * (x == y) for x in a[shows > 0] for y in a[shows == 0]]
        return sum(pairs) / len(pairs) if pairs else math.nan

    return _each(one, activations, present)


def nearest(cosines, share):
    """True for the share of images that are nearest to a concept."""
    count = int(len(cosines) * share)
    return cosines >= np.sort(cosines, axis=0)[-count][None]
