"""Oracles of the similarity, the concept scores and the selection: float64 loops."""

import numpy as np


def t_vmf(cosine, kappa):
    """(1 + c) / (1 + κ(1 − c)) − 1 (Kobayashi 2021); at κ = 0 the cosine, up to rounding."""
    c = np.asarray(cosine, np.float64)
    similarity = (1.0 + c) / (1.0 + kappa * (1.0 - c)) - 1.0
    return float(similarity) if similarity.ndim == 0 else similarity


def scores(images, exemplars, concepts, base, kappa):
    """S[i, j] = mean_o { t_vmf(v_o · W_j; κ) − t_vmf(v_o · b; κ) }, [N, T].

    Eq. 3 of the paper, at κ = 0 its eq. 1; method: Scores. The naive difference is wrong by about
    1e-16 absolutely: at κ = 1e5, where it may be 1e-9, seven digits are left.

    Args:
        images: V [U, d], unit rows.
        exemplars: rows of V for each neuron; one without exemplars scores 0.
        concepts: W [T, d], unit rows.
        base: b [d], unit.
        kappa: concentration.
    """
    w, b = np.asarray(concepts, np.float64), np.asarray(base, np.float64)
    result = np.zeros((len(exemplars), len(w)))
    for i, rows in enumerate(exemplars):
        views = [np.asarray(images[int(row)], np.float64) for row in rows]
        for j in range(len(w)):
            total = 0.0
            for v in views:
                total += t_vmf(np.dot(v, w[j]), kappa) - t_vmf(np.dot(v, b), kappa)
            result[i, j] = total / len(views) if views else 0.0
    return result


def select(scores, alpha):
    """(concept, score) pairs of each neuron strictly above τ_i = α · max_j S[i, j].

    Eq. 2 of the paper; method: Selection. Best first, ties by concept index. Where the largest
    score is not positive (NaN among them), there is no concept.
    """
    selected = []
    for row in np.asarray(scores, np.float64):
        largest = float(np.max(row))
        kept = []
        if largest > 0.0:
            kept = [(j, float(score)) for j, score in enumerate(row) if score > alpha * largest]
        selected.append(sorted(kept, key=lambda pair: (-pair[1], pair[0])))
    return selected
