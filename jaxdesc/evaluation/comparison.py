"""Every method of naming neurons on one run's probe pass, and how certain the run's own names are.

All are given the same views and the same features. The exemplar methods look at the exemplars
alone, CLIP-Dissect and INVERT at every image, whose views are encoded for them.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from jaxdesc.config import ScoreConfig
from jaxdesc.errors import InputError, shown
from jaxdesc.evaluation import metrics
from jaxdesc.evaluation.methods import FEWEST, METHODS, Method, discovered
from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.evaluation.probe import Probe
from jaxdesc.evaluation.statistics import Bounds, McNemar, bootstrap, mcnemar, paired, wilson
from jaxdesc.pipeline import describe, probe_pass
from jaxdesc.result import CERTAINTY, Result
from jaxdesc.stages.run import Run

AGAINST = "t-vMF"  # the method that the others are compared with: the paper's


class Line(NamedTuple):
    """One method's line of the table.

    Attributes:
        metrics: "hit" and "f1" of each neuron.
        bounds: of each, the mean and its 95 % interval: Wilson's, and the bootstrap over neurons.
        differences: of each, to the paper's method over the same neurons, with its 95 % interval.
        test: of the hits, against the paper's method.
        seconds: that the method took once its programs were compiled.
    """

    metrics: Metrics
    bounds: Mapping[str, Bounds]
    differences: Mapping[str, Bounds]
    test: McNemar
    seconds: float


class Known(NamedTuple):
    """How certain it is that a neuron has one of its concepts.

    Attributes:
        unit: the neuron.
        concept: what was selected for it.
        stability: share of resamples of its exemplars that select the concept again.
        z: distance of the score from the mean over random sets of exemplar views, in their
            deviations; None where there is no set but one.
        q: smallest false discovery rate at which the pair counts as found; None as z.
    """

    unit: int
    concept: str
    stability: float | None
    z: float | None
    q: float | None


class Certainty(NamedTuple):
    """What the run's own names are worth.

    Attributes:
        rows: of each neuron and selected concept, best first.
        unnamed: as `Result.unnamed`.
        hubs: as `Result.hubs`.
    """

    rows: tuple[Known, ...]
    unnamed: float | None
    hubs: Mapping[str, float]


class Comparison(NamedTuple):
    """All of it.

    Attributes:
        kappa: of the run, whose certainty it is.
        lines: of each method, by its name.
        certainty: of the run's own concepts.
    """

    kappa: float
    lines: Mapping[str, Line]
    certainty: Certainty


def compare(run: Run, methods: Collection[str] = tuple(METHODS)) -> Comparison:
    """Compare methods with the classes' names, on the images and views of a run.

    Args:
        run: one whose neurons have names. Its α holds for WWW too, its κ for t-vMF, or else the
            default if it is 0. What it has computed already is read.
        methods: names of `evaluation.methods.METHODS`; t-vMF, which the others are compared with,
            is always among them.

    Raises:
        InputError: neurons without names, an unknown method or one that needs more images, both
            before anything is computed; or as `describe`.
    """
    if not run.names:
        raise InputError(
            "Methods are compared by Hit Rate and F1, but the neurons of layer "
            f"{run.config.target.layer!r} have no known names: use layer 'fc' of a target with "
            "label_names."
        )
    for name in methods:
        if name not in METHODS:
            raise InputError(
                f"Unknown method {shown(name)}: expected one of {', '.join(METHODS)} (--methods)."
            )
    images = run.inputs.source
    _check_images(methods, len(images), f"{images.spec} holds")
    result, probe = describe(run), probe_pass(run)
    _check_images(methods, len(probe.images), f"{images.spec} holds, without those left out,")
    score, asked = run.config.score, {AGAINST, *methods}
    chosen = {name: method for name, method in methods_of(score).items() if name in asked}
    lines = compare_methods(probe, run.inputs.vocabulary.concepts, run.names, chosen)
    return Comparison(score.kappa, lines, certainty_of(result))


def _check_images(methods: Collection[str], count: int, holder: str) -> None:
    """Refuse methods that look at more images than there are."""
    needed = {name: fewest for name, fewest in FEWEST.items() if name in methods}
    missing = {name: fewest for name, fewest in needed.items() if fewest > count}
    if missing:
        wanted = " and ".join(f"{name} needs {fewest}" for name, fewest in missing.items())
        able = [name for name in METHODS if FEWEST.get(name, 0) <= count]
        raise InputError(
            f"{holder} {count} images, but {wanted}: give more images, or ask for other methods, "
            f"--methods={','.join(able)}."
        )


def methods_of(score: ScoreConfig) -> dict[str, Method]:
    """Every method, with the config's α in those that have one, and its κ in the paper's."""
    www = partial(discovered, kappa=0.0, alpha=score.alpha, block=score.block)
    paper = partial(www, kappa=score.kappa or ScoreConfig.kappa)
    return METHODS | {"WWW": www, AGAINST: paper}


def compare_methods(
    probe: Probe,
    concepts: Sequence[str],
    names: Sequence[Sequence[str]],
    methods: Mapping[str, Method],
) -> dict[str, Line]:
    """Each method's line.

    Args:
        probe: what all methods are given.
        concepts: texts of the T concepts.
        names: of each neuron's class, at least one; case doesn't matter.
        methods: by their names, the paper's (`AGAINST`) among them.

    Raises:
        ValueError: as the methods, such as of too few images.
    """
    measured, seconds = {}, {}
    for name, method in methods.items():
        method(probe)  # compiles
        began = time.perf_counter()
        answer = method(probe)
        seconds[name] = time.perf_counter() - began
        texts = [[concepts[index] for index in own] for own in answer.selected]
        measured[name] = metrics.evaluate(texts, names, {})
    other = measured[AGAINST].values
    return {name: _line(own, other, seconds[name]) for name, own in measured.items()}


def _line(own: Metrics, other: Mapping[str, np.ndarray], seconds: float) -> Line:
    hit, f1 = own.values["hit"], own.values["f1"]
    return Line(
        own,
        {"hit": wilson(int(hit.sum()), len(hit)), "f1": bootstrap(f1)},
        {kind: paired(values, other[kind]) for kind, values in own.values.items()},
        mcnemar(hit > 0, other["hit"] > 0),
        seconds,
    )


def certainty_of(found: Result) -> Certainty:
    """What a run's result says of its own concepts."""
    rows = [
        Known(neuron.unit, text, *(neuron.certainty(rank).get(name) for name in CERTAINTY))
        for neuron in found
        for rank, (text, _) in enumerate(neuron.concepts)
    ]
    return Certainty(tuple(rows), found.unnamed, found.hubs)
