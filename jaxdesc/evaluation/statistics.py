"""Uncertainty of a metric that was measured on several probe sets."""

from collections.abc import Sequence

import numpy as np
from scipy import special  # scipy.stats takes a second to import

from jaxdesc.evaluation.metrics import Estimate, estimate


def over_probes(values: Sequence[np.ndarray]) -> Estimate:
    """Mean and standard error over neurons, each neuron's metric averaged over probe sets first.

    Args:
        values: one array [N] a probe set.

    Returns:
        The estimate over the N neurons; probe sets do not count as further neurons.
    """
    return estimate(np.mean(values, axis=0))


def interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Student-t interval of the mean of independent values, one a probe set.

    Args:
        values: such as each probe set's Hit Rate, or each one's difference of two views.
        confidence: of the interval.

    Returns:
        Its ends; None for fewer than two values.
    """
    count = len(values)
    if count < 2:
        return None
    mean = float(np.mean(values))
    spread = float(np.std(values, ddof=1)) / count**0.5
    reach = float(special.stdtrit(count - 1, (1 + confidence) / 2)) * spread
    return mean - reach, mean + reach
