"""Certainty: how sure each selected concept is, by resampling and against chance."""

from collections.abc import Mapping

import numpy as np

from jaxdesc.scoring.certainty import Certainty
from jaxdesc.scoring.certainty import certainty as measure
from jaxdesc.similarity import SIMILARITIES
from jaxdesc.stages.run import Run
from jaxdesc.stages.score import selection
from jaxdesc.stages.select import chosen
from jaxdesc.store import Artifact, Draft


def certainty(
    run: Run, scored: Artifact, selected: Artifact, embedded: Artifact, encoded: Artifact
) -> Artifact:
    """Measure the certainty of every selected concept, as `scoring.certainty` does.

    Random sets are drawn from the run's exemplar views, whose features `embed` has already.

    Arrays, in the order of the selection: stability, z, q; `values["hubs"]` are the concepts that
    are selected for far more random sets than chance, and for which share, most often first.
    """
    options, found = run.config.score, chosen(selected)

    def measured() -> Certainty:
        if not found.counts.any():
            nothing = np.empty(0)
            return Certainty(nothing, nothing, nothing, ())
        return measure(
            embedded.read("features"),
            found.among(embedded.read("rows")),
            encoded.read("features"),
            encoded.read("base"),
            options.kappa,
            options.alpha,
            selection(scored),
            options.fewest,
            block=options.block,
            similarity=SIMILARITIES[options.similarity],
        )

    def compute(draft: Draft) -> None:
        values = measured()
        for name in ("stability", "z", "q"):
            draft.write(name, getattr(values, name))
        draft.values["hubs"] = [(int(hub), share) for hub, share in values.hubs]

    inputs = {"score": scored.name, "fewest": options.fewest}
    return run.stage("certainty", inputs, compute)


def hubs(run: Run, certain: Artifact) -> Mapping[str, float]:
    """The texts of the hub concepts, and the share of random sets that each is selected for."""
    concepts = run.inputs.vocabulary.concepts
    return {concepts[hub]: share for hub, share in certain.values["hubs"]}
