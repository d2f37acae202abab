"""Every method of naming neurons behind one interface: a probe pass in, concepts out."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int, Int64

from jaxdesc import scoring
from jaxdesc.evaluation import dissect
from jaxdesc.evaluation.accuracy import NONE, single
from jaxdesc.evaluation.blocks import Look, best
from jaxdesc.evaluation.invert import auc
from jaxdesc.evaluation.probe import Probe


class Answer(NamedTuple):
    """What a method says of each neuron; nothing of a dead one.

    Attributes:
        concepts: its best concept, or `accuracy.NONE`.
        scores: that concept's score, in the method's own units; minus infinity where there is none.
        selected: all of its concepts, best first. Most methods name one.
    """

    concepts: Int64[np.ndarray, "neuron"]
    scores: Float32[np.ndarray, "neuron"]
    selected: list[Int[np.ndarray, "_"]]


Method = Callable[[Probe], Answer]


def discovered(probe: Probe, kappa: float, alpha: float = 0.95, block: int = 512) -> Answer:
    """The concepts that stand out among a neuron's exemplars: WWW with κ = 0, else the paper.

    Args:
        probe: the arrays.
        kappa: concentration κ of t-vMF.
        alpha: concept sensitivity α.
        block: concepts at a time.
    """
    views, slots = probe.exemplars.distinct()
    arrays = probe.images[views], slots, probe.concepts, probe.base
    found = scoring.discover(*arrays, kappa, alpha, block).without(probe.dead)
    selected = np.split(found.concepts.astype(np.int64), np.cumsum(found.counts)[:-1])
    first = np.array([own[0] if len(own) else NONE for own in selected], np.int64)
    scores = np.where(first == NONE, np.float32(-np.inf), found.maximum)
    return Answer(first, scores, selected)


def most_similar(probe: Probe, function: Callable[[Probe, int], Look], block: int = 512) -> Answer:
    """The concept of which a similarity over the probe images is largest.

    Args:
        probe: the arrays.
        function: one of `dissect.FUNCTIONS`, or `invert.auc`.
        block: concepts at a time.
    """
    concepts, scores = best(probe.concepts, function(probe, block), block)
    concepts = np.where(probe.dead, NONE, concepts)
    scores = np.where(concepts == NONE, np.float32(-np.inf), scores)
    return Answer(concepts, scores, single(concepts))


# Images that a method looks at, at least; the others can do with any number.
FEWEST = {"rank_reorder": 40, "wpmi": 28, "soft_wpmi": 100, "INVERT": 20}

METHODS: dict[str, Method] = {
    "WWW": partial(discovered, kappa=0.0),
    "t-vMF": partial(discovered, kappa=16.0),
    **{name: partial(most_similar, function=own) for name, own in dissect.FUNCTIONS.items()},
    "INVERT": partial(most_similar, function=auc),
}
