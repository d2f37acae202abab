"""Evaluate: how well the concepts of class neurons meet the classes' names."""

from collections.abc import Sequence

from jaxdesc import scoring
from jaxdesc.evaluation import metrics
from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.stages.run import Run
from jaxdesc.stages.score import selection, texts
from jaxdesc.store import Artifact, Draft


def evaluate(run: Run, scored: Artifact, words: Artifact) -> Artifact:
    """Compare each class neuron's concepts with its names. Arrays: one [N] per metric."""

    def compute(draft: Draft) -> None:
        (measured,) = measure(run, [selection(scored)], words)
        for name, values in measured.values.items():
            draft.write(name, values)

    return run.stage("evaluate", {"score": scored.name, "words": words.name}, compute)


def measure(run: Run, selections: Sequence[scoring.Selection], words: Artifact) -> list[Metrics]:
    """Metrics of each selection; encoded words are read once."""
    known = words.values["words"]
    encoders = {key: metrics.known(known, words.read(key)) for key in words.values["encoders"]}
    return [
        metrics.evaluate(
            [[text for text, _ in concepts] for concepts in texts(run, found)], run.names, encoders
        )
        for found in selections
    ]


def measured(evaluated: Artifact, words: Artifact) -> Metrics:
    """Metrics that `evaluate` found."""
    return Metrics({name: evaluated.read(name) for name in words.values["metrics"]})


def ceilings(words: Artifact) -> Metrics:
    """The best that each metric could reach."""
    return Metrics({name: words.read(f"ceiling_{name}") for name in words.values["metrics"]})
