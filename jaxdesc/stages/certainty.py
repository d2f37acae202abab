"""Certainty: how sure each selected concept is, by resampling and against chance."""

from collections.abc import Mapping

import numpy as np

from jaxdesc.evaluation.null import null, significance
from jaxdesc.evaluation.stability import stability
from jaxdesc.stages.run import Run
from jaxdesc.stages.score import selection
from jaxdesc.store import Artifact, Draft


def certainty(
    run: Run, scored: Artifact, selected: Artifact, embedded: Artifact, encoded: Artifact
) -> Artifact:
    """Resample every neuron's exemplars, and score random sets of as many exemplar views.

    The sets are drawn from the run's distinct exemplar views, whose features `embed` has already.
    Where these are no more than a neuron has, there is but one set: no null, and NaN for z and q.

    Arrays, in the order of the selection: stability, z, q; `values["hubs"]` are the concepts that
    are selected for far more random sets than chance, and for which share, most often first.
    """

    def compute(draft: Draft) -> None:
        found, score, views = selection(scored), run.config.score, embedded.read("features")
        rows = np.searchsorted(embedded.read("images"), selected.read("images")).astype(np.int32)
        texts = encoded.read("features"), encoded.read("base")
        asked = score.kappa, score.alpha
        kept = stability(views, rows, *texts, *asked, found, block=score.block).selected
        z = q = np.full(len(kept), np.nan)
        hubs: list[tuple[int, float]] = []
        if len(views) > score.exemplars:
            chance = null(views, *texts, *asked, score.exemplars, block=score.block)
            z, _, q, *_ = significance(chance, found)
            hubs = [(hub, float(chance.share[hub])) for hub in chance.hubs.tolist()]
        for name, values in (("stability", kept), ("z", z), ("q", q)):
            draft.write(name, values)
        draft.values["hubs"] = hubs

    return run.stage("certainty", {"score": scored.name}, compute)


def hubs(run: Run, certain: Artifact) -> Mapping[str, float]:
    """The texts of the hub concepts, and the share of random sets that each is selected for."""
    concepts = run.inputs.vocabulary.concepts
    return {concepts[hub]: share for hub, share in certain.values["hubs"]}
