"""All methods on one probe pass whose truth is known, each compared with one of them."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from jaxdesc.evaluation.accuracy import Accuracy, accuracy
from jaxdesc.evaluation.methods import METHODS, Method
from jaxdesc.evaluation.probe import Probe
from jaxdesc.evaluation.statistics import Bounds, McNemar, mcnemar, paired


class Compared(NamedTuple):
    """One method's line of the table.

    Attributes:
        accuracy: of each neuron.
        bounds: each measure's mean and interval.
        differences: of each measure to the other method's, over the same neurons.
        test: of the hits of the first concept, against the other method's.
    """

    accuracy: Accuracy
    bounds: dict[str, Bounds]
    differences: dict[str, Bounds]
    test: McNemar


def compare(
    probe: Probe,
    truth: Bool[np.ndarray, "neuron concept"],
    methods: Mapping[str, Method] = METHODS,
    against: str = "t-vMF",
    confidence: float = 0.95,
) -> dict[str, Compared]:
    """Compare methods with the truth, and each with one of them.

    Args:
        probe: what all methods are given.
        truth: the concepts of each neuron, at least one.
        methods: by their names.
        against: the method that differences are taken to; method − `against`.
        confidence: of the intervals, which are not corrected for how many there are.

    Returns:
        A line for each method.

    Raises:
        ValueError: `against` isn't one of the methods, or a neuron has no true concept.
    """
    if against not in methods:
        raise ValueError(
            f"methods are compared with {against!r}, which isn't one of them: choose one of "
            f"{', '.join(methods)}."
        )
    every = {name: accuracy(method(probe).selected, truth) for name, method in methods.items()}
    return {name: _compared(own, every[against], confidence) for name, own in every.items()}


def _compared(own: Accuracy, other: Accuracy, confidence: float) -> Compared:
    return Compared(
        accuracy=own,
        bounds=own.bounds(confidence),
        differences={
            name: paired(values, getattr(other, name), confidence)
            for name, values in own._asdict().items()
        },
        test=mcnemar(own.top, other.top),
    )
