"""What the features of a unit's exemplars say about the unit, without any concept.

After SemanticLens (Dreyer et al., "Mechanistic understanding and validation of large AI models with
SemanticLens", 2025), on n unit features v of a unit:

- clarity: mean cosine of two of them, (|mean v|² − 1/n) · n / (n − 1);
- redundancy: the largest cosine of the unit's mean feature to that of another unit;
- polysemanticity: 1 − the cosine of the centres of two clusters of them (k-means).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int

from jaxdesc.exemplars import Slots

_UNITS = 512  # at a time; bounds memory
_STEPS = 100  # of k-means at most; it ends when no exemplar changes its cluster


class Properties(NamedTuple):
    """Properties of each unit; NaN if it has too few exemplars."""

    clarity: Float64[np.ndarray, "unit"]
    redundancy: Float64[np.ndarray, "unit"]
    polysemanticity: Float64[np.ndarray, "unit"]


def properties(
    features: Float[np.ndarray, "view feature"], exemplars: Slots, fewest: int = 2
) -> Properties:
    """Measure units with at least `fewest` exemplars, and no fewer than 2.

    Args:
        features: unit features of the distinct exemplar views.
        exemplars: each unit's rows of them.
        fewest: exemplars below which a unit is not measured.
    """
    units = len(exemplars.counts)
    clarity, redundancy, mixed = np.full((3, units), np.nan)
    measured = np.flatnonzero(exemplars.counts >= max(2, fewest))
    means = np.zeros((len(measured), features.shape[1]), np.float32)
    for place, group, taken in _groups(features, exemplars, measured):
        some, n = measured[place], taken.sum(axis=1)
        mean = group.sum(axis=1) / n[:, None]
        length = np.einsum("uf,uf->u", mean, mean).astype(np.float64)
        clarity[some] = (length - 1 / n) * n / (n - 1)
        mixed[some] = 1 - _cosine_of_centres(group, taken)
        means[place] = mean / np.maximum(np.sqrt(length), 1e-12)[:, None]
    if len(measured) > 1:
        for first in range(0, len(means), _UNITS):
            cosines = means[first : first + _UNITS] @ means.T
            rows = np.arange(len(cosines))
            cosines[rows, first + rows] = -np.inf
            redundancy[measured[first : first + _UNITS]] = cosines.max(axis=1)
    return Properties(clarity, redundancy, mixed)


def _groups(
    features: np.ndarray, exemplars: Slots, measured: Int[np.ndarray, "some"]
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Features of the exemplars of a few units at a time, 0 in empty slots, and which are taken."""
    for first in range(0, len(measured), _UNITS):
        place = slice(first, first + _UNITS)
        some = measured[place]
        taken = exemplars.taken[some]
        group = features[exemplars.rows[some]].astype(np.float32)
        group[~taken] = 0
        yield place, group, taken


def _cosine_of_centres(
    group: Float32[np.ndarray, "unit slot feature"], taken: Bool[np.ndarray, "unit slot"]
) -> Float64[np.ndarray, "unit"]:
    """Cosine of the centres of two clusters, which start at the two features farthest apart."""
    units = np.arange(len(group))
    cosines = group @ group.swapaxes(1, 2)
    cosines[~(taken[:, :, None] & taken[:, None, :])] = np.inf
    pair = np.divmod(cosines.reshape(len(group), -1).argmin(axis=1), group.shape[1])
    centres = np.stack([group[units, slot] for slot in pair], axis=1)
    second = np.zeros(taken.shape, bool)
    for step in range(_STEPS):
        distances = (centres**2).sum(axis=2)[:, None] - 2 * group @ centres.swapaxes(1, 2)
        nearer = distances[..., 1] < distances[..., 0]
        if step and (nearer == second)[taken].all():
            break
        second = nearer
        members = np.stack([taken & ~second, taken & second], axis=1).astype(np.float32)
        counts = members.sum(axis=2, keepdims=True)
        # A cluster that has lost all its members keeps its centre.
        centres = np.where(counts > 0, members @ group / np.maximum(counts, 1), centres)
    lengths = np.linalg.norm(centres, axis=2)
    product = np.einsum("uf,uf->u", *centres.swapaxes(0, 1))
    return np.asarray(product / np.maximum(lengths.prod(axis=1), 1e-12), np.float64)
