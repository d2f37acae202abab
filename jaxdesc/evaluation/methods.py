"""METHODS: every way of naming neurons behind one interface, and their comparison.

All methods get the same probe pass: the exemplar methods look at each neuron's exemplars alone,
CLIP-Dissect and INVERT at every image.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from jaxdesc import scoring
from jaxdesc.config import ScoreConfig
from jaxdesc.evaluation import dissect, linear, metrics
from jaxdesc.evaluation.dissect import ProbeSimilarity
from jaxdesc.evaluation.judging.labels import Label
from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.evaluation.probe import Probe, best
from jaxdesc.evaluation.statistics import Bounds, McNemar, bootstrap, mcnemar, paired, proportion

AGAINST = "t-vMF"  # the method that the others are compared with: the paper's

# Indices of each neuron's concepts, best first; empty if it has none.
Selected = Sequence[Int[np.ndarray, "_"]]


class Method(NamedTuple):
    """A way of naming neurons: gives each its concepts, none to a dead one.

    `fewest` is the number of probe images that it needs; `by_chances` is True if it needs chances
    that images show concepts.
    """

    select: Callable[[Probe, ScoreConfig], Selected]
    fewest: int = 1
    by_chances: bool = False


def discovered(probe: Probe, options: ScoreConfig) -> Selected:
    """Select the concepts that stand out among a neuron's exemplars; WWW's with κ = 0."""
    views, slots = probe.exemplars.distinct()
    arrays = probe.views[views], slots, probe.concepts, probe.base
    found = scoring.discover(*arrays, options.kappa, options.alpha, options.block)
    found = found.without(probe.dead)
    return np.split(found.concepts.astype(np.int64), np.cumsum(found.counts)[:-1])


def most_similar(similarity: ProbeSimilarity, fewest: int = 1) -> Method:
    """The method that names the concept with the largest similarity over the probe images."""

    def select(probe: Probe, options: ScoreConfig) -> Selected:
        concepts, _ = best(probe.concepts, similarity(probe, options.block), options.block)
        named = (concepts >= 0) & ~probe.dead
        return [concepts[[unit]] if named[unit] else concepts[:0] for unit in range(len(concepts))]

    return Method(select, fewest)


METHODS: dict[str, Method] = {
    "WWW": Method(lambda probe, options: discovered(probe, replace(options, kappa=0.0))),
    # A run with the cosine is compared with the paper's default.
    AGAINST: Method(
        lambda probe, options: discovered(
            probe, replace(options, kappa=options.kappa or ScoreConfig.kappa)
        )
    ),
    "cos": most_similar(dissect.cos),
    "cos_cubed": most_similar(dissect.cos_cubed),
    "rank_reorder": most_similar(dissect.rank_reorder, fewest=40),
    "wpmi": most_similar(dissect.wpmi, fewest=28),
    "soft_wpmi": most_similar(dissect.soft_wpmi, fewest=100),
    "INVERT": most_similar(dissect.auc, fewest=20),
    "linear": Method(
        lambda probe, options: linear.explain(probe, options.block), linear.FEWEST, by_chances=True
    ),
}


class Line(NamedTuple):
    """One method's line of a comparison.

    `metrics` are those that compare texts alone, and `bounds` the mean and 95 % interval of each.
    `differences` are the same for the difference from the paper's method over the same neurons, and
    `test` compares the hits of both. `seconds` is the time of the method without compilation.
    `held_out` is the mean correlation of weighted sums with activations on images set aside for it.
    """

    metrics: Metrics
    bounds: Mapping[str, Bounds]
    differences: Mapping[str, Bounds]
    test: McNemar
    seconds: float
    held_out: Bounds | None = None


def compare(
    probe: Probe,
    concepts: Sequence[str],
    names: Sequence[Sequence[str]],
    methods: Mapping[str, Method],
    options: ScoreConfig,
) -> dict[str, Line]:
    """Compare methods, the paper's (`AGAINST`) among them, by the names of the neurons' classes.

    `concepts` are texts; each class has at least one name, whose case doesn't matter.
    """
    measured, seconds, held_out = {}, {}, {}
    for name, method in methods.items():
        method.select(probe, options)  # compiles
        began = time.perf_counter()
        selected = method.select(probe, options)
        seconds[name] = time.perf_counter() - began
        if isinstance(selected, linear.Sums) and np.isfinite(selected.held_out).any():
            held_out[name] = bootstrap(selected.held_out[np.isfinite(selected.held_out)])
        texts = [[concepts[index] for index in indices] for indices in selected]
        measured[name] = metrics.evaluate(texts, names, {})
    paper = measured[AGAINST].values
    return {
        name: Line(
            found,
            {kind: bounds(kind, values) for kind, values in found.values.items()},
            {kind: paired(values, paper[kind]) for kind, values in found.values.items()},
            mcnemar(found.values["hit"] > 0, paper["hit"] > 0),
            seconds[name],
            held_out.get(name),
        )
        for name, found in measured.items()
    }


def labels_of(selected: Selected, concepts: Sequence[str]) -> dict[int, Label]:
    """Return each unit's label: its first concept, or its weighted sum of several."""
    if isinstance(selected, linear.Sums):
        sums = zip(selected.concepts, selected.weights, selected.bias.tolist(), strict=True)
        return {
            unit: Label(tuple(concepts[i] for i in some), tuple(weights.tolist()), bias)
            for unit, (some, weights, bias) in enumerate(sums)
            if len(some)
        }
    return {unit: Label((concepts[some[0]],)) for unit, some in enumerate(selected) if len(some)}


def bounds(kind: str, values: np.ndarray) -> Bounds:
    """Mean and interval of a metric: Wilson's for Hit Rate, a share; else the bootstrap's."""
    if kind == "hit":
        return proportion(int(values.sum()), len(values))
    return bootstrap(values)
