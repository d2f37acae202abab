"""Response of a neuron to its concept in images that had no part in choosing it.

CoSy (Kopf et al., "CoSy: Evaluating Textual Explanations of Neurons", NeurIPS 2024) compares a
neuron's activations on generated images of its concept with those on other images, by the AUC and
by the difference of the means. Here the images come in pairs that differ in the concept alone, so
the AUC has an interval from a bootstrap over pairs.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from jaxdesc.evaluation.statistics import CONFIDENCE, Bounds

RESAMPLES = 2000
# A spread this small relative to the values is the rounding of equal ones.
ROUNDING = 1e-7


class Contrast(NamedTuple):
    """Distance of a neuron's activations with a concept from those without it.

    `auc` is the chance that an image with the concept excites it more than one without; ties count
    ½, and the interval is [1, 1] if all images with the concept are above all others. `smd` is
    (mean with − mean without) / s, with the pooled standard deviation s² = (s²_with + s²_without) /
    2, each with n − 1 (Cohen's d); CoSy divides by the deviation without the concept, which is 0
    for a channel that is silent there. It is NaN if both sides are constant, and both are NaN if
    the activation is the same in all images.
    """

    auc: Bounds
    smd: float


def contrast(present: Shaped[np.ndarray, "pair"], absent: Shaped[np.ndarray, "pair"]) -> Contrast:
    """Compare a neuron's activations on the images of at least 2 pairs, with and without a concept.

    Whole pairs are drawn with replacement, 2,000 times as many as there are; the interval is the
    percentiles' (Efron and Tibshirani 1993, section 13.3).
    """
    pooled = np.concatenate([present, absent]).astype(np.float64)
    if pooled.min() == pooled.max():
        return Contrast(Bounds(np.nan, np.nan, np.nan), np.nan)
    count = len(present)
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    weights = np.concatenate([np.ones((1, count)), draws]) / count
    above = (present[:, None] > absent) + 0.5 * (present[:, None] == absent)
    auc, *resampled = ((weights @ above) * weights).sum(axis=1)
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    sides = pooled[:count], pooled[count:]
    spread = np.sqrt(sum(values.var(ddof=1) for values in sides) / 2)
    constant = spread <= ROUNDING * np.abs(pooled - pooled.mean()).max()
    smd = np.nan if constant else (sides[0].mean() - sides[1].mean()) / spread
    return Contrast(Bounds(float(auc), float(low), float(high)), float(smd))
