"""The full engine: every distinct exemplar image against every concept.

An image is an exemplar of many neurons, so cosines are taken once for each distinct image: one
[image, block] product, with φ fused behind it. Then each neuron gathers and adds its exemplars'
rows. Of 1,000 neurons with 40 exemplars each, a product with a selecting matrix would average them
faster below about 200 images alone, fewer than images are padded to, and a segmented sum never
(`launch.benchmark --subjects=averaging`).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Float32, Float64, Int, Int32

from jaxdesc.runtime.compiler import jit, product
from jaxdesc.scoring import rounding
from jaxdesc.scoring.candidates import Look, Pairs
from jaxdesc.scoring.problem import Conditions, Problem, base_terms
from jaxdesc.scoring.selection import least_selected, rounded_down
from jaxdesc.similarity import t_vmf_difference

# How many exemplars' rows are added in one pass over the sums.
_ROWS_AT_ONCE = 8


class Full:
    """Excludes only what the rounding of float32 can't select."""

    def __init__(self, problem: Problem, conditions: Conditions):
        """Start with no concept seen."""
        self.problem, self.conditions = problem, conditions
        base = base_terms(problem, conditions)
        kappas = np.broadcast_to(conditions.kappas.astype(np.float64)[:, None], base.shape[:2])
        counts = np.broadcast_to(np.array(conditions.counts)[None], base.shape[:2])
        filled = np.stack([problem.filled[count] for count in conditions.counts])
        self.base = base.reshape(-1, base.shape[2])
        self.kappas, self.counts = kappas.reshape(-1, 1), counts.ravel()
        self.filled = np.broadcast_to(filled[None], base.shape).reshape(self.base.shape)
        self.floor = np.full((*self.base.shape, 1), -np.inf, np.float32)

    def look(self, texts: Float32[Array, "block feature"], count: int) -> Look:
        """Scores of the concepts, a bound for each κ and number of exemplars."""
        problem, conditions = self.problem, self.conditions
        rows = tuple(problem.exemplars[asked] for asked in conditions.counts)
        filled = tuple(problem.filled[asked] for asked in conditions.counts)
        known = problem.images, problem.with_base, rows, filled
        return _look(*known, texts, conditions.kappas, self.floor, count)

    def raise_floor(self, largest: Float32[np.ndarray, "bound neuron"]) -> None:
        """No score below α of the largest can be selected, rounding allowed for."""
        lower = largest - self._margin(largest)
        least = least_selected(lower, self.conditions.alpha)
        self.floor = rounded_down(least - self._margin(least))[:, :, None]

    def closer(self, _: int, pairs: Pairs) -> Bool[np.ndarray, "pair"]:
        """All of them: a score can be looked at closer by the exact program alone."""
        return np.full(len(pairs.neurons), True)

    def _margin(self, scores: Float[np.ndarray, "bound neuron"]) -> Float64[np.ndarray, "..."]:
        """How far such a score, or a smaller one, may lie from the exact program's.

        With ψ = φ + 1 the slope of φ is (1 + κψ)² / (1 + 2κ). Of ψ the mean over exemplars is the
        score and the base term; so the mean of ψ² is at most n times its square, and at most twice
        it, as ψ ≤ 2. Where κ makes ψ bend within the rounding of a cosine, slopes at its two ends
        differ by the factor that stands first.
        """
        width, exemplars = self.problem.images.shape[1], max(self.conditions.counts)
        cosine = rounding.of_cosine(width)
        mean = np.maximum(scores + self.base, 0)
        square = np.minimum(2 * mean, self.filled * mean**2)
        slope = (1 + 2 * self.kappas * mean + self.kappas**2 * square) / (1 + 2 * self.kappas)
        bend = 2 * np.maximum(1, self.kappas * cosine)
        return bend * slope * cosine + rounding.of_mean(exemplars) * (mean + self.base)


@jit
def _look(
    images: Float32[Array, "image feature"],
    with_base: Float32[Array, "image"],
    exemplars: tuple[Int32[Array, "neuron _"], ...],
    filled: tuple[Int32[ArrayLike, "neuron"], ...],
    texts: Float32[ArrayLike, "block feature"],
    kappas: Float32[ArrayLike, "kappa"],
    floor: Float32[ArrayLike, "bound neuron 1"],
    count: Int[ArrayLike, ""],
) -> Look:
    cosines = jnp.minimum(product(images, jnp.transpose(texts)), 1)

    def under(kappa: Float32[Array, ""]) -> Float32[Array, "count neuron block"]:
        rows = t_vmf_difference(cosines, with_base[:, None], kappa)
        each = zip(exemplars, filled, strict=True)
        return jnp.stack([mean_rows(rows, own, counts) for own, counts in each])

    scores = jax.lax.map(under, jnp.asarray(kappas))
    scores = scores.reshape(-1, *scores.shape[2:])
    seen = jnp.arange(scores.shape[2])[None] < count
    reach = jnp.where(seen[None], scores, -jnp.inf)
    return Look(
        reach=reach,
        groups=jnp.zeros(scores.shape[2], jnp.int32),
        within=(reach >= jnp.asarray(floor)).any(axis=0) & seen,
        largest=reach.max(axis=2),
    )


def mean_rows(
    rows: Float32[Array, "image block"],
    exemplars: Int32[Array, "neuron exemplar"],
    filled: Int32[ArrayLike, "neuron"],
) -> Float32[Array, "neuron block"]:
    """Mean of each neuron's rows: a loop over exemplars, so that no gathered copy is written.

    Empty slots hold a row of zeros.
    """

    def add(total: Array, chosen: Array) -> tuple[Array, None]:
        return total + rows.at[chosen].get(mode="promise_in_bounds"), None

    nothing = jnp.zeros((len(exemplars), rows.shape[1]), rows.dtype)
    total, _ = jax.lax.scan(add, nothing, exemplars.T, unroll=_ROWS_AT_ONCE)
    return total / jnp.asarray(filled, rows.dtype)[:, None]
