"""CoSy: activations on images that were made for a concept, against those on a control set.

Kopf et al., "CoSy: Evaluating Textual Explanations of Neurons", NeurIPS 2024.
"""

from typing import NamedTuple

import numpy as np
import scipy  # imports scipy.stats on first use
from jaxtyping import Float

from jaxdesc.evaluation.statistics import CONFIDENCE, Bounds

FEWEST = 2  # images on either side


class Control(NamedTuple):
    """A unit's activations on images of its concept, compared with those on others.

    `auc` is the chance that an image of the concept excites it more; ties count ½. `mad` is the
    difference of the means, divided by the standard deviation over the control images. Intervals
    are of 95 %: DeLong's (1988), and Welch's without the uncertainty of the standard deviation.
    NaN for a unit that is equally active on all images; `mad` also if it is on all control images.
    """

    auc: Bounds
    mad: Bounds


UNKNOWN = Bounds(np.nan, np.nan, np.nan)


def against_control(
    concept: Float[np.ndarray, "image"], control: Float[np.ndarray, "other"]
) -> Control:
    """Compare a unit's activations on at least two images of a concept and two others."""
    ours, others = np.asarray(concept, np.float64), np.asarray(control, np.float64)
    both = np.concatenate([ours, others])
    if both.min() == both.max():
        return Control(UNKNOWN, UNKNOWN)
    return Control(_auc(ours, others, both), _mad(ours, others))


def _auc(ours: np.ndarray, others: np.ndarray, both: np.ndarray) -> Bounds:
    count = len(ours)
    rank = scipy.stats.rankdata
    ranks = rank(both)
    # Share of the others below each of ours, and of ours above each of the others.
    above = (ranks[:count] - rank(ours)) / len(others)
    below = 1 - (ranks[count:] - rank(others)) / count
    auc = float(above.mean())
    spread = above.var(ddof=1) / count + below.var(ddof=1) / len(others)
    reach = float(scipy.stats.norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt(spread))
    return Bounds(auc, max(0.0, auc - reach), min(1.0, auc + reach))


def _mad(ours: np.ndarray, others: np.ndarray) -> Bounds:
    if others.min() == others.max():
        return UNKNOWN
    deviation, gap = others.std(ddof=1), float(ours.mean() - others.mean())
    shares = ours.var(ddof=1) / len(ours), others.var(ddof=1) / len(others)
    # Welch's degrees of freedom.
    freedom = sum(shares) ** 2 / (
        shares[0] ** 2 / (len(ours) - 1) + shares[1] ** 2 / (len(others) - 1)
    )
    reach = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * np.sqrt(sum(shares)))
    return Bounds(*(end / float(deviation) for end in (gap, gap - reach, gap + reach)))
