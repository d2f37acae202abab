"""Certainty of each selected concept: by resampling a neuron's exemplars, and against chance."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float, Float64, Int

from jaxdesc.exemplars import Slots
from jaxdesc.scoring.null import null, significance
from jaxdesc.scoring.problem import slots_of
from jaxdesc.scoring.selection import Selection
from jaxdesc.scoring.stability import stability
from jaxdesc.similarity import T_VMF, Similarity


class Certainty(NamedTuple):
    """Certainty of each selected concept, in the order of the selection, and the hubs.

    `stability` is the share of resamples of the neuron's exemplars that select the concept again,
    NaN if there are too few. `z` and `q` are as in `Significance`; NaN without a null. `hubs` are
    those of `Null`, each with its share of the sets.
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
    similarity: Similarity = T_VMF,
) -> Certainty:
    """Resample every neuron's exemplars, and score random sets of as many views.

    Arguments are those of `discover`, and `selection` its result. Random sets are drawn from
    `views`; if these are no more than a neuron has exemplars, there is only one set: no null.
    Neurons with fewer exemplars than `fewest` have no stability.

    Raises:
        ValueError: as `stability`.
    """
    slots, asked = slots_of(exemplars), (concept_features, base_feature, kappa, alpha)
    options: Any = {"block": block, "similarity": similarity}
    kept = stability(views, slots, *asked, selection, **options).selected
    kept = np.where(np.repeat(slots.counts < fewest, selection.counts), np.nan, kept)
    sizes = sorted(set(slots.counts.tolist()) & set(range(1, len(np.asarray(views)))))
    if not sizes:
        unknown = np.full(len(kept), np.nan)
        return Certainty(kept, unknown, unknown, ())
    chance = null(views, *asked, sizes, **options)
    z, _, q, *_ = significance(chance, selection, slots.counts)
    return Certainty(kept, z, q, tuple((hub, float(chance.share[hub])) for hub in chance.hubs))
