"""Exact screening: one product per neuron excludes most concepts, and no selected one.

For t-vMF with κ > 0, φ″ > 0 and φ‴ > 0. A neuron's exemplars have the mean m; a concept t has
c̄ = m · t, the mean of its cosines. Let V be at least their variance, and h at least their largest
distance to c̄. Then the mean of φ is

- above φ(c̄), by Jensen's inequality;
- below p φ(c̄ + h) + (1 − p) φ(x₀), with p = V / (V + h²) and x₀ = c̄ − V / h: of all distributions
  with mean c̄, a variance of at most V and a maximum of at most M = c̄ + h these two points have the
  largest mean of a function with φ″, φ‴ ≥ 0. For the quadratic q that touches φ at x₀ and meets it
  at M has φ − q = φ‴(ξ)(x − x₀)²(x − M) / 6 ≤ 0 and a leading coefficient ≥ 0.

It remains to bound V and h. Concepts of one template are in a cone around the direction μ̂ of their
mean: t = a μ̂ + q with q ⟂ μ̂ and |q|² = r² = 1 − a², which is far below 1. For exemplars
v_o = m + x_o, with x_o split along μ̂ and across it, x_o = s_o μ̂ + y_o,

    variance = mean (a s_o + y_o · q)² ≤ a² mean s_o² + 2 |a| r |mean s_o y_o| + r² λ,

where λ is the largest eigenvalue of mean y_o y_oᵀ; and h is the least of 1 − c̄, of
max_o a s_o + r max_o |y_o|, and of √((n − 1) V) (Samuelson's inequality).

Concepts are grouped by a, and a group's V and h are those of its widest member. For one neuron and
one group both bounds rise with c̄ alone. So the largest c̄ gives a lower bound of the neuron's
maximum, hence of its τ, and solving the upper bound for τ gives the least c̄ that a selected concept
of the group can have: a product and a comparison for each pair, for any κ.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float32, Float64, Int, Int32
from scipy.optimize import elementwise

from jaxdesc.runtime.compiler import jit, product
from jaxdesc.scoring.block import Look, seen_above
from jaxdesc.scoring.problem import NORM, Problem, cosine_error, mean_error
from jaxdesc.scoring.selection import least_selected, rounded_down

# No cosine is below this; the search for a root starts from it.
_LOWEST_COSINE = -1.1
_ROOT_STEPS = 6  # a floor that is a little too low costs few pairs

# How many neurons gather their exemplars' features at a time; bounds memory.
_NEURONS_AT_ONCE = 32

_SQUARINGS = 6

# Shares of a sample's concepts below the edges between groups: narrow for a small a, since
# there r is large.
SHARES = tuple(np.array([0, 1, 2, 4, 8, 12, 16, 24, 32, 40, 48, 56, 64]) / 64)


class Screened:
    """Excludes the concepts whose mean cosine is too low for any κ: `floor` is the least.

    `left` is the share of a sample of the concepts that it can't exclude, by count and neuron.
    """

    def __init__(self, problem: Problem):
        """Summarise each neuron's exemplars and look at a sample of the concepts."""
        self.problem = problem
        self.counts, slots = np.array([*problem.exemplars]), list(problem.exemplars.values())
        self.cosine_error = cosine_error(problem.images.shape[1] + max(problem.exemplars))
        self.mean_error = mean_error(max(problem.exemplars))
        self.base, sample = problem.base_rise, problem.sample()
        self.direction = _direction(sample)
        self.edges = np.quantile(sample @ self.direction, SHARES).astype(np.float32)
        found = [spread(problem.images, *each, self.direction) for each in slots]
        self.means, *spreads = map(jnp.stack, zip(*found, strict=True))
        filled = np.stack([each.counts for each in slots])
        self.variance, self.furthest = self._extent(spreads, filled[:, :, None])
        self.floor = np.full((*filled.shape, len(SHARES) + 1), -np.inf, np.float32)
        cosines = np.asarray(self.means) @ sample.T
        self.raise_floor(cosines.max(axis=2))
        groups = (sample @ self.direction)[:, None] >= self.edges
        self.left = (cosines >= self.floor[:, :, groups.sum(axis=1)]).mean(axis=2)

    def _extent(
        self, spreads: list[Array], filled: Int[np.ndarray, "count neuron 1"]
    ) -> list[Float64[np.ndarray, "count neuron group"]]:
        """V and h, except for 1 − c̄, of each neuron and group, with room for rounding."""
        ends = np.array([-1, *self.edges, 1], np.float64)
        low, high = ends[:-1] - self.cosine_error, ends[1:] + self.cosine_error
        a = np.maximum(np.abs(low), np.abs(high))
        nearest = np.where(low * high > 0, np.minimum(np.abs(low), np.abs(high)), 0)
        r = np.sqrt(1 + 3 * NORM - nearest**2)
        along, mixed, across, least, most, radius = (
            np.asarray(spread, np.float64)[..., None] for spread in spreads
        )
        variance = 1.001 * (a**2 * along + 2 * a * r * mixed + r**2 * across) + 1e-7
        along_ends = [end * far for end in (high, low) for far in (most, least)]
        furthest = 1.001 * (np.maximum.reduce(along_ends) + r * radius) + 1e-6
        furthest = np.minimum(furthest, np.sqrt((filled - 1) * variance))
        return [variance, np.maximum(furthest, 1e-6)]

    def look(self, texts: Float32[Array, "block feature"], count: int) -> Look:
        """Mean cosines of the concepts, a bound for each number of exemplars."""
        return screen_block(self.means, self.direction, self.edges, texts, self.floor, count)

    def raise_floor(self, largest: Float32[np.ndarray, "count neuron"]) -> None:
        """Find the least mean cosine with which a concept can be selected; never too high.

        The largest κ mostly decides; then one bound each shows that the others need no less.
        """
        most = largest.astype(np.float64)[:, :, None]
        low = np.maximum(self.floor, _LOWEST_COSINE).astype(np.float64)
        least, high = np.maximum(most, low), np.maximum(most, low)
        for index in np.argsort(-self.problem.kappas).tolist():
            wanted = least_selected(self.lower(most, index), self.problem.alpha)
            kappa = float(self.problem.kappas[index])
            missing: Callable[..., Any] = partial(self.missing, kappa=kappa)
            args = self.variance, self.furthest, self.base[index][:, :, None], wanted
            too_high = ~(missing(least, *args) < 0)
            if not too_high.any():
                continue
            ends = low[too_high], high[too_high]
            *parts, wanted = (np.broadcast_to(part, low.shape)[too_high] for part in args)
            at_high = missing(ends[1], *parts, wanted)
            slack = 1e-4 * np.maximum(at_high, 0)  # so that a root that is found is too low
            sought = (*parts, wanted - slack)
            found = elementwise.find_root(missing, ends, args=sought, maxiter=_ROOT_STEPS)
            # Only what was found to be too low is taken: an end of the bracket, or of the search.
            root = np.where(at_high < 0, ends[1], ends[0])
            for end, value in zip(found.bracket, found.f_bracket, strict=True):
                root = np.where(value < slack, np.maximum(root, end), root)
            least[too_high] = np.minimum(least[too_high], root)
        self.floor = np.maximum(self.floor, rounded_down(least))

    def lower(self, cosine: np.ndarray, index: int) -> np.ndarray:
        """Lower bound of the scores of concepts with these mean cosines, under one κ."""
        base = self.base[index][:, :, None]
        least = self.problem.rise(cosine - self.cosine_error, float(self.problem.kappas[index]))
        return least - base - self.mean_error * (np.abs(least) + base)

    def missing(
        self, cosine: Any, variance: Any, furthest: Any, base: Any, wanted: Any, kappa: float
    ) -> Any:
        """Upper bound of the scores of concepts with these mean cosines, less what is wanted."""
        centre = np.minimum(cosine + self.cosine_error, 1)
        # The same h stands in p, M and x₀.
        h = np.maximum(np.minimum(furthest, 1 - centre), 1e-9)
        high = self.problem.rise(centre + h, kappa)
        low = self.problem.rise(centre - variance / h, kappa)
        most = (variance * high + h**2 * low) / (variance + h**2)
        return most - base + self.mean_error * (np.abs(most) + base) - wanted


