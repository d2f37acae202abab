"""Similarities of an image and a concept: functions φ of their cosine, and their registry.

With unit features the cosine falls off slowly around its peak, so that many concepts look almost
equally near. The t-vMF similarity (Kobayashi, "t-vMF Similarity for Regularizing Intra-Class
Feature Distribution", CVPR 2021) falls off like a heavy-tailed von Mises-Fisher density. Its
concentration κ sets how sharply: κ = 0 is the cosine itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float


@dataclass(frozen=True)
class Similarity:
    """One similarity φ.

    Attributes:
        difference: φ(c) − φ(b) as a function of (c, b, parameter), elementwise and without
            cancellation. JAX traces it, and every engine also calls it with float64 arrays of
            NumPy: use operators, or functions of `c.__array_namespace__()`, which fit both.
        slope: bound of the slope of the mean of φ over some exemplars, if no cosine moves by more
            than `error`; a function of (rise, exemplars, error, parameter), where `rise` is the
            mean of φ(c) − φ(−1) over the exemplars and `exemplars` their number. It only has to
            bound the effect of rounding, so a generous bound costs little.
        screened: whether φ′, φ″ and φ‴ are ≥ 0 on [−1, 1] for any parameter. Screening needs that;
            without it the full engine scores every concept.
    """

    difference: Callable[[Any, Any, Any], Any]
    slope: Callable[[Any, Any, float, Any], Any]
    screened: bool = False


def t_vmf(cosine: Float[ArrayLike, "..."], kappa: ArrayLike) -> Float[Array, "..."]:
    """t-vMF similarity φ(c; κ) = (1 + c) / (1 + κ(1 − c)) − 1 in [−1, 1] (Kobayashi 2021), κ ≥ 0.

    Computed as (c − κ(1 − c)) / (1 + κ(1 − c)): the same number, and c bit for bit at κ = 0. A
    cosine that rounding left just above 1 is returned as it is: the pole of φ is at 1 + 1/κ, within
    rounding for a large κ.
    """
    cosine = jnp.asarray(cosine)
    distance = jnp.asarray(kappa, cosine.dtype) * (1 - cosine).clip(0)
    return (cosine - distance) / (1 + distance)


def t_vmf_difference(cosine: Any, base: Any, kappa: Any) -> Any:
    """φ(c; κ) − φ(b; κ) of the t-vMF similarity (paper, eq. 3), without cancellation, for κ ≥ 0.

    Computed as (c − b)(1 + 2κ) / [(1 + κ(1 − c))(1 + κ(1 − b))]; arrays of NumPy or JAX broadcast.
    Both φ approach −1 as κ grows, so subtracting them in float32 loses everything: at κ = 1e5 and
    c − b = 1e-4 it returns 0. κ = 0 gives c − b bit for bit.
    """
    # Clipped, so that no rounding of a cosine above 1 brings the pole of φ near.
    widths = (1 + kappa * (1 - cosine).clip(0)) * (1 + kappa * (1 - base).clip(0))
    return (cosine - base) * (1 + 2 * kappa) / widths


def _t_vmf_slope(rise: Any, exemplars: Any, error: float, kappa: Any) -> Any:
    """Bound the slope by the mean of ψ = φ + 1 over the exemplars.

    φ′ = (1 + κψ)² / (1 + 2κ). The mean of ψ² is at most n times the square of the mean, and at most
    twice the mean, as ψ ≤ 2. A chord of length e is steeper than φ′ by a factor of 1 + κe at most.
    """
    square = np.minimum(2 * rise, exemplars * rise**2)
    bend = 2 * np.maximum(1, kappa * error)
    return bend * (1 + 2 * kappa * rise + kappa**2 * square) / (1 + 2 * kappa)


T_VMF = Similarity(t_vmf_difference, _t_vmf_slope, screened=True)

SIMILARITIES: dict[str, Similarity] = {
    "t_vmf": T_VMF,
    "cosine": Similarity(lambda cosine, base, _: cosine - base, lambda *_: 1.0, screened=True),
}


def check_kappa(kappa: ArrayLike) -> None:
    """Refuse a parameter that is not a finite number ≥ 0, with a ValueError."""
    if not 0 <= float(np.asarray(kappa, np.float64)) < np.inf:
        raise ValueError(f"kappa is {kappa}, but the concentration must be a finite number >= 0.")
