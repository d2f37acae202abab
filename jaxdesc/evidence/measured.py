"""Hit Rate and F1 of the same neurons on several probe sets, and what sets two conditions apart."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxdesc.evaluation.statistics import Bounds, bootstrap, mcnemar, paired_over_probes
from jaxdesc.evidence.table import Cell

NAMES = {"hit": "Hit Rate", "f1": "F1"}

# Each metric of each neuron, a mapping a probe set.
Measured = Sequence[Mapping[str, np.ndarray]]


def means(own: Measured) -> tuple[Bounds, ...]:
    """Each metric, of each neuron averaged over the probe sets first."""
    return tuple(bootstrap(np.mean([values[kind] for values in own], axis=0)) for kind in NAMES)


def differences(own: Measured, other: Measured) -> tuple[Cell, ...]:
    """Each metric's difference, and McNemar's p of the first probe set; nothing to itself."""
    if own is other:
        return (None,) * (len(NAMES) + 1)
    gaps = [
        paired_over_probes(*([values[kind] for values in side] for side in (own, other)))
        for kind in NAMES
    ]
    return (*gaps, mcnemar(own[0]["hit"] > 0, other[0]["hit"] > 0).p)