def _direction(texts: Float32[np.ndarray, "some feature"]) -> Float32[np.ndarray, "feature"]:
    """μ̂. The bounds hold for any unit vector."""
    mean = texts.mean(axis=0, dtype=np.float64)
    length = np.linalg.norm(mean)
    unit = mean / length if length > 1e-6 else np.eye(1, len(mean))[0]
    return unit.astype(np.float32)


@jax.jit
def spread(
    images: Float32[Array, "image feature"],
    exemplars: Int32[ArrayLike, "neuron exemplar"],
    filled: Int32[ArrayLike, "neuron"],
    direction: Float32[ArrayLike, "feature"],
) -> tuple[Array, ...]:
    """Mean of each neuron's exemplars, and their spread around it along μ̂ and across it.

    m, mean s_o², |mean s_o y_o|, λ, the smallest and the largest s_o, and max_o |y_o|.
    """

    def one(given: tuple[Int32[Array, "exemplar"], Int32[Array, ""]]) -> tuple[Array, ...]:
        rows, count = given
        taken, many = jnp.arange(len(rows)) < count, count.astype(images.dtype)
        mean = images[rows].sum(axis=0) / many  # empty slots hold zero rows
        apart = jnp.where(taken[:, None], images[rows] - mean[None], 0)
        along = product(apart, jnp.asarray(direction))
        across = apart - along[:, None] * jnp.asarray(direction)[None]
        return (
            mean,
            (along**2).sum() / many,
            jnp.linalg.norm(product(along, across) / many),
            # A Gram matrix has the eigenvalues of the covariance, but the size of the exemplars.
            _largest_eigenvalue(product(across, across.T) / many),
            jnp.where(taken, along, jnp.inf).min(),
            jnp.where(taken, along, -jnp.inf).max(),
            jnp.linalg.norm(across, axis=1).max(),
        )

    given = jnp.asarray(exemplars), jnp.asarray(filled)
    return jax.lax.map(one, given, batch_size=_NEURONS_AT_ONCE)


def _largest_eigenvalue(gram: Float32[Array, "exemplar exemplar"]) -> Float32[Array, ""]:
    """Bound it from above, by n^(1/128) at most: the Frobenius norm of a high power, rooted."""
    root = jnp.float32(1)
    for squarings in range(_SQUARINGS):
        norm = jnp.maximum(jnp.linalg.norm(gram), 1e-12)  # copies of one image have 0
        root *= norm ** (0.5**squarings)
        gram = product(gram / norm, gram / norm)
    return root * jnp.linalg.norm(gram) ** (0.5**_SQUARINGS)


@jit
def screen_block(
    means: Float32[Array, "count neuron feature"],
    direction: Float32[ArrayLike, "feature"],
    edges: Float32[ArrayLike, "edge"],
    texts: Float32[Array, "block feature"],
    floor: Float32[ArrayLike, "count neuron group"],
    count: Int[ArrayLike, ""],
) -> Look:
    """Mean cosines of a block's first `count` concepts with each neuron's exemplars."""
    cosines = product(means, texts.T[None])
    along = product(texts, jnp.asarray(direction))
    groups = (along[:, None] >= jnp.asarray(edges)[None]).sum(axis=1, dtype=jnp.int32)
    return seen_above(cosines, floor, groups, count)
