"""Oracle of the properties of units, in float64: loops over units and pairs of exemplars."""

import itertools

import numpy as np


def clarity(own):
    """Mean cosine of two different exemplars; method.md's formula, taken apart."""
    pairs = list(itertools.permutations(range(len(own)), 2))
    return sum(float(own[i] @ own[j]) for i, j in pairs) / len(pairs)


def redundancy(groups, unit):
    """The largest cosine to another unit's mean feature."""

    def mean(own):
        centre = np.mean(own, axis=0)
        return centre / np.sqrt(centre @ centre)

    others = (own for other, own in groups.items() if other != unit)
    return max(float(mean(groups[unit]) @ mean(own)) for own in others)


def polysemanticity(own):
    """1 − clarity of the two centres of the split with the least squared distances.

    All splits are tried, which k-means only approximates.
    """
    best = None
    for size in range(1, len(own) // 2 + 1):
        for members in itertools.combinations(range(len(own)), size):
            rest = [i for i in range(len(own)) if i not in members]
            parts = own[list(members)], own[rest]
            cost = sum(((part - part.mean(axis=0)) ** 2).sum() for part in parts)
            if best is None or cost < best[0]:
                centres = [part.mean(axis=0) for part in parts]
                best = cost, [centre / np.sqrt(centre @ centre) for centre in centres]
    return 1 - clarity(np.array(best[1]))
