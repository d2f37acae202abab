"""Oracles of CLIP-Dissect's similarity functions and of INVERT's AUC: float64 loops.

Each takes A [I, N], activations, and P [I, T], cosines of images and concepts, and returns [N, T].
"""

import math

import numpy as np


def _each(function, activations, cosines):
    a, p = np.asarray(activations, np.float64), np.asarray(cosines, np.float64)
    return np.array([[function(a[:, i], p[:, j]) for j in range(p.shape[1])]
                     for i in range(a.shape[1])])  # fmt: skip


def cos(activations, cosines):
    """Cosine of two columns; method: `cos`."""

    def one(a, p):
        return sum(a * p) / math.sqrt(sum(a * a) * sum(p * p))

    return _each(one, activations, cosines)


def cos_cubed(activations, cosines):
    """Centre, cube, cosine, norms at least 1e-3; method: `cos_cubed`."""

    def one(a, p):
        a, p = (a - sum(a) / len(a)) ** 3, (p - sum(p) / len(p)) ** 3
        return sum(a * p) / (max(math.sqrt(sum(a * a)), 1e-3) * max(math.sqrt(sum(p * p)), 1e-3))

    return _each(one, activations, cosines)


def _top(activations, count):
    """Images of each neuron, largest activation first, of equal ones the lower index first."""
    return [sorted(range(len(a)), key=lambda o: (-a[o], o))[:count] for a in activations.T]


def _less_the_mean(logs, weight):
    """Subtract λ · log of the mean over neurons of exp."""
    logs = np.array(logs)
    result = np.empty(logs.shape)
    for j in range(logs.shape[1]):
        largest = max(logs[:, j])
        mean = sum(math.exp(value - largest) for value in logs[:, j]) / len(logs)
        result[:, j] = logs[:, j] - weight * (largest + math.log(mean))
    return result


def _softmax(cosines, factor):
    exponentials = np.exp(factor * np.asarray(cosines, np.float64))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def wpmi(activations, cosines, count=28):
    """softmax_j(2P), top 28, λ = 0.6; method: `wpmi`."""
    q = _softmax(cosines, 2)
    logs = [
        [sum(math.log(q[o, j] + 1e-7) for o in top) for j in range(q.shape[1])]
        for top in _top(np.asarray(activations), count)
    ]
    return _less_the_mean(logs, 0.6)


def soft_wpmi(activations, cosines, count=100):
    """softmax_j(10P), top 100, λ = 1, p_r = 0.998 − (r/100)·0.028; method: `soft_wpmi`."""
    q = _softmax(cosines, 10)
    logs = []
    for top in _top(np.asarray(activations), count):
        row = []
        for j in range(q.shape[1]):
            total = 0.0
            for r, o in enumerate(top):
                p = 0.998 - r / count * 0.028
                total += math.log(1 + p * (q[o, j] - 1) + 1e-7)
            row.append(total)
        logs.append(row)
    return _less_the_mean(logs, 1.0)


def rank_reorder(activations, cosines, share, orders):
    """Cubed rank error over that of random orders, over (mean P)^0.5; method: `rank_reorder`.

    Args:
        activations: [I, N].
        cosines: [I, T].
        share: of the images.
        orders: of each neuron [N, orders, images], the random orders.
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
        pairs = [
            1.0 if with_ > without else 0.5 if with_ == without else 0.0
            for with_ in a[shows > 0]
            for without in a[shows == 0]
        ]
        return sum(pairs) / len(pairs) if pairs else math.nan

    return _each(one, activations, present)


def nearest(cosines, share):
    """True for the share of images that are nearest to a concept."""
    count = int(len(cosines) * share)
    least = np.sort(cosines, axis=0)[-count]
    return cosines >= least[None]
