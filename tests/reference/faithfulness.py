"""Oracles of the measures over all images: float64 loops."""

import math


def auprc(activations, present):
    """Area under precision over recall, a step for each threshold: Σ (R_k − R_{k−1}) P_k."""
    area, before, positive = 0.0, 0.0, sum(present)
    for threshold in sorted(set(activations), reverse=True):
        found = [shows for value, shows in zip(activations, present, strict=True)
                 if value >= threshold]  # fmt: skip
        recall = sum(found) / positive
        area += (recall - before) * sum(found) / len(found)
        before = recall
    return area


def pearson(first, second):
    """Covariance over the root of both variances."""
    a, b = sum(first) / len(first), sum(second) / len(second)
    pairs = list(zip(first, second, strict=True))
    both = sum((x - a) * (y - b) for x, y in pairs)
    variances = sum((x - a) ** 2 for x, _ in pairs) * sum((y - b) ** 2 for _, y in pairs)
    return both / math.sqrt(variances)
