"""How sure each selected concept is: by resampling a neuron's exemplars, and against chance."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float, Float64, Int

from jaxdesc.evaluation.null import null, significance
from jaxdesc.evaluation.stability import stability
from jaxdesc.scoring import Selection


class Certainty(NamedTuple):
    """Of each selected concept, in the order of the selection, and of the vocabulary.

    Attributes:
        stability: share of resamples of the neuron's exemplars that select the concept again.
        z: distance of the score from the mean over random image sets, in their deviations.
        q: smallest false discovery rate at which the pair counts as found.
        hubs: concepts that are selected for far more random sets than chance, most often first,
            and for which share.
    """

    stability: Float64[np.ndarray, "selected"]
    z: Float64[np.ndarray, "selected"]
    q: Float64[np.ndarray, "selected"]
    hubs: tuple[tuple[int, float], ...]


def certainty(
    views: Float[ArrayLike, "view feature"],
    exemplars: Int[np.ndarray, "neuron exemplar"],
    concept_features: Any,
    base_feature: Float[ArrayLike, "feature"],
    kappa: float,
    alpha: float,
    selection: Selection,
    block: int = 512,
) -> Certainty:
    """Resample every neuron's exemplars, and score random sets of as many views.

    Where there are no more views than a neuron has exemplars, there is but one set: no null, and
    NaN for z and q.

    Args:
        views: unit features of the distinct exemplar views, from which random sets are drawn.
        exemplars: rows of `views`.
        concept_features: as in `scoring.discover`.
        base_feature: as in `scoring.discover`.
        kappa: that of the selection.
        alpha: that of the selection.
        selection: what `scoring.discover` gave for these arrays.
        block: concepts at a time.

    Raises:
        ValueError: as `stability.stability`.
    """
    texts, asked = (concept_features, base_feature), (kappa, alpha)
    kept = stability(views, exemplars, *texts, *asked, selection, block=block).selected
    nothing, count = np.full(len(kept), np.nan), exemplars.shape[1]
    if len(np.asarray(views)) <= count:
        return Certainty(kept, nothing, nothing, ())
    chance = null(views, *texts, *asked, count, block=block)
    z, _, q, *_ = significance(chance, selection)
    return Certainty(kept, z, q, tuple((hub, float(chance.share[hub])) for hub in chance.hubs))
