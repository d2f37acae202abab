"""Exact screening: one product a neuron excludes most concepts, and no selected one.

For κ > 0, φ(c) = t_vmf(c; κ) has φ″ > 0 and φ‴ > 0. A neuron's exemplars have the mean m; a concept
t has c̄ = m · t, the mean of its cosines. Let V be at least their variance, and h at least their
largest distance to c̄. Then the mean of φ lies

- above φ(c̄), by Jensen's inequality;
- below p φ(c̄ + h) + (1 − p) φ(x₀), with p = V / (V + h²) and x₀ = c̄ − V / h: of all distributions
  with mean c̄, a variance of at most V and a maximum of at most M = c̄ + h these two points have the
  largest mean of a function with φ″, φ‴ ≥ 0. For the quadratic q that touches φ at x₀ and meets it
  at M has φ − q = φ‴(ξ)(x − x₀)²(x − M) / 6 ≤ 0 and a leading coefficient ≥ 0.

What remains is to know V and h. Concepts of one template lie in a cone, around the direction μ̂ of
their mean: t = a μ̂ + q with q ⟂ μ̂ and |q|² = r² = 1 − a², which is far below 1. For exemplars
v_o = m + x_o, with x_o split along μ̂ and across it, x_o = s_o μ̂ + y_o,

    variance = mean (a s_o + y_o · q)² ≤ a² mean s_o² + 2 |a| r |mean s_o y_o| + r² λ,

where λ is the largest eigenvalue of mean y_o y_oᵀ; and h is the least of 1 − c̄, of
max_o a s_o + r max_o |y_o|, and of √((n − 1) V) (Samuelson's inequality).

Concepts are grouped by a, and a group's V and h are those of its widest member. For one neuron and
one group both bounds rise with c̄ alone. So the largest c̄ gives a lower bound of the neuron's
maximum, hence of its τ, and solving the upper bound for τ gives the least c̄ that a selected concept
of the group can have: a product and a comparison for each pair, whatever κ is.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float32, Float64, Int, Int32

from jaxdesc.compiler import jit, product
from jaxdesc.scoring import rounding
from jaxdesc.scoring.candidates import Look
from jaxdesc.scoring.problem import Conditions, Problem, base_terms, psi
from jaxdesc.scoring.selection import least_selected, rounded_down

# How many neurons gather their exemplars' features at a time; bounds memory.
_NEURONS_AT_ONCE = 32

# No cosine lies below; what bisection starts from.
_LEAST = -1.1
_SQUARINGS = 6
_HALVINGS = 14  # leaves 1e-4 of it; a floor that is too low by that costs few pairs

# Shares of a sample's concepts that lie below the edges between groups: narrow where a is small,
# since there r is large.
_SHARES = tuple(np.array([0, 1, 2, 4, 8, 12, 16, 24, 32, 40, 48, 56, 64]) / 64)
_SAMPLE = 8  # blocks


class Spread(NamedTuple):
    """How each neuron's exemplars lie around their mean, along μ̂ and across it.

    Attributes:
        mean: m.
        along: mean s_o².
        mixed: |mean s_o y_o|.
        across: λ.
        least, most: of s_o.
        radius: max_o |y_o|.
    """

    mean: Float32[Array, "*count neuron feature"]
    along: Float32[Array, "*count neuron"]
    mixed: Float32[Array, "*count neuron"]
    across: Float32[Array, "*count neuron"]
    least: Float32[Array, "*count neuron"]
    most: Float32[Array, "*count neuron"]
    radius: Float32[Array, "*count neuron"]


class Screened:
    """Excludes the concepts whose mean cosine is too low for any κ."""

    def __init__(self, problem: Problem, conditions: Conditions, block: int):
        """Summarise each neuron's exemplars."""
        self.conditions, self.counts = conditions, np.array(conditions.counts)
        (neurons, exemplars), width = problem.exemplars.shape, problem.images.shape[1]
        self.cosine_error = rounding.of_cosine(width + exemplars)
        self.mean_error = rounding.of_mean(exemplars)
        sample = np.concatenate([texts for _, texts in problem.sample(block, _SAMPLE)])
        self.direction = _direction(sample)
        self.edges = np.quantile(sample @ self.direction, _SHARES).astype(np.float32)
        parts = [
            _spread(problem.images, problem.exemplars[:, :count], self.direction)
            for count in conditions.counts
        ]
        self.means = jnp.stack([part.mean for part in parts])
        self.variance, self.furthest = self._of_groups(parts)
        self.base = base_terms(problem, conditions)
        self.floor = np.full((len(parts), neurons, len(_SHARES) + 1), -np.inf, np.float32)

    def _of_groups(
        self, parts: list[Spread]
    ) -> tuple[
        Float64[np.ndarray, "count neuron group"], Float64[np.ndarray, "count neuron group"]
    ]:
        """V and h, but for 1 − c̄, of each group; with room for the rounding of the summary."""
        ends = np.array([-1, *self.edges, 1], np.float64)
        low, high = ends[:-1] - self.cosine_error, ends[1:] + self.cosine_error
        a = np.maximum(np.abs(low), np.abs(high))
        nearest = np.where(low * high > 0, np.minimum(np.abs(low), np.abs(high)), 0)
        r = np.sqrt(1 + 3 * rounding.NORM - nearest**2)
        _, along, mixed, across, least, most, radius = (
            np.stack([np.asarray(part[i], np.float64) for part in parts])[..., None]
            for i in range(len(Spread._fields))
        )
        variance = a**2 * along + 2 * a * r * mixed + r**2 * across
        variance = 1.001 * variance + 1e-7
        furthest = np.maximum(high * most, high * least)
        furthest = np.maximum(furthest, np.maximum(low * most, low * least)) + r * radius
        others = self.counts[:, None, None] - 1
        furthest = np.minimum(1.001 * furthest + 1e-6, np.sqrt(others * variance))
        return variance, np.maximum(furthest, 1e-6)

    def look(self, texts: Float32[Array, "block feature"], count: int) -> Look:
        """Mean cosines of the concepts, a bound for each number of exemplars."""
        return _look(self.means, self.direction, self.edges, texts, self.floor, count)

    def raise_floor(self, largest: Float32[np.ndarray, "count neuron"]) -> None:
        """The least mean cosine that lets a concept be selected, by bisection; never too high."""
        most = largest.astype(np.float64)
        wanted = least_selected(self.lower(most), self.conditions.alpha)[..., None]
        shape = (len(self.conditions.kappas), *self.floor.shape)
        below = np.broadcast_to(np.maximum(self.floor, _LEAST), shape).astype(np.float64)
        above = np.broadcast_to(np.maximum(most[..., None], below), shape)
        for _ in range(_HALVINGS):
            middle = (below + above) / 2
            short = self.upper(middle) < wanted
            below, above = np.where(short, middle, below), np.where(short, above, middle)
        self.floor = np.maximum(self.floor, rounded_down(below.min(axis=0)))

    def lower(
        self, cosine: Float64[np.ndarray, "count neuron"]
    ) -> Float64[np.ndarray, "kappa count neuron"]:
        """Of the scores of concepts with these mean cosines."""
        kappas = self.conditions.kappas.astype(np.float64)[:, None, None]
        least = psi(cosine - self.cosine_error, kappas)
        return least - self.base - self.mean_error * (np.abs(least) + self.base)

    def upper(
        self, cosine: Float64[np.ndarray, "kappa count neuron group"]
    ) -> Float64[np.ndarray, "kappa count neuron group"]:
        """Of the scores of each group's concepts with these mean cosines."""
        kappas = self.conditions.kappas.astype(np.float64)[:, None, None, None]
        base = self.base[..., None]
        centre = np.minimum(cosine + self.cosine_error, 1)
        # The same h stands in p, M and x₀.
        h = np.maximum(np.minimum(self.furthest, 1 - centre), 1e-9)
        high = psi(centre + h, kappas)
        low = psi(centre - self.variance / h, kappas)
        most = (self.variance * high + h**2 * low) / (self.variance + h**2)
        return most - base + self.mean_error * (np.abs(most) + base)


