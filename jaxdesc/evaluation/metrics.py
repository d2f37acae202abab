"""METRICS: scores of the selected concepts of a unit whose class is known.

A unit of the last layer stands for a class. G is the list of that class's names, P the selected
concepts, or `["none"]` without any. A metric is a number per unit, averaged over units. All texts
are lower-cased, and a concept counts as often as it was selected. The rules are those of WWW
(Ahn et al. 2024), by which the paper measures its tables 1 and 2.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Float64

# From texts to one unit row each.
Encoder = Callable[[list[str]], np.ndarray | Array]

NOTHING = ["none"]  # read if no concept was selected
BLOCK = 4096  # vocabulary entries compared with all names at a time; bounds memory


class Metric(NamedTuple):
    """A label against the names of the unit's class.

    Texts arrive lower-cased, and `encode` gives the unit features [K, d] of any of them.

    Attributes:
        title: heading in tables and reports.
        value: (P, G, encode) -> the value of one unit.
        ceiling: (count of each vocabulary entry, G of each unit, encode) -> per unit, the largest
            value that any selection from the vocabulary could reach.
        encoder: whose features the metric needs: "clip", "sentence", or "" for texts alone.
    """

    title: str
    value: Callable[[list[str], list[str], Encoder], float]
    ceiling: Callable[[Counter[str], list[list[str]], Encoder], Sequence[float] | np.ndarray]
    encoder: str = ""


@dataclass(frozen=True)
class Estimate:
    """A mean over neurons, its standard error (population std / √count), and their count."""

    mean: float
    error: float
    count: int


@dataclass(frozen=True)
class Metrics:
    """The value of each metric for every neuron, by the names in `METRICS`."""

    values: Mapping[str, Float64[np.ndarray, "neuron"]]

    @property
    def estimates(self) -> dict[str, Estimate]:
        """Mean of each metric over the neurons."""
        return {name: estimate(values) for name, values in self.values.items()}


def estimate(values: Float[np.ndarray, "neuron"]) -> Estimate:
    """Mean and standard error over neurons."""
    return Estimate(float(values.mean()), float(values.std() / np.sqrt(len(values))), len(values))


def hit(selected: Sequence[str], names: Sequence[str]) -> float:
    """1 if any selected concept is one of the class's names, else 0; the mean is Hit Rate."""
    return float(bool(set(_concepts(selected)) & set(_lowered(names))))


def f1(selected: Sequence[str], names: Sequence[str]) -> float:
    """Harmonic mean of precision |set(P) ∩ set(G)| / len(P) and recall |∩| / len(G), or 0."""
    concepts, truth = _concepts(selected), _lowered(names)
    # This form holds if both are 0, too.
    return 2 * len(set(concepts) & set(truth)) / (len(concepts) + len(truth))


def mean_cosine(
    selected: Float[np.ndarray | Array, "concept feature"],
    names: Float[np.ndarray | Array, "name feature"],
    largest: float = np.inf,
) -> float:
    """Mean over P × G of min(`largest`, p · g): 1 for CLIP, no limit for sentences, as in WWW."""
    products = np.asarray(selected, np.float64) @ np.asarray(names, np.float64).T
    return float(np.minimum(products, largest).mean())


def evaluate(
    selected: Iterable[Sequence[str]],
    names: Iterable[Sequence[str]],
    encoders: Mapping[str, Encoder],
) -> Metrics:
    """Measure all of `METRICS` whose encoder ("clip", "sentence") is given.

    `selected` has each neuron's selected concepts, repeated ones included, and `names` the names of
    its class, at least one.
    """
    pairs = [(_concepts(p), _lowered(g)) for p, g in zip(selected, names, strict=True)]
    found = {
        name: np.array([metric.value(p, g, encode) for p, g in pairs], np.float64)
        for name, metric, encode in _measurable(encoders)
    }
    return Metrics(found)


def ceilings(
    vocabulary: Sequence[str], names: Sequence[Sequence[str]], encoders: Mapping[str, Encoder]
) -> Metrics:
    """The best value of each metric that any selection from this vocabulary could reach.

    Equal entries tie in every score, so they are selected together, each as often as it is
    repeated. To select nothing, which is read as "none", is an answer too.
    """
    entries, truth = Counter(_lowered(vocabulary)), [_lowered(of_unit) for of_unit in names]
    found = {
        name: np.asarray(metric.ceiling(entries, truth, encode), np.float64)
        for name, metric, encode in _measurable(encoders)
    }
    return Metrics(found)


def distinct_words(texts: Sequence[Sequence[str]]) -> list[str]:
    """Every text that a metric may encode: each once, lower-cased."""
    return list(dict.fromkeys(word for part in (*texts, NOTHING) for word in _lowered(part)))


def known(words: Sequence[str], features: Float[np.ndarray, "word feature"]) -> Encoder:
    """An encoder that looks up what was encoded before, from `distinct_words`."""
    rows = {word: row for row, word in enumerate(words)}
    return lambda texts: features[[rows[text] for text in texts]]


def _measurable(encoders: Mapping[str, Encoder]) -> list[tuple[str, Metric, Encoder]]:
    usable: dict[str, Encoder] = {"": lambda texts: np.empty((len(texts), 0)), **encoders}
    return [(n, m, usable[m.encoder]) for n, m in METRICS.items() if m.encoder in usable]


def _concepts(selected: Sequence[str]) -> list[str]:
    return _lowered(selected) or NOTHING


def _lowered(texts: Sequence[str]) -> list[str]:
    return [text.lower() for text in texts]


def _best_f1(entries: Counter[str], names: list[str]) -> float:
    """F1 of the best subset: for each number of matches, the names that are repeated least."""
    copies = sorted(entries[name] for name in set(names) if name in entries)
    totals = np.cumsum(copies).tolist()
    best = [2 * k / (total + len(names)) for k, total in enumerate(totals, 1)]
    return max([f1([], names), *best])


def _best_cosines(
    entries: Counter[str], names: list[list[str]], encode: Encoder, largest: float
) -> Float64[np.ndarray, "neuron"]:
    """The best single concept's mean over the names: a mean over concepts is never above it."""
    answers = list(entries | Counter(NOTHING))
    distinct = list(dict.fromkeys(name for of_unit in names for name in of_unit))
    row = {name: index for index, name in enumerate(distinct)}
    rows = [[row[name] for name in of_unit] for of_unit in names]
    features = np.asarray(encode(distinct), np.float64)
    best = np.full(len(names), -np.inf)
    for start in range(0, len(answers), BLOCK):
        block = np.asarray(encode(answers[start : start + BLOCK]), np.float64)
        products = np.minimum(features @ block.T, largest)
        best = np.maximum(best, [products[of_unit].mean(axis=0).max() for of_unit in rows])
    return best


def _cosine(title: str, encoder: str, largest: float) -> Metric:
    return Metric(
        title,
        lambda p, g, encode: mean_cosine(encode(p), encode(g), largest),
        lambda entries, names, encode: _best_cosines(entries, names, encode, largest),
        encoder,
    )


METRICS: dict[str, Metric] = {
    "hit": Metric(
        "Hit Rate",
        lambda p, g, _: hit(p, g),
        lambda entries, names, _: [
            float(any(name in entries or name in NOTHING for name in of_unit)) for of_unit in names
        ],
    ),
    "f1": Metric(
        "F1",
        lambda p, g, _: f1(p, g),
        lambda entries, names, _: [_best_f1(entries, of_unit) for of_unit in names],
    ),
    "clip_cos": _cosine("CLIP cos", "clip", 1.0),
    "sentence_cos": _cosine("sentence cos", "sentence", np.inf),
}
