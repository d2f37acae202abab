"""Contributions (why) and neuron maps (where): a neuron's share in a logit, and where it looks.

The rules are those of WWW (Ahn et al. 2024): a neuron's contribution to class y is
φ_k = a_k · ∂z_y/∂a_k, its map is its channel without the values up to their 70th percentile, and
an image's map is the sum of its top neurons' maps, weighted by their contributions.
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from jaxdesc.attention.cams import look
from jaxdesc.models.taps import ClassGradient
from jaxdesc.models.target import Pixels, Target

PERCENTILE = 70  # values of a channel up to this percentile are not part of its map
TOP = 3  # neurons in an image's map


class Contributions(NamedTuple):
    """Each neuron's contribution φ to one logit of each image, and its map.

    φ is Σ over positions of A · ∂z/∂A. If a mean over positions and a linear layer follow, that is
    exactly W[y, k] · a_k; otherwise it is the first-order Taylor term.
    """

    values: Float[Array, "batch neuron"]  # φ
    maps: Float[Array, "batch row column neuron"]  # A, each neuron's activations
    logits: Float[Array, "batch class"]


def contributions(
    target: Target,
    layer: str,
    pixels: Pixels,
    classes: Int[Array | np.ndarray, " batch"] | None = None,
) -> Contributions:
    """Compute contributions of a layer's neurons to one logit of each image.

    The logit is that of the image's class y, by default the predicted one.
    """
    found: Contributions = look(_contributions, target, pixels, classes, layer)[0]
    return found


def _contributions(seen: ClassGradient) -> Contributions:
    values = (seen.maps * seen.gradient).sum(axis=(1, 2))
    return Contributions(values, seen.maps, seen.logits)


def neuron_map(
    channel: Float[np.ndarray, "row column"], size: int
) -> Float[np.ndarray, "size size"]:
    """Map of a neuron: the largest values of its channel, enlarged, between 0 and 1.

    Values up to the 70th percentile become 0, the rest is enlarged bilinearly (half-pixel centres)
    and scaled from its smallest to its largest value. A channel without differences gives zeros.
    """
    channel = np.asarray(channel, np.float32)
    kept = np.where(channel > np.percentile(channel, PERCENTILE), channel, np.float32(0))
    values = np.asarray(jax.image.resize(kept, (size, size), "bilinear"))
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def image_map(
    contributed: Float[np.ndarray, " neuron"],
    maps: Float[np.ndarray, "row column neuron"],
    size: int,
) -> Float[np.ndarray, "size size"]:
    """Map of an image: Σ φ_k/Σφ × map over the three neurons of largest φ.

    Σφ is over those three, so the weights sum to 1; one that does not contribute, φ ≤ 0, has none.
    """
    best = top_neurons(contributed, TOP)
    weights = np.maximum(contributed[best], 0).astype(np.float64)
    if not weights.sum() > 0:
        return np.zeros((size, size), np.float32)
    each = [neuron_map(maps[..., unit], size) for unit in best]
    weighted = zip(weights / weights.sum(), each, strict=True)
    return np.sum([weight * each for weight, each in weighted], axis=0).astype(np.float32)


def top_neurons(contributed: Float[np.ndarray, " neuron"], count: int) -> list[int]:
    """The neurons that contribute most, best first, ties by index."""
    order: list[int] = np.argsort(-np.asarray(contributed), kind="stable")[:count].tolist()
    return order


def cosine(first: Float[np.ndarray, "..."], second: Float[np.ndarray, "..."]) -> float:
    """Cosine between two maps; NaN if one of them is empty."""
    a, b = (np.asarray(values, np.float64).ravel() for values in (first, second))
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norms) if norms > 0 else float("nan")
