"""How well the selected concepts name a neuron whose class is known.

A neuron of the last layer stands for a class, and G is that class's names. P is the selected
concepts, or `["none"]` where there are none. Each metric is a number for one neuron, averaged over
neurons. All of them compare lower-cased strings, and count a concept as often as it was selected.
The rules are those of WWW (Ahn et al. 2024), by which the paper measures its tables 1 and 2.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Float, Float32, Float64

# From distinct strings to one unit row each.
Encoder = Callable[[list[str]], np.ndarray | Array]

# Each encoder's metric, and the largest value that one pair may count with.
_COSINES = {"clip": ("clip_cos", 1.0), "sentence": ("sentence_cos", np.inf)}

# What WWW reads where no concept was selected.
_NOTHING = ["none"]

# How far a feature's norm may lie from 1: bfloat16 rounds each component by up to 0.4 %.
_NORM_TOLERANCE = 1e-2

# How many vocabulary entries are compared with all names at a time; bounds memory.
_BLOCK = 4096


@dataclass(frozen=True)
class Estimate:
    """A mean over neurons, its standard error (population std / √count), and their count."""

    mean: float
    error: float
    count: int


@dataclass(frozen=True)
class Metrics:
    """Each metric's value for every neuron: "hit", "f1", and one for each encoder."""

    values: Mapping[str, Float64[np.ndarray, "neuron"]]

    @property
    def estimates(self) -> dict[str, Estimate]:
        """Each metric's mean over the neurons."""
        return {name: estimate(values) for name, values in self.values.items()}


def hit(selected: Sequence[str], names: Sequence[str]) -> float:
    """1 where any selected concept is one of the class's names, else 0; the mean is Hit Rate.

    Raises:
        ValueError: the class has no name.
    """
    return float(bool(set(_selected(selected)) & set(_truth(names))))


def f1(selected: Sequence[str], names: Sequence[str]) -> float:
    """Harmonic mean of precision |set(P) ∩ set(G)| / len(P) and recall |∩| / len(G), or 0.

    Raises:
        ValueError: the class has no name.
    """
    concepts, truth = _selected(selected), _truth(names)
    return _f1(len(set(concepts) & set(truth)), len(concepts), len(truth))


def mean_cosine(
    selected: Float[np.ndarray | Array, "concept feature"],
    names: Float[np.ndarray | Array, "name feature"],
    largest: float = np.inf,
) -> float:
    """Mean over P × G of min(`largest`, p · g), for unit features.

    WWW takes min(1, cos) for CLIP and the plain dot product for sentence embeddings.
    """
    products = np.asarray(selected, np.float64) @ np.asarray(names, np.float64).T
    return float(np.minimum(products, largest).mean())


def estimate(values: Float[np.ndarray, "neuron"]) -> Estimate:
    """Mean and standard error over neurons.

    Raises:
        ValueError: there are none.
    """
    if len(values) == 0:
        raise ValueError("a mean over no neurons doesn't exist: evaluate at least 1 neuron.")
    return Estimate(float(values.mean()), float(values.std() / np.sqrt(len(values))), len(values))


def evaluate(
    selected: Sequence[Sequence[str]],
    names: Sequence[Sequence[str]],
    encoders: Mapping[str, Encoder],
) -> Metrics:
    """All metrics of a layer whose classes are known.

    Args:
        selected: the concepts of each neuron, as often as they were selected.
        names: the names of each neuron's class, at least one.
        encoders: "clip" gives the metric "clip_cos", "sentence" gives "sentence_cos". Each is
            called once, with distinct lower-cased strings, and returns one unit row for each.

    Returns:
        "hit", "f1" and one metric for each encoder.

    Raises:
        ValueError: the lengths differ, a class has no name, an encoder is unknown, or its features
            are of the wrong shape or not of unit length.
    """
    concepts, truth = [_selected(of_one) for of_one in selected], _names(names)
    if len(concepts) != len(truth):
        raise ValueError(f"{len(concepts)} neurons have concepts, but {len(truth)} have names.")
    pairs = list(zip(concepts, truth, strict=True))
    values = {"hit": _each(hit, pairs), "f1": _each(f1, pairs)}
    for key, encoder in encoders.items():
        metric, largest = _cosine(key)
        features = _Encoded(key, encoder, [*concepts, *truth])
        values[metric] = np.array(
            [mean_cosine(features(of_one), features(own), largest) for of_one, own in pairs]
        )
    return Metrics(values)


