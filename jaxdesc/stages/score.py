"""Score: the concepts of every neuron."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from jaxdesc import scoring
from jaxdesc.errors import InputError
from jaxdesc.runtime import fingerprint
from jaxdesc.runtime.mesh import local_mesh
from jaxdesc.similarity import SIMILARITIES
from jaxdesc.stages.run import Run
from jaxdesc.stages.select import chosen
from jaxdesc.store import Artifact, Draft


class Setting(NamedTuple):
    """Choices that a sweep varies; none of them changes what a network computes."""

    kappa: float
    alpha: float
    exemplars: int


def score(run: Run, selected: Artifact, embedded: Artifact, encoded: Artifact) -> Artifact:
    """Score all neurons against all concepts and keep the scores above the threshold.

    Arrays: those of `scoring.Selection`; a dead neuron has no concept.
    """
    options = run.config.score
    inputs = {
        "embed": embedded.name,
        "encode": encoded.name,
        "similarity": similarity_inputs(run),
        "kappa": options.kappa,
        "alpha": options.alpha,
    }

    def compute(draft: Draft) -> None:
        setting = Setting(options.kappa, options.alpha, options.exemplars)
        (found,) = select_concepts(run, [setting], selected, embedded, encoded)
        for name, values in asdict(found).items():
            draft.write(name, values)

    return run.stage("score", inputs, compute)


def select_concepts(
    run: Run, settings: Sequence[Setting], selected: Artifact, embedded: Artifact, encoded: Artifact
) -> list[scoring.Selection]:
    """The selection of every setting of a grid; a dead unit has none."""
    found = chosen(selected)
    if not found.counts.any():
        return [scoring.nothing(len(found.counts))] * len(settings)
    kappas, alphas, counts = map(distinct, zip(*settings, strict=True))
    rows = embedded.read("rows")
    names = dict(zip(rows.tolist(), embedded.values["names"], strict=True))
    slots = {count: found.first(count, names.__getitem__).among(rows) for count in counts}
    try:
        selections = scoring.sweep(
            embedded.read("features"),
            slots,
            encoded.read("features"),
            encoded.read("base"),
            kappas,
            alphas,
            block=run.config.score.block,
            mesh=local_mesh(),
            similarity=SIMILARITIES[run.config.score.similarity],
        )
    except ValueError as error:  # features that are not unit vectors, such as NaN
        raise InputError(f"{run.inputs.clip.name}: {error}") from error
    return [selections[setting].without(found.dead) for setting in settings]


def similarity_inputs(run: Run) -> list[str]:
    """Name of the run's similarity and a hash of what it computes."""
    name = run.config.score.similarity
    cosine = np.zeros(1, np.float32)
    return [name, fingerprint.of_function(SIMILARITIES[name].difference, *[cosine] * 3)]


def distinct(values: Sequence[Any]) -> list[Any]:
    """Drop repeated values, in order."""
    return list(dict.fromkeys(values))


def texts(run: Run, selection: scoring.Selection) -> list[list[tuple[str, float]]]:
    """Each neuron's concepts and their scores."""
    vocabulary, neurons = run.inputs.vocabulary.concepts, range(len(selection.counts))
    return [[(vocabulary[j], value) for j, value in selection.of(i)] for i in neurons]


def selection(scored: Artifact) -> scoring.Selection:
    """Selection that `score` wrote."""
    names = ("counts", "concepts", "scores", "maximum", "threshold")
    return scoring.Selection(**{name: scored.read(name) for name in names})
