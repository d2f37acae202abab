"""A bound of the largest eigenvalue, without an eigensolver on the device."""

import jax.numpy as jnp
from jaxtyping import Array, Float32

from jaxdesc.runtime.compiler import product

_SQUARINGS = 6


def largest_eigenvalue(gram: Float32[Array, "exemplar exemplar"]) -> Float32[Array, ""]:
    """At least it, and at most n^(1/128) times it: the Frobenius norm of a high power, rooted.

    A Gram matrix has the eigenvalues of the covariance, but as many as exemplars, not as features.
    """
    root = jnp.float32(1)
    for squarings in range(_SQUARINGS):
        norm = jnp.maximum(jnp.linalg.norm(gram), 1e-12)  # of copies of one image it is 0
        root *= norm ** (0.5**squarings)
        gram = product(gram / norm, gram / norm)
    return root * jnp.linalg.norm(gram) ** (0.5**_SQUARINGS)
