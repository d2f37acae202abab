"""Oracles of the metrics of one neuron, their standard error and their ceilings.

P are the concepts of a neuron, G the names of its class, at least one.
"""

import itertools
import math

import numpy as np


def _lists(selected, names):
    """P and G in lower case, P ["none"] where empty; method: Metrics."""
    return [p.lower() for p in selected] or ["none"], [g.lower() for g in names]


def hit(selected, names):
    """True if any selected concept is a name of the class; method: Metrics, Hit Rate."""
    p, g = _lists(selected, names)
    return any(concept in g for concept in p)


def f1(selected, names):
    """F1 of one neuron; method: Metrics, F1.

    Precision is |set(P) ∩ set(G)| / len(P) and recall |set(P) ∩ set(G)| / len(G): the lengths are
    of the lists, so a repeated string counts once above and every time below.
    """
    p, g = _lists(selected, names)
    common = len(set(p) & set(g))
    precision, recall = common / len(p), common / len(g)
    return 2.0 * precision * recall / (precision + recall) if common else 0.0


def mean_cosine(features_p, features_g, cap):
    """Mean of the dot product over P × G, unit rows; with `cap` of min(1, cos).

    Method: Metrics, CLIP cos (capped) and mpnet cos (not).
    """
    total = 0.0
    for p in np.asarray(features_p, np.float64):
        for g in np.asarray(features_g, np.float64):
            cosine = float(np.dot(p, g))
            total += min(1.0, cosine) if cap else cosine
    return total / (len(features_p) * len(features_g))


def standard_error(values):
    """Population standard deviation over √N of one metric; method: Metrics, Standard error."""
    n = len(values)
    mean = sum(map(float, values)) / n
    variance = sum((float(value) - mean) ** 2 for value in values) / n
    return math.sqrt(variance) / math.sqrt(n)


def ceilings(vocabulary, names):
    """Best Hit and best F1 of each neuron that any method could reach; method: Metrics, Ceiling.

    A method's answer is a choice of vocabulary entries. Entries of one string, case folded, have
    one text feature, hence one score: they are selected all or none, and every copy counts in
    len(P) (method: Vocabularies). An entry that is not a name of the class only lowers precision,
    so only the strings that are names are tried, in every combination, the empty one (which is
    ["none"]) included.
    """
    hits, f1s = [], []
    for of_neuron in names:
        lowered = [name.lower() for name in of_neuron]
        copies = {}
        for entry in vocabulary:
            if entry.lower() in lowered:
                copies.setdefault(entry.lower(), []).append(entry)
        answers = [
            [entry for string in chosen for entry in copies[string]]
            for count in range(len(copies) + 1)
            for chosen in itertools.combinations(copies, count)
        ]
        hits.append(any(hit(answer, of_neuron) for answer in answers))
        f1s.append(max(f1(answer, of_neuron) for answer in answers))
    return hits, f1s
