"""Evaluate: how well the concepts of class neurons meet the classes' names, for one or many κ."""

import inspect
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import numpy as np

from jaxdesc import scoring
from jaxdesc.errors import InputError
from jaxdesc.evaluation import metrics
from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.models.sentence import SentenceEncoder
from jaxdesc.stages.encode import encode_texts
from jaxdesc.stages.run import Run
from jaxdesc.stages.score import (
    Setting,
    distinct,
    select_concepts,
    selection,
    similarity_inputs,
    texts,
)
from jaxdesc.store import Artifact, Draft

# Largest distance of a feature's norm from 1: bfloat16 rounds each component by up to 0.4 %.
NORM_TOLERANCE = 1e-2


def score_words(run: Run) -> Artifact:
    """Encode each distinct text that the metrics compare, and find the ceilings.

    Arrays: one [W, d] per encoder, for `values["words"]`, and one ceiling [N] per metric.
    """
    sentence: Any = run.inputs.sentence
    networks: dict[str, Any] = {"clip": run.inputs.scorer}
    functions: dict[str, metrics.Encoder] = {}
    if isinstance(sentence, SentenceEncoder):
        networks["sentence"] = sentence
    elif sentence is not None:
        functions["sentence"] = sentence
    vocabulary = run.inputs.vocabulary.concepts
    words = metrics.distinct_words([vocabulary, *run.names])
    inputs = {
        "scorer": run.inputs.scorer.fingerprint,
        # What a plain function computes is unknown, so its words are encoded in every run.
        "sentence": sentence and getattr(sentence, "fingerprint", uuid4().hex),
        "vocabulary": vocabulary,
        "names": run.names,
        "metrics": {name: _source(metric) for name, metric in metrics.METRICS.items()},
    }

    def finish(draft: Draft) -> None:
        for key, function in functions.items():
            draft.write(key, _checked(key, words, np.asarray(function(words), np.float32)))
        encoders = [*networks, *functions]
        known = {k: metrics.known(words, _checked(k, words, draft.read(k))) for k in encoders}
        best = metrics.ceilings(vocabulary, run.names, known)
        for name, values in best.values.items():
            draft.write(f"ceiling_{name}", values)
        draft.values |= {"words": words, "encoders": encoders, "metrics": list(best.values)}

    return encode_texts(run, "words", inputs, words, networks, finish)


def evaluate(run: Run, scored: Artifact, words: Artifact) -> Artifact:
    """Compare each class neuron's concepts with its names. Arrays: one [N] per metric."""

    def compute(draft: Draft) -> None:
        (measured,) = _measure(run, [selection(scored)], words)
        for name, values in measured.values.items():
            draft.write(name, values)

    return run.stage("evaluate", {"score": scored.name, "words": words.name}, compute)


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
        found = select_concepts(run, settings, selected, embedded, encoded)
        for name in ("counts", "maximum", "threshold"):
            draft.write(name, np.stack([getattr(each, name) for each in found]))
        for name in ("concepts", "scores"):
            draft.write(name, np.concatenate([getattr(each, name) for each in found]))
        measured = _measure(run, found, words)
        for name in words.values["metrics"]:
            draft.write(name, np.stack([each.values[name] for each in measured]))

    return run.stage("sweep", inputs | dict(grid), compute)


def measured(evaluated: Artifact, words: Artifact) -> Metrics:
    """Metrics that `evaluate` found."""
    return Metrics({name: evaluated.read(name) for name in words.values["metrics"]})


def ceilings(words: Artifact) -> Metrics:
    """The best that each metric could reach."""
    return Metrics({name: words.read(f"ceiling_{name}") for name in words.values["metrics"]})


def _measure(run: Run, selections: Sequence[scoring.Selection], words: Artifact) -> list[Metrics]:
    """Metrics of each selection; encoded words are read once."""
    known = words.values["words"]
    encoders = {key: metrics.known(known, words.read(key)) for key in words.values["encoders"]}
    return [
        metrics.evaluate(
            [[text for text, _ in concepts] for concepts in texts(run, found)], run.names, encoders
        )
        for found in selections
    ]


def _source(metric: metrics.Metric) -> list[str]:
    """Source of a metric, which may be registered from outside the package."""
    try:
        return [inspect.getsource(function) for function in (metric.value, metric.ceiling)]
    except (OSError, TypeError):  # unknown, so it is measured again in every run
        return [uuid4().hex]


def _checked(key: str, words: list[str], features: np.ndarray) -> np.ndarray:
    """Unit rows of features, one per word; `InputError` for anything else."""
    if features.ndim != 2 or len(features) != len(words):
        raise InputError(
            f"The {key} encoder returned shape {features.shape} for {len(words)} texts: expected "
            "one row of features for each."
        )
    norms = np.linalg.norm(features, axis=1)
    wrong = np.flatnonzero(~(np.abs(norms - 1) <= NORM_TOLERANCE))  # so that NaN fails
    if wrong.size:
        raise InputError(
            f"The {key} encoder returned a feature of length {norms[wrong[0]]:.4g} for "
            f"{words[wrong[0]]!r}: expected unit length."
        )
    return features