def _direction(texts: Float32[np.ndarray, "some feature"]) -> Float32[np.ndarray, "feature"]:
    """μ̂. The bounds hold for any unit vector."""
    mean = texts.mean(axis=0, dtype=np.float64)
    length = np.linalg.norm(mean)
    unit = mean / length if length > 1e-6 else np.eye(1, len(mean))[0]
    return unit.astype(np.float32)


@jax.jit
def _spread(
    images: Float32[Array, "image feature"],
    exemplars: Int32[Array, "neuron exemplar"],
    direction: Float32[ArrayLike, "feature"],
) -> Spread:
    direction = jnp.asarray(direction)

    def one(rows: Int32[Array, "exemplar"]) -> Spread:
        mean = images[rows].mean(axis=0)
        apart = images[rows] - mean[None]
        along = product(apart, direction)
        across = apart - along[:, None] * direction[None]
        return Spread(
            mean=mean,
            along=(along**2).mean(),
            mixed=jnp.linalg.norm(product(along, across) / len(rows)),
            across=_largest_eigenvalue(product(across, across.T) / len(rows)),
            least=along.min(),
            most=along.max(),
            radius=jnp.linalg.norm(across, axis=1).max(),
        )

    return jax.lax.map(one, exemplars, batch_size=_NEURONS_AT_ONCE)


def _largest_eigenvalue(gram: Float32[Array, "exemplar exemplar"]) -> Float32[Array, ""]:
    """At least it, and at most n^(1/128) times it: the Frobenius norm of a high power, rooted.

    A Gram matrix has the eigenvalues of the covariance, but as many as exemplars, not as features.
    """
    root = jnp.float32(1)
    for squarings in range(_SQUARINGS):
        norm = jnp.maximum(jnp.linalg.norm(gram), 1e-12)  # of copies of one image it is 0
        root *= norm ** (0.5**squarings)
        gram = product(gram / norm, gram / norm)
    return root * jnp.linalg.norm(gram) ** (0.5**_SQUARINGS)


@jit
def _look(
    means: Float32[Array, "count neuron feature"],
    direction: Float32[ArrayLike, "feature"],
    edges: Float32[ArrayLike, "edge"],
    texts: Float32[ArrayLike, "block feature"],
    floor: Float32[ArrayLike, "count neuron group"],
    count: Int[ArrayLike, ""],
) -> Look:
    texts, edges = jnp.asarray(texts), jnp.asarray(edges)
    cosines = product(means, texts.T[None])
    along = product(texts, jnp.asarray(direction))
    groups = (along[:, None] >= edges[None]).sum(axis=1, dtype=jnp.int32)
    seen = jnp.arange(len(texts)) < count
    reach = jnp.where(seen[None, None], cosines, -jnp.inf)
    within = (reach >= jnp.asarray(floor)[:, :, groups]).any(axis=0) & seen[None]
    return Look(reach, groups, within, reach.max(axis=2))