def ceilings(
    vocabulary: Sequence[str], names: Sequence[Sequence[str]], encoders: Mapping[str, Encoder]
) -> Metrics:
    """The best value of each metric that any selection from this vocabulary could reach.

    Hit: whether any name of the class is in the vocabulary. F1: the best subset of the vocabulary.
    Equal entries tie in every score, so they are selected together, and each counts in precision.
    Cosines: the best single concept, since a mean over concepts is never above its best. To select
    nothing, which is read as "none", is an answer too.

    Args:
        vocabulary: its entries; those that it repeats count as often as they stand there.
        names: the names of each neuron's class, at least one.
        encoders: as for `evaluate`.

    Returns:
        The ceiling of each metric for every neuron.

    Raises:
        ValueError: the vocabulary is empty, or as for `evaluate`.
    """
    if not vocabulary:
        raise ValueError("an empty vocabulary has no ceiling: give at least 1 concept.")
    entries, truth = Counter(_lowered(vocabulary)), _names(names)
    best_f1 = np.array([_best_f1(entries, own) for own in truth])
    # Any match at all makes both positive.
    values = {"hit": (best_f1 > 0).astype(np.float64), "f1": best_f1}
    for key, encoder in encoders.items():
        metric, largest = _cosine(key)
        answers = list(entries | Counter(_NOTHING))
        values[metric] = _best_cosines(key, encoder, answers, truth, largest)
    return Metrics(values)


def distinct_words(strings: Sequence[Sequence[str]]) -> list[str]:
    """All that an encoder of the metrics may be asked for: each string once, lower-cased."""
    return list(dict.fromkeys(word for part in (*strings, _NOTHING) for word in _lowered(part)))


def known(words: Sequence[str], features: Float[np.ndarray, "word feature"]) -> Encoder:
    """An encoder that looks texts up among those encoded before, of `distinct_words`."""
    rows = {word: row for row, word in enumerate(words)}
    return lambda strings: features[[rows[string] for string in strings]]


def _f1(common: int, selected: int, names: int) -> float:
    # The harmonic mean of common / selected and common / names, also where both are 0.
    return 2 * common / (selected + names)


def _best_f1(entries: Counter[str], names: list[str]) -> float:
    """F1 of the best subset: for each number of matches, those that stand there least often."""
    copies = sorted(entries[name] for name in set(names) if name in entries)
    totals = np.cumsum(copies).tolist()
    nothing = f1([], names)
    return max([nothing, *(_f1(k, total, len(names)) for k, total in enumerate(totals, 1))])


def _best_cosines(
    key: str, encoder: Encoder, entries: list[str], names: list[list[str]], largest: float
) -> np.ndarray:
    """For each neuron the largest mean, over its names, of a vocabulary entry's products."""
    features = _Encoded(key, encoder, [entries, *names])
    distinct = list(dict.fromkeys(name for own in names for name in own))
    place = {name: index for index, name in enumerate(distinct)}
    places = [[place[name] for name in own] for own in names]
    name_features = features(distinct).astype(np.float64)
    best = np.full(len(names), -np.inf)
    for start in range(0, len(entries), _BLOCK):
        block = features(entries[start : start + _BLOCK]).astype(np.float64)
        products = np.minimum(name_features @ block.T, largest)
        best = np.maximum(best, [products[own].mean(axis=0).max() for own in places])
    return best


class _Encoded:
    """The features of strings, each distinct string encoded once."""

    def __init__(self, key: str, encoder: Encoder, strings: list[list[str]]) -> None:
        distinct = list(dict.fromkeys(string for part in strings for string in part))
        features = np.asarray(encoder(distinct), np.float32)
        _check_unit(key, distinct, features)
        self._rows = {string: row for row, string in enumerate(distinct)}
        self._features = features

    def __call__(self, strings: list[str]) -> Float32[np.ndarray, "string feature"]:
        return self._features[[self._rows[string] for string in strings]]


def _check_unit(key: str, strings: list[str], features: np.ndarray) -> None:
    if features.ndim != 2 or len(features) != len(strings):
        raise ValueError(
            f"encoder {key!r} returned shape {features.shape} for {len(strings)} strings, but "
            "one row for each was expected."
        )
    norms = np.linalg.norm(features, axis=1)
    # Written so that NaN fails.
    wrong = np.flatnonzero(~(np.abs(norms - 1) <= _NORM_TOLERANCE))
    if wrong.size:
        raise ValueError(
            f"encoder {key!r} returned a feature of length {norms[wrong[0]]:.4g} for "
            f"{strings[wrong[0]]!r}, but unit length was expected."
        )


def _each(
    metric: Callable[[Sequence[str], Sequence[str]], float],
    pairs: list[tuple[list[str], list[str]]],
) -> np.ndarray:
    return np.array([metric(concepts, names) for concepts, names in pairs])


def _cosine(key: str) -> tuple[str, float]:
    if key not in _COSINES:
        raise ValueError(f"there is no encoder {key!r}: choose from {', '.join(_COSINES)}.")
    return _COSINES[key]


def _names(names: Sequence[Sequence[str]]) -> list[list[str]]:
    return [_truth(own, f"the class of neuron {neuron}") for neuron, own in enumerate(names)]


def _truth(names: Sequence[str], whose: str = "the class") -> list[str]:
    if not names:
        raise ValueError(f"{whose} has no name to compare with: give it at least one.")
    return _lowered(names)


def _selected(concepts: Sequence[str]) -> list[str]:
    return _lowered(concepts) or _NOTHING


def _lowered(strings: Sequence[str]) -> list[str]:
    if isinstance(strings, str):
        raise ValueError(f"expected a list of strings, but got the single string {strings!r}.")
    return [string.lower() for string in strings]
