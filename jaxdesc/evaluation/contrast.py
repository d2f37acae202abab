"""Does a neuron respond to its concept in images that it has not chosen?

CoSy (Kopf et al., "CoSy: Evaluating Textual Explanations of Neurons", NeurIPS 2024) compares a
neuron's activations on generated images of its concept with those on others: by the AUC, and by the
difference of the means. Here the images come in pairs that are alike but for the concept, so both
have intervals from a bootstrap over pairs.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Shaped


class Contrast(NamedTuple):
    """How far each neuron's activations with a concept lie above those without it.

    All are NaN for a neuron whose activation is the same in all images.

    Attributes:
        auc: chance that an image with the concept excites it more than one without; ties count ½.
        auc_low, auc_high: the ends of its interval.
        smd: standardised mean difference, (mean with − mean without) / s. Its s is the pooled
            standard deviation, s² = (s²_with + s²_without) / 2, each with n − 1 (Cohen's d). CoSy
            divides by that of the images without, which is 0 for a channel that is silent on them.
            NaN where both are 0, each side being the same throughout.
        smd_low, smd_high: the ends of its interval.
    """

    auc: Float64[np.ndarray, "neuron"]
    auc_low: Float64[np.ndarray, "neuron"]
    auc_high: Float64[np.ndarray, "neuron"]
    smd: Float64[np.ndarray, "neuron"]
    smd_low: Float64[np.ndarray, "neuron"]
    smd_high: Float64[np.ndarray, "neuron"]


def contrast(
    present: Shaped[np.ndarray, "pair neuron"],
    absent: Shaped[np.ndarray, "pair_ neuron_"],
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Contrast:
    """Compare activations with and without a concept.

    Intervals are percentiles of a bootstrap that draws whole pairs (Efron and Tibshirani 1993,
    section 13.3). Where all images with the concept lie above all without, the AUC's is [1, 1].

    Args:
        present: each neuron's activation on the image of each pair that has the concept.
        absent: on the other one.
        confidence: of the intervals.
        resamples: how often as many pairs are drawn with replacement; the same for all neurons.
        seed: of the draws.

    Raises:
        ValueError: the shapes differ, there are fewer than 2 pairs, an activation is not finite,
            `resamples` is below 1, or `confidence` is not within 0 to 1, both excluded.
    """
    one, other = np.asarray(present, np.float64), np.asarray(absent, np.float64)
    if one.shape != other.shape or len(one) < 2:
        raise ValueError(
            f"activations with a concept have shape {one.shape}, those without {other.shape}: give "
            "the same pairs and neurons, at least 2 pairs."
        )
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise ValueError("an activation isn't finite: leave out images that have none.")
    if resamples < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"{resamples} resamples and confidence {confidence} aren't possible: give at least 1, "
            "and a confidence within 0 to 1."
        )
    weights = _weights(len(one), resamples, np.random.default_rng(seed))
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    rows = [_neuron(*own, weights, tails) for own in zip(one.T, other.T, strict=True)]
    return Contrast(*np.array(rows, np.float64).reshape(-1, 6).T)


def _weights(
    count: int, resamples: int, rng: np.random.Generator
) -> Float64[np.ndarray, "resample pair"]:
    """Each pair's share in the sample itself, in the first row, and in each resample."""
    drawn = rng.multinomial(count, np.full(count, 1 / count), resamples)
    return np.concatenate([np.ones((1, count)), drawn]) / count


def _neuron(
    present: Float64[np.ndarray, "pair"],
    absent: Float64[np.ndarray, "pair"],
    weights: Float64[np.ndarray, "resample pair"],
    tails: list[float],
) -> tuple[float, ...]:
    pooled = np.concatenate([present, absent])
    if pooled.min() == pooled.max():
        return (np.nan,) * 6
    return *_with_ends(_aucs(present, absent, weights), tails), *_with_ends(
        _smds(present - pooled.mean(), absent - pooled.mean(), weights), tails
    )


def _aucs(
    present: np.ndarray, absent: np.ndarray, weights: np.ndarray
) -> Float64[np.ndarray, "resample"]:
    above = (present[:, None] > absent) + 0.5 * (present[:, None] == absent)
    return np.asarray(((weights @ above) * weights).sum(axis=1))


def _smds(
    present: np.ndarray, absent: np.ndarray, weights: np.ndarray
) -> Float64[np.ndarray, "resample"]:
    """NaN where a resample holds one value with the concept and one without."""
    means = weights @ present, weights @ absent
    spreads = [
        np.maximum(weights @ values**2 - mean**2, 0) * (len(values) / (len(values) - 1))
        for values, mean in zip((present, absent), means, strict=True)
    ]
    pooled = np.sqrt(sum(spreads) / 2)
    # What remains of the rounding of equal values is no spread.
    least = 1e-7 * max(np.abs(present).max(), np.abs(absent).max())
    alike = pooled <= least
    return np.where(alike, np.nan, (means[0] - means[1]) / np.where(alike, 1, pooled))


def _with_ends(values: np.ndarray, tails: list[float]) -> tuple[float, float, float]:
    """The sample's own value, and the ends of the interval from the resamples that have one."""
    own, resampled = values[0], values[1:][~np.isnan(values[1:])]
    if np.isnan(own) or not len(resampled):
        return np.nan, np.nan, np.nan
    low, high = np.quantile(resampled, tails)
    return float(own), float(low), float(high)
