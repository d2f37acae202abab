"""Oracle of the similarity: float64, by the definition."""

import numpy as np


def t_vmf(cosine: float | np.ndarray, kappa: float) -> float | np.ndarray:
    """t-vMF similarity, ``(1 + c) / (1 + κ(1 − c)) − 1``.

    Method: Scores (Kobayashi 2021; the similarity inside eq. 3 of the paper). κ = 0 is the cosine
    itself, here up to the float64 rounding of ``(1 + c) − 1``.

    Args:
        cosine: cosine similarity, any shape.
        kappa: concentration, ≥ 0.

    Returns:
        The similarity, of the shape of ``cosine``.
    """
    c = np.asarray(cosine, dtype=np.float64)
    similarity = (1.0 + c) / (1.0 + kappa * (1.0 - c)) - 1.0
    return float(similarity) if similarity.ndim == 0 else similarity
