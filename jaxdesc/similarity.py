"""How near an image lies to a concept: the cosine, and the t-vMF similarity that narrows it.

With unit features the cosine falls off slowly around its peak, so that many concepts look almost
equally near. The t-vMF similarity (Kobayashi, "t-vMF Similarity for Regularizing Intra-Class
Feature Distribution", CVPR 2021) falls off like a heavy-tailed von Mises-Fisher density whose
concentration κ sets how sharply: κ = 0 is the cosine itself.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float


def t_vmf(cosine: Float[ArrayLike, "..."], kappa: ArrayLike) -> Float[Array, "..."]:
    """The t-vMF similarity φ(c; κ) = (1 + c) / (1 + κ(1 − c)) − 1 (Kobayashi 2021).

    Computed as (c − κ(1 − c)) / (1 + κ(1 − c)): the same number, and c bit for bit at κ = 0.

    Args:
        cosine: cosines in [−1, 1], of any shape. One that rounding left just above 1 is returned
            as it is: the pole of φ lies at 1 + 1/κ, within rounding for a large κ.
        kappa: concentration κ ≥ 0, a scalar; may be traced.

    Returns:
        Similarities in [−1, 1], shaped like `cosine`.

    Raises:
        ValueError: κ is negative or not finite, where it is a plain number.
    """
    check_kappa(kappa)
    cosine = jnp.asarray(cosine)
    distance = _scaled_distance(cosine, kappa)
    return (cosine - distance) / (1 + distance)


def t_vmf_difference(
    cosine: Float[ArrayLike, "..."], base: Float[ArrayLike, "..."], kappa: ArrayLike
) -> Float[Array, "..."]:
    """φ(u; κ) − φ(w; κ), the bracket of the concept score (paper, eq. 3), without cancellation.

    Computed as (u − w)(1 + 2κ) / [(1 + κ(1 − u))(1 + κ(1 − w))]. Both φ approach −1 as κ grows,
    so subtracting them in float32 loses everything: at κ = 1e5 and u − w = 1e-4 it returns 0.

    Args:
        cosine: u, the cosines with the concept, of any shape.
        base: w, the cosines with the base template, broadcast against `cosine`.
        kappa: concentration κ ≥ 0, a scalar; may be traced. κ = 0 gives u − w bit for bit.

    Returns:
        Differences, of the broadcast shape.

    Raises:
        ValueError: κ is negative or not finite, where it is a plain number.
    """
    check_kappa(kappa)
    cosine, base = jnp.asarray(cosine), jnp.asarray(base)
    kappa = jnp.asarray(kappa, cosine.dtype)
    widths = (1 + _scaled_distance(cosine, kappa)) * (1 + _scaled_distance(base, kappa))
    return (cosine - base) * (1 + 2 * kappa) / widths


def check_kappa(kappa: ArrayLike) -> None:
    """Refuse a concentration that isn't a finite number ≥ 0; a JAX array's value isn't read.

    Raises:
        ValueError: κ is negative, infinite or NaN.
    """
    if isinstance(kappa, jax.Array):
        return
    if not 0 <= float(np.asarray(kappa, np.float64)) < np.inf:
        raise ValueError(f"kappa is {kappa}, but the concentration must be a finite number >= 0.")


def _scaled_distance(cosine: Array, kappa: ArrayLike) -> Array:
    """κ(1 − c), never negative, so that no rounding of c above 1 brings the pole of φ near."""
    return jnp.asarray(kappa, cosine.dtype) * jnp.maximum(1 - cosine, 0)
