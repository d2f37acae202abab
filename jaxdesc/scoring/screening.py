"""Exact screening: one product a neuron excludes most concepts, and no selected one.

For κ > 0, φ(c) = t_vmf(c; κ) has φ″ > 0 and φ‴ > 0. A neuron's exemplars have the mean m; λ is the
largest eigenvalue of their covariance, ρ the largest distance to m. A concept t has c̄ = m · t, the
mean of its cosines, whose variance is at most λ and whose maximum at most M = c̄ + h with
h = min(ρ, 1 − c̄). So the mean of φ lies

- above φ(c̄), by Jensen's inequality;
- below p φ(M) + (1 − p) φ(x₀), with p = λ / (λ + h²) and x₀ = c̄ − λ / h: of all distributions with
  that mean, variance and maximum these two points have the largest mean of a function with
  φ″, φ‴ ≥ 0. For the quadratic q that touches φ at x₀ and meets it at M has
  φ − q = φ‴(ξ)(x − x₀)²(x − M) / 6 ≤ 0 and a leading coefficient ≥ 0.

Both rise with c̄, and all else in them is the neuron's own. So the largest c̄ gives a lower bound of
the neuron's maximum, hence of its τ, and solving the upper bound for τ gives the least c̄ that a
selected concept can have: a product and a comparison for each pair, whatever κ is.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float32, Float64, Int, Int32

from jaxdesc.compiler import jit, product
from jaxdesc.scoring import rounding
from jaxdesc.scoring.problem import Problem, base_terms, psi
from jaxdesc.scoring.selection import least_selected, rounded_down

# How many neurons gather their exemplars' features at a time; bounds memory.
_NEURONS_AT_ONCE = 32

# No cosine lies below; what bisection starts from.
_LEAST = -1.1


class Screened:
    """Excludes the concepts whose mean cosine is too low for any of the κ."""

    def __init__(self, problem: Problem, kappas: Float32[np.ndarray, "kappa"], alpha: float):
        """Summarise each neuron's exemplars."""
        mean, variance, radius = _spread(problem.images, problem.exemplars)
        self.mean, self.alpha = mean, alpha
        self.kappas = np.asarray(kappas, np.float64)[:, None]
        # Room for the rounding of the summary itself.
        self.variance = 1.001 * np.asarray(variance, np.float64) + 1e-7
        self.radius = 1.001 * np.asarray(radius, np.float64) + 1e-6
        count, exemplars = problem.exemplars.shape
        self.cosine_error = rounding.of_cosine(problem.images.shape[1] + exemplars)
        self.mean_error = rounding.of_mean(exemplars)
        self.base = base_terms(problem, kappas)
        self.largest = np.full(count, _LEAST, np.float32)
        self.floor = np.full((1, count), -np.inf, np.float32)

    def reach(
        self, texts: Float32[np.ndarray, "block feature"], count: int
    ) -> Float32[np.ndarray, "one neuron some"]:
        """Mean cosines of the concepts."""
        cosines = np.asarray(_mean_cosines(self.mean, texts))[:, :count]
        largest = cosines.max(axis=1)
        risen = np.flatnonzero(largest > self.largest)
        self.largest[risen] = largest[risen]
        if risen.size:
            self.floor[0, risen] = np.maximum(self.floor[0, risen], self._least_cosine(risen))
        return cosines[None]

    def _least_cosine(self, neurons: Int[np.ndarray, "some"]) -> Float32[np.ndarray, "some"]:
        """The least mean cosine that lets a concept be selected, by bisection; never too high."""
        low = self.lower(self.largest[neurons].astype(np.float64), neurons)
        wanted = least_selected(low, self.alpha)
        below = np.full(low.shape, _LEAST)
        above = np.broadcast_to(self.largest[neurons], low.shape).astype(np.float64)
        for _ in range(40):
            middle = (below + above) / 2
            enough = self.upper(middle, neurons) >= wanted
            below, above = np.where(enough, below, middle), np.where(enough, middle, above)
        return rounded_down(below.min(axis=0))

    def lower(
        self, cosine: Float64[np.ndarray, "..."], neurons: Int[np.ndarray, "some"]
    ) -> Float64[np.ndarray, "kappa some"]:
        """Of the scores of concepts with these mean cosines, for some neurons."""
        least = psi(cosine - self.cosine_error, self.kappas)
        return (
            least
            - self.base[:, neurons]
            - self.mean_error * (np.abs(least) + self.base[:, neurons])
        )

    def upper(
        self, cosine: Float64[np.ndarray, "..."], neurons: Int[np.ndarray, "some"]
    ) -> Float64[np.ndarray, "kappa some"]:
        """Of the scores of concepts with these mean cosines, for some neurons."""
        centre = np.minimum(cosine + self.cosine_error, 1)
        # The same h stands in p, M and x₀.
        h = np.maximum(np.minimum(self.radius[neurons], 1 - centre), 1e-9)
        variance = self.variance[neurons]
        high = psi(centre + h, self.kappas)
        low = psi(centre - variance / h, self.kappas)
        most = (variance * high + h**2 * low) / (variance + h**2)
        return (
            most - self.base[:, neurons] + self.mean_error * (np.abs(most) + self.base[:, neurons])
        )


@jax.jit
def _spread(
    images: Float32[Array, "image feature"], exemplars: Int32[Array, "neuron exemplar"]
) -> tuple[Float32[Array, "neuron feature"], Float32[Array, "neuron"], Float32[Array, "neuron"]]:
    """Mean of each neuron's exemplars, largest eigenvalue of their covariance, largest distance."""

    def one(rows: Int32[Array, "exemplar"]) -> tuple[Array, Array, Array]:
        mean = images[rows].mean(axis=0)
        apart = images[rows] - mean[None]
        # As many eigenvalues as exemplars, not as features: those of the covariance, and zeros.
        variance = jnp.linalg.eigvalsh(product(apart, apart.T) / len(rows))[-1]
        return mean, jnp.maximum(variance, 0), jnp.linalg.norm(apart, axis=1).max()

    return jax.lax.map(one, exemplars, batch_size=_NEURONS_AT_ONCE)


@jit
def _mean_cosines(
    mean: Float32[Array, "neuron feature"], texts: Float32[ArrayLike, "block feature"]
) -> Float32[Array, "neuron block"]:
    return product(mean, jnp.transpose(texts))
