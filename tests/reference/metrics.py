"""Oracles of the metrics of one neuron, their standard error and their ceilings."""

import itertools
import math

import numpy as np


def _lists(selected: list[str], names: list[str]) -> tuple[list[str], list[str]]:
    """P and G in lower case, P ``["none"]`` where empty; method: Metrics."""
    if not names:
        raise ValueError("a neuron without names has no metric")
    return [p.lower() for p in selected] or ["none"], [g.lower() for g in names]


def hit(selected: list[str], names: list[str]) -> bool:
    """True if any selected concept is a name of the class; method: Metrics, Hit Rate.

    Args:
        selected: P, the concepts of one neuron.
        names: G, the names of its class, at least one.
    """
    p, g = _lists(selected, names)
    return any(concept in g for concept in p)


def f1(selected: list[str], names: list[str]) -> float:
    """F1 of one neuron; method: Metrics, F1.

    Precision is |set(P) ∩ set(G)| / len(P) and recall |set(P) ∩ set(G)| / len(G): the lengths are
    of the lists, so a repeated string counts once above and every time below.

    Args:
        selected: P, the concepts of one neuron.
        names: G, the names of its class, at least one.
    """
    p, g = _lists(selected, names)
    common = len(set(p) & set(g))
    precision, recall = common / len(p), common / len(g)
    if precision == 0.0 and recall == 0.0:
        return 0.0
    return 2.0 * precision * recall / (precision + recall)


def mean_cosine(features_p: np.ndarray, features_g: np.ndarray, cap: bool) -> float:
    """Mean over P×G of the dot product; method: Metrics, CLIP cos (capped) and mpnet cos (not).

    Args:
        features_p: [P, d], unit rows, the selected concepts' (that of "none" if there is none).
        features_g: [G, d], unit rows, the names'.
        cap: take min(1, cos) of each pair.
    """
    total = 0.0
    for p in np.asarray(features_p, dtype=np.float64):
        for g in np.asarray(features_g, dtype=np.float64):
            cosine = float(np.dot(p, g))
            total += min(1.0, cosine) if cap else cosine
    return total / (len(features_p) * len(features_g))


def standard_error(values: list[float] | np.ndarray) -> float:
    """Population standard deviation over √N; method: Metrics, Standard error.

    Args:
        values: [N], one metric of every neuron.
    """
    values = [float(value) for value in values]
    n = len(values)
    mean = sum(values) / n
    variance = sum((value - mean) ** 2 for value in values) / n
    return math.sqrt(variance) / math.sqrt(n)


def ceilings(vocabulary: list[str], names: list[list[str]]) -> tuple[list[bool], list[float]]:
    """Best Hit and best F1 of each neuron that any method could reach; method: Metrics, Ceiling.

    A method's answer is a choice of vocabulary entries. Entries of one string, case folded, have
    one text feature, hence one score: they are selected all or none, and every copy counts in
    len(P) (method: Vocabularies). An entry that is not a name of the class only lowers precision,
    so only the strings that are names are tried, in every combination, the empty one (which is
    ``["none"]``) among them. Hit is the best over the same answers. Without duplicates the best
    answer is every name the vocabulary has; with them, leaving out an often repeated one may win.

    Args:
        vocabulary: the T entries, duplicates among them if the vocabulary keeps them.
        names: for each of the N neurons, the names of its class; few of them, at least one each.

    Returns:
        (hit, f1), each a list of N.
    """
    hits, f1s = [], []
    for names_of_neuron in names:
        lowered = [name.lower() for name in names_of_neuron]
        copies: dict[str, list[str]] = {}
        for entry in vocabulary:
            if entry.lower() in lowered:
                copies.setdefault(entry.lower(), []).append(entry)
        if len(copies) > 16:
            raise ValueError(f"{len(copies)} names are too many for brute force")
        best_hit, best_f1 = False, 0.0
        for count in range(len(copies) + 1):
            for chosen in itertools.combinations(copies, count):
                selected = [entry for string in chosen for entry in copies[string]]
                best_hit = best_hit or hit(selected, names_of_neuron)
                best_f1 = max(best_f1, f1(selected, names_of_neuron))
        hits.append(best_hit)
        f1s.append(best_f1)
    return hits, f1s
