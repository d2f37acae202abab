"""Oracle of the null: every image set there is, or a loop over given ones; float64."""

import itertools
import math

import numpy as np

from tests.reference import scoring


def moments(images, concepts, base, kappa, n):
    """Mean and standard deviation of each concept's score over every set of n images."""
    sets = list(itertools.combinations(range(len(images)), n))
    scores = scoring.scores(images, np.array(sets), concepts, base, kappa)
    return scores.mean(axis=0), scores.std(axis=0)


def largest(images, concepts, base, kappa, sets):
    """Largest z of each set, ascending; a concept whose deviation is 0 has none."""
    scores = scoring.scores(images, sets, concepts, base, kappa)
    mean, deviation = moments(images, concepts, base, kappa, len(sets[0]))
    result = []
    for row in scores:
        result.append(
            max((s - m) / d if d > 0 else -math.inf for s, m, d in zip(row, mean, deviation,
                                                                      strict=True))
        )  # fmt: skip
    return sorted(result)


def significance(z, maxima):
    """p of each z, (1 + how many maxima reach it) / (1 + how many there are)."""
    return [(1 + sum(m >= value for m in maxima)) / (1 + len(maxima)) for value in z]
