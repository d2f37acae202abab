"""The full engine: every distinct exemplar image against every concept.

An image is an exemplar of many neurons, so cosines are taken once for each distinct image: one
[image, block] product, with φ fused behind it. Then each neuron sums its exemplars' rows. A product
with a selection matrix would sum them too; it was slower at each size tried, 500 to 8,000 images
with 40 exemplars a neuron.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Float32, Float64, Int32

from jaxdesc.compiler import jit, product
from jaxdesc.scoring import rounding
from jaxdesc.scoring.problem import Problem, base_terms
from jaxdesc.scoring.selection import least_selected, rounded_down
from jaxdesc.similarity import t_vmf_difference

# How many exemplars' rows are added in one pass over the sums.
_ROWS_AT_ONCE = 8


class Full:
    """Excludes only what the rounding of float32 can't select."""

    def __init__(self, problem: Problem, kappas: Float32[np.ndarray, "kappa"], alpha: float):
        """Start with no concept seen."""
        self.problem, self.kappas, self.alpha = problem, kappas, alpha
        self.base = base_terms(problem, kappas)
        self.largest = np.full(self.base.shape, -np.inf, np.float32)
        self.floor = self.largest.copy()

    def reach(
        self, texts: Float32[np.ndarray, "block feature"], count: int
    ) -> Float32[np.ndarray, "kappa neuron some"]:
        """Scores of the concepts."""
        known = self.problem.images, self.problem.with_base, self.problem.exemplars
        scores = np.asarray(_block_scores(*known, texts, self.kappas))[:, :, :count]
        self.largest = np.maximum(self.largest, scores.max(axis=2))
        lower = self.largest - self._margin(self.largest)
        least = least_selected(lower, self.alpha)
        self.floor = rounded_down(least - self._margin(least))
        return scores

    def _margin(self, scores: Float[np.ndarray, "kappa neuron"]) -> Float64[np.ndarray, "..."]:
        """How far such a score, or a smaller one, may lie from the exact program's.

        With ψ = φ + 1 the slope of φ is (1 + κψ)² / (1 + 2κ). Of ψ the mean over exemplars is the
        score and the base term; so the mean of ψ² is at most n times its square, and at most twice
        it, as ψ ≤ 2. Where κ makes ψ bend within the rounding of a cosine, slopes at its two ends
        differ by the factor that stands first.
        """
        (width, exemplars), kappa = _sizes(self.problem), self.kappas.astype(np.float64)[:, None]
        cosine = rounding.of_cosine(width)
        mean = np.maximum(scores + self.base, 0)
        square = np.minimum(2 * mean, exemplars * mean**2)
        slope = (1 + 2 * kappa * mean + kappa**2 * square) / (1 + 2 * kappa)
        bend = 2 * np.maximum(1, kappa * cosine)
        return bend * slope * cosine + rounding.of_mean(exemplars) * (mean + self.base)


def _sizes(problem: Problem) -> tuple[int, int]:
    return problem.images.shape[1], problem.exemplars.shape[1]


@jit
def _block_scores(
    images: Float32[Array, "image feature"],
    with_base: Float32[Array, "image"],
    exemplars: Int32[Array, "neuron exemplar"],
    texts: Float32[ArrayLike, "block feature"],
    kappas: Float32[ArrayLike, "kappa"],
) -> Float32[Array, "kappa neuron block"]:
    cosines = jnp.minimum(product(images, jnp.transpose(texts)), 1)

    def under(kappa: Float32[Array, ""]) -> Float32[Array, "neuron block"]:
        return _means(t_vmf_difference(cosines, with_base[:, None], kappa), exemplars)

    return jax.lax.map(under, jnp.asarray(kappas))


def _means(
    rows: Float32[Array, "image block"], exemplars: Int32[Array, "neuron exemplar"]
) -> Float32[Array, "neuron block"]:
    """Mean of each neuron's rows: a loop over exemplars, so that no gathered copy is written."""

    def add(total: Array, chosen: Array) -> tuple[Array, None]:
        return total + rows.at[chosen].get(mode="promise_in_bounds"), None

    nothing = jnp.zeros((len(exemplars), rows.shape[1]), rows.dtype)
    total, _ = jax.lax.scan(add, nothing, exemplars.T, unroll=_ROWS_AT_ONCE)
    return total / exemplars.shape[1]
