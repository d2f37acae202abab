"""Oracles of the concept scores and of the selection: float64 loops."""

from collections.abc import Sequence

import numpy as np

from tests.reference.similarity import t_vmf


def scores(
    image_features: np.ndarray,
    exemplars: Sequence[Sequence[int]],
    concept_features: np.ndarray,
    base_feature: np.ndarray,
    kappa: float,
) -> np.ndarray:
    """``S[i, j] = mean_o { t_vmf(v_o · W_j; κ) − t_vmf(v_o · b; κ) }``.

    Eq. 3 of the paper; method: Scores. At κ = 0 it is eq. 1 of the paper.
    The naive difference is wrong by about 1e-16 absolutely, whatever its size: at κ = 1e5, where
    it may be 1e-9, seven digits are left.

    Args:
        image_features: V [U, d], unit rows.
        exemplars: rows of V, the exemplars of each neuron, of which some may have fewer.
        concept_features: W [T, d], unit rows.
        base_feature: b [d], unit.
        kappa: concentration of t-vMF.

    Returns:
        S [N, T], float64; 0 for a neuron without exemplars.
    """
    v = np.asarray(image_features, dtype=np.float64)
    w = np.asarray(concept_features, dtype=np.float64)
    b = np.asarray(base_feature, dtype=np.float64)
    concepts = len(w)
    s = np.zeros((len(exemplars), concepts), dtype=np.float64)
    for i, rows in enumerate(exemplars):
        for j in range(concepts):
            total = 0.0
            for row in rows:
                image = v[int(row)]
                total += t_vmf(np.dot(image, w[j]), kappa) - t_vmf(np.dot(image, b), kappa)
            s[i, j] = total / len(rows) if len(rows) else 0.0
    return s


def select(scores: np.ndarray, alpha: float) -> list[list[tuple[int, float]]]:
    """Concepts above ``τ_i = α · max_j S[i, j]``, strictly.

    Eq. 2 of the paper; method: Selection. Best first, ties by concept index. Where the largest
    score is not positive (NaN among them), there is no concept.

    Args:
        scores: S [N, T].
        alpha: concept sensitivity.

    Returns:
        For each of the N neurons, its (concept index, score) pairs.
    """
    selected = []
    for row in np.asarray(scores, dtype=np.float64):
        largest = float(np.max(row))
        kept = []
        if largest > 0.0:
            threshold = alpha * largest
            for concept, score in enumerate(row):
                if score > threshold:
                    kept.append((concept, float(score)))
        selected.append(sorted(kept, key=lambda pair: (-pair[1], pair[0])))
    return selected
