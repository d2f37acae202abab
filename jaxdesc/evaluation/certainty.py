"""How sure each selected concept is: by resampling a neuron's exemplars, and against chance."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float, Float64, Int

from jaxdesc.evaluation.null import null, significance
from jaxdesc.evaluation.stability import stability
from jaxdesc.exemplars import Slots
from jaxdesc.scoring import Selection
from jaxdesc.scoring.problem import slots_of


class Certainty(NamedTuple):
    """Of each selected concept, in the order of the selection, and of the vocabulary.

    Attributes:
        stability: share of resamples of the neuron's exemplars that select the concept again; NaN
            where these are too few.
        z: distance of the score from the mean over random image sets, in their deviations; NaN
            where there is no null.
        q: smallest false discovery rate at which the pair counts as found; NaN likewise.
        hubs: concepts that are selected for far more random sets than chance, most often first,
            and for which share.
    """

    stability: Float64[np.ndarray, "selected"]
    z: Float64[np.ndarray, "selected"]
    q: Float64[np.ndarray, "selected"]
    hubs: tuple[tuple[int, float], ...]


def certainty(
    views: Float[ArrayLike, "view feature"],
    exemplars: Slots | Int[ArrayLike, "neuron exemplar"],
    concept_features: Any,
    base_feature: Float[ArrayLike, "feature"],
    kappa: float,
    alpha: float,
    selection: Selection,
    fewest: int = 1,
    block: int = 512,
) -> Certainty:
    """Resample every neuron's exemplars, and score random sets of as many views.

    Where there are no more views than a neuron has exemplars, there is but one set: no null, and
    NaN for z and q.

    Args:
        views: unit features of the distinct exemplar views, from which random sets are drawn.
        exemplars: rows of `views`, or `Slots` of them.
        concept_features: as in `scoring.discover`.
        base_feature: as in `scoring.discover`.
        kappa: that of the selection.
        alpha: that of the selection.
        selection: what `scoring.discover` gave for these arrays.
        fewest: exemplars without which resampling them says nothing.
        block: concepts at a time.

    Raises:
        ValueError: as `stability.stability`.
    """
    slots, texts, asked = slots_of(exemplars), (concept_features, base_feature), (kappa, alpha)
    kept = stability(views, slots, *texts, *asked, selection, block=block).selected
    few = np.repeat(slots.counts < fewest, selection.counts)
    kept = np.where(few, np.nan, kept)
    sizes = sorted(set(slots.counts.tolist()) & set(range(1, len(np.asarray(views)))))
    if not sizes:
        nothing = np.full(len(kept), np.nan)
        return Certainty(kept, nothing, nothing, ())
    chance = null(views, *texts, *asked, sizes, block=block)
    z, _, q, *_ = significance(chance, selection, slots.counts)
    return Certainty(kept, z, q, tuple((hub, float(chance.share[hub])) for hub in chance.hubs))
