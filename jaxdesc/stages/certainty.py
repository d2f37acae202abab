"""Certainty: how sure each selected concept is, by resampling and against chance."""

from collections.abc import Mapping

import numpy as np

from jaxdesc.evaluation.certainty import certainty as measure
from jaxdesc.stages.run import Run
from jaxdesc.stages.score import selection
from jaxdesc.store import Artifact, Draft


def certainty(
    run: Run, scored: Artifact, selected: Artifact, embedded: Artifact, encoded: Artifact
) -> Artifact:
    """Measure the certainty of every selected concept, as `evaluation.certainty` does.

    Random sets are drawn from the run's exemplar views, whose features `embed` has already.

    Arrays, in the order of the selection: stability, z, q; `values["hubs"]` are the concepts that
    are selected for far more random sets than chance, and for which share, most often first.
    """

    def compute(draft: Draft) -> None:
        score, views = run.config.score, embedded.read("features")
        rows = np.searchsorted(embedded.read("images"), selected.read("images")).astype(np.int32)
        arrays = views, rows, encoded.read("features"), encoded.read("base")
        asked = score.kappa, score.alpha, selection(scored)
        found = measure(*arrays, *asked, block=score.block)
        for name in ("stability", "z", "q"):
            draft.write(name, getattr(found, name))
        draft.values["hubs"] = [(int(hub), share) for hub, share in found.hubs]

    return run.stage("certainty", {"score": scored.name}, compute)


def hubs(run: Run, certain: Artifact) -> Mapping[str, float]:
    """The texts of the hub concepts, and the share of random sets that each is selected for."""
    concepts = run.inputs.vocabulary.concepts
    return {concepts[hub]: share for hub, share in certain.values["hubs"]}
