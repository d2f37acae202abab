"""Oracles of the judges: NeuronEval's definitions, image by image, in float64."""

import math


def top(values, alpha):
    """Images at least as active as the ⌈α n⌉-th one."""
    least = sorted(values, reverse=True)[math.ceil(alpha * len(values)) - 1]
    return [value >= least for value in values]


def cosine(values, presence):
    """Product of both over their lengths; 0 without a length."""
    product = sum(a * p for a, p in zip(values, presence, strict=True))
    lengths = math.sqrt(sum(a * a for a in values) * sum(p * p for p in presence))
    return product / lengths if lengths else 0.0


def correlation(values, presence):
    """Cosine of both, each less its mean; 0 for a constant presence."""
    if min(presence) == max(presence):
        return 0.0
    a, p = sum(values) / len(values), sum(presence) / len(presence)
    return cosine([value - a for value in values], [value - p for value in presence])


def auprc(values, presence, alpha):
    """Σ (R_k − R_{k−1}) P_k over thresholds of the presence, of finding the most active images."""
    active, area, before = top(values, alpha), 0.0, 0.0
    for threshold in sorted(set(presence), reverse=True):
        found = [is_active for p, is_active in zip(presence, active, strict=True) if p >= threshold]
        recall = sum(found) / sum(active)
        area += (recall - before) * sum(found) / len(found)
        before = recall
    return area


def counts(values, presence, alpha):
    """True positives, false positives and false negatives of "shows it" for "is active"."""
    pairs = list(zip(top(values, alpha), [p >= 0.5 for p in presence], strict=True))
    return tuple(pairs.count(kind) for kind in ((True, True), (True, False), (False, True)))


def f1(values, presence, alpha):
    """Twice the true positives over all that is counted, the true positives twice."""
    both, active, shown = counts(values, presence, alpha)
    return 2 * both / (2 * both + active + shown)


def iou(values, presence, alpha):
    """True positives over images that are active, show the concept, or both."""
    both, active, shown = counts(values, presence, alpha)
    return both / (both + active + shown)


def auc(ours, others):
    """Share of pairs in which ours is larger; ties count ½."""
    wins = sum((x > y) + 0.5 * (x == y) for x in ours for y in others)
    return wins / (len(ours) * len(others))


def auc_variance(ours, others):
    """DeLong's: variances of each image's share of won pairs."""
    rows = [auc([x], others) for x in ours]
    columns = [auc(ours, [y]) for y in others]
    return sum(_variance(shares) / len(shares) for shares in (rows, columns))


def _variance(values):
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)


def elastic_net(rows, target, penalty, mixing, sweeps=500):
    """Coordinate descent over all columns, one after the other."""
    count, weights = len(target), [0.0] * len(rows[0])
    columns = list(zip(*rows, strict=True))
    left = list(target)
    for _ in range(sweeps):
        for j, column in enumerate(columns):
            rest = sum(x * r for x, r in zip(column, left, strict=True)) / count
            rest += weights[j] * sum(x * x for x in column) / count
            size = max(abs(rest) - penalty * mixing, 0) / (
                sum(x * x for x in column) / count + penalty * (1 - mixing)
            )
            new = math.copysign(size, rest)
            left = [r - (new - weights[j]) * x for r, x in zip(left, column, strict=True)]
            weights[j] = new
    return weights
