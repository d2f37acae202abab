"""Sweep: score and evaluate for a whole grid of κ, α and numbers of exemplars."""

from collections.abc import Sequence

import numpy as np

from jaxdesc.stages.evaluate import measure
from jaxdesc.stages.run import Run
from jaxdesc.stages.score import Setting, distinct, select_concepts, similarity_inputs
from jaxdesc.store import Artifact, Draft


def sweep(
    run: Run,
    settings: Sequence[Setting],
    selected: Artifact,
    embedded: Artifact,
    encoded: Artifact,
    words: Artifact,
) -> Artifact:
    """Score and evaluate for every setting of a grid, as `score` and `evaluate` do for one.

    Arrays, one setting after the other: concepts and scores of `scoring.Selection`; its others and
    one per metric as [S, N].
    """
    grid = zip(Setting._fields, map(distinct, zip(*settings, strict=True)), strict=True)
    inputs = {
        "embed": embedded.name,
        "encode": encoded.name,
        "words": words.name,
        "similarity": similarity_inputs(run),
    }

    def compute(draft: Draft) -> None:
        selections = select_concepts(run, settings, selected, embedded, encoded)
        for name in ("counts", "maximum", "threshold"):
            draft.write(name, np.stack([getattr(selection, name) for selection in selections]))
        for name in ("concepts", "scores"):
            draft.write(
                name, np.concatenate([getattr(selection, name) for selection in selections])
            )
        measured = measure(run, selections, words)
        for name in words.values["metrics"]:
            draft.write(name, np.stack([found.values[name] for found in measured]))

    return run.stage("sweep", inputs | dict(grid), compute)
