"""Oracle of the contrast with and without a concept: loops over images and resamples."""

import numpy as np


def auc(present, absent):
    """Share of (with, without) combinations in which the first is larger; ties count a half."""
    wins = [float(a > b) + 0.5 * float(a == b) for a in present for b in absent]
    return sum(wins) / len(wins)


def smd(present, absent):
    """Cohen's d: the difference of means by the root of the mean of both sample variances."""
    spread = np.sqrt((np.var(present, ddof=1) + np.var(absent, ddof=1)) / 2)
    return (np.mean(present) - np.mean(absent)) / spread


def interval(statistic, present, absent, confidence, resamples, seed):
    """Percentiles of a statistic over resampled pairs, drawn as the fast path draws them."""
    count, rng = len(present), np.random.default_rng(seed)
    values = []
    for times in rng.multinomial(count, np.full(count, 1 / count), resamples):
        chosen = np.repeat(np.arange(count), times)
        values.append(statistic(present[chosen], absent[chosen]))
    return np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
