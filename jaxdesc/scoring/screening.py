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

from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float32, Float64, Int, Int32

from jaxdesc.runtime.compiler import jit, product
from jaxdesc.scoring import rounding
from jaxdesc.scoring.candidates import Look, Pairs
from jaxdesc.scoring.closer import Closer
from jaxdesc.scoring.cost import closer_pays
from jaxdesc.scoring.eigenvalue import largest_eigenvalue
from jaxdesc.scoring.problem import Conditions, Problem, base_terms, psi, sizes
from jaxdesc.scoring.selection import least_selected, rounded_down

# How many neurons gather their exemplars' features at a time; bounds memory.
_NEURONS_AT_ONCE = 32

# No cosine lies below; what bisection starts from.
_LEAST = -1.1
_STEPS = 6  # leave 1e-4 of a rise; a floor that is too low by that costs few pairs

# Levels of a pair's variance, as shares of its neuron's widest group's.
_LEVELS = 0.85 ** np.arange(24)

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
        gram: x_o · x_p.
    """

    mean: Float32[Array, "*count neuron feature"]
    along: Float32[Array, "*count neuron"]
    mixed: Float32[Array, "*count neuron"]
    across: Float32[Array, "*count neuron"]
    least: Float32[Array, "*count neuron"]
    most: Float32[Array, "*count neuron"]
    radius: Float32[Array, "*count neuron"]
    gram: Float32[Array, "*count neuron exemplar exemplar"]


class Extent(NamedTuple):
    """How far the cosines of one neuron's exemplars and one group's concepts spread at most.

    Attributes:
        variance: V.
        furthest: h, but for 1 − c̄.
    """

    variance: Float64[np.ndarray, "count neuron group"]
    furthest: Float64[np.ndarray, "count neuron group"]


class Screened:
    """Excludes the concepts whose mean cosine is too low for any κ."""

    def __init__(self, problem: Problem, conditions: Conditions, block: int):
        """Summarise each neuron's exemplars."""
        self.problem, self.conditions = problem, conditions
        self.counts = np.array(conditions.counts)
        self.filled = np.stack([problem.filled[count] for count in conditions.counts])
        neurons, exemplars = problem.neurons, max(conditions.counts)
        width = problem.images.shape[1]
        self.cosine_error = rounding.of_cosine(width + exemplars)
        self.mean_error = rounding.of_mean(exemplars)
        self.sample = np.concatenate([texts for _, texts in problem.sample(block, _SAMPLE)])
        self.direction = _direction(self.sample)
        self.edges = np.quantile(self.sample @ self.direction, _SHARES).astype(np.float32)
        parts = [
            _spread(problem.images, problem.exemplars[count], problem.filled[count], self.direction)
            for count in conditions.counts
        ]
        self.means = jnp.stack([part.mean for part in parts])
        self.extent = self._of_groups(parts)
        self.grams = [part.gram for part in parts]
        self.base = base_terms(problem, conditions)
        self.floor = np.full((len(parts), neurons, len(_SHARES) + 1), -np.inf, np.float32)

    def _of_groups(self, parts: list[Spread]) -> Extent:
        """Of each group, with room for the rounding of the summary."""
        ends = np.array([-1, *self.edges, 1], np.float64)
        low, high = ends[:-1] - self.cosine_error, ends[1:] + self.cosine_error
        a = np.maximum(np.abs(low), np.abs(high))
        nearest = np.where(low * high > 0, np.minimum(np.abs(low), np.abs(high)), 0)
        r = np.sqrt(1 + 3 * rounding.NORM - nearest**2)
        _, along, mixed, across, least, most, radius = (
            np.stack([np.asarray(part[i], np.float64) for part in parts])[..., None]
            for i in range(len(Spread._fields) - 1)
        )
        variance = a**2 * along + 2 * a * r * mixed + r**2 * across
        furthest = np.maximum(high * most, high * least)
        furthest = np.maximum(furthest, np.maximum(low * most, low * least)) + r * radius
        return self._extent(variance, furthest, self.filled)

    def _extent(
        self,
        variance: Float64[np.ndarray, "count neuron group"],
        furthest: Float64[np.ndarray, "count neuron _"],
        filled: Int32[np.ndarray, "count neuron"],
    ) -> Extent:
        """With room for rounding, and by Samuelson's inequality."""
        variance = 1.001 * variance + 1e-7
        others = filled[:, :, None] - 1
        furthest = np.minimum(1.001 * furthest + 1e-6, np.sqrt(others * variance))
        return Extent(variance, np.maximum(furthest, 1e-6))

    def look(self, texts: Float32[Array, "block feature"], count: int) -> Look:
        """Mean cosines of the concepts, a bound for each number of exemplars."""
        return _look(self.means, self.direction, self.edges, texts, self.floor, count)

    def raise_floor(self, largest: Float32[np.ndarray, "count neuron"]) -> None:
        """The least mean cosine that lets a concept be selected, never too high."""
        self.most = largest.astype(np.float64)
        self.wanted = least_selected(self.lower(self.most), self.conditions.alpha)
        below = np.maximum(self.floor, _LEAST).astype(np.float64)
        self.floor = np.maximum(self.floor, self._least(self.extent, below))

    def closer(self, count: int, pairs: Pairs) -> Bool[np.ndarray, "pair"]:
        """All of them, where they are so few that each may as well be scored."""
        if not closer_pays(sizes(self.problem, self.conditions), count, len(pairs.neurons)):
            return np.full(len(pairs.neurons), True)
        return self.one_by_one(count, pairs)

    def one_by_one(self, count: int, pairs: Pairs) -> Bool[np.ndarray, "pair"]:
        """By each pair's own variance, rounded up to one of a few levels of its neuron."""
        (place,) = np.flatnonzero(self.counts == count)
        own, grams = slice(place, place + 1), self.grams[place]
        variance = self.single.variances(count, grams, pairs.neurons, pairs.concepts)
        widest = Extent(*(part[own].max(axis=2, keepdims=True) for part in self.extent))
        extent = self._extent(widest.variance * _LEVELS, widest.furthest, self.filled[own])
        below = np.repeat(self.floor[own].min(axis=2, keepdims=True), len(_LEVELS), axis=2)
        least = self._least(extent, below.astype(np.float64), own)[0]
        share = variance / widest.variance[0, pairs.neurons, 0]
        level = np.minimum(np.searchsorted(-_LEVELS, -share, "right") - 1, len(_LEVELS) - 1)
        return pairs.reach[place] >= least[pairs.neurons, np.maximum(level, 0)]

    @cached_property
    def single(self) -> Closer:
        """What looks at single pairs."""
        return Closer(self.problem, self.sample)

    def _least(
        self,
        extent: Extent,
        below: Float64[np.ndarray, "count neuron group"],
        own: slice = slice(None),
    ) -> Float32[np.ndarray, "count neuron group"]:
        """The least c̄ whose upper bound is wanted under any κ; it, or a bit less.

        That is mostly the largest κ's; then one bound each shows that the others need no less.
        """
        least = np.maximum(self.most[own, :, None], below)
        for place in np.argsort(-self.conditions.kappas):
            kappa = slice(place, place + 1)
            wanted = self.wanted[kappa, own, :, None]
            if not (self.upper(least[None], extent, own, kappa) < wanted).all():
                least = np.minimum(least, self._root(wanted, extent, below, own, kappa))
        return rounded_down(least)

    def _root(
        self,
        wanted: Float64[np.ndarray, "1 count neuron 1"],
        extent: Extent,
        below: Float64[np.ndarray, "count neuron group"],
        own: slice,
        kappa: slice,
    ) -> Float64[np.ndarray, "count neuron group"]:
        """The c̄ whose upper bound is wanted under one κ; it, or a bit less.

        The bound is almost convex, so that a chord's root, from below, comes close in a few steps;
        where one end stays, its value is halved (the Illinois method). Only what was found to lie
        too low is returned.
        """
        low, high = below, np.maximum(self.most[own, :, None], below)
        at_low, at_high = (
            self.upper(c[None], extent, own, kappa)[0] - wanted[0] for c in (low, high)
        )
        for _ in range(_STEPS):
            share = at_low / np.minimum(at_low - at_high, -1e-30)
            middle = low + np.clip(share, 0.01, 0.99) * (high - low)
            value = self.upper(middle[None], extent, own, kappa)[0] - wanted[0]
            short = value < 0
            low, high = np.where(short, middle, low), np.where(short, high, middle)
            at_low = np.where(short, value, at_low / 2)
            at_high = np.where(short, at_high / 2, value)
        return low

    def lower(
        self, cosine: Float64[np.ndarray, "count neuron"]
    ) -> Float64[np.ndarray, "kappa count neuron"]:
        """Of the scores of concepts with these mean cosines."""
        kappas = self.conditions.kappas.astype(np.float64)[:, None, None]
        least = psi(cosine - self.cosine_error, kappas)
        return least - self.base - self.mean_error * (np.abs(least) + self.base)

    def upper(
        self,
        cosine: Float64[np.ndarray, "kappa count neuron group"],
        extent: Extent,
        own: slice = slice(None),
        kappa: slice = slice(None),
    ) -> Float64[np.ndarray, "kappa count neuron group"]:
        """Of the scores of concepts with these mean cosines, for some κ and exemplars."""
        kappas = self.conditions.kappas[kappa].astype(np.float64)[:, None, None, None]
        base = self.base[kappa, own, :, None]
        centre = np.minimum(cosine + self.cosine_error, 1)
        # The same h stands in p, M and x₀.
        h = np.maximum(np.minimum(extent.furthest, 1 - centre), 1e-9)
        high = psi(centre + h, kappas)
        low = psi(centre - extent.variance / h, kappas)
        most = (extent.variance * high + h**2 * low) / (extent.variance + h**2)
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
    filled: Int32[ArrayLike, "neuron"],
    direction: Float32[ArrayLike, "feature"],
) -> Spread:
    direction = jnp.asarray(direction)

    def one(given: tuple[Int32[Array, "exemplar"], Int32[Array, ""]]) -> Spread:
        rows, count = given
        taken, many = jnp.arange(len(rows)) < count, count.astype(images.dtype)
        mean = images[rows].sum(axis=0) / many  # empty slots hold zero rows
        apart = jnp.where(taken[:, None], images[rows] - mean[None], 0)
        along = product(apart, direction)
        across = apart - along[:, None] * direction[None]
        gram = product(across, across.T)
        return Spread(
            mean=mean,
            along=(along**2).sum() / many,
            mixed=jnp.linalg.norm(product(along, across) / many),
            across=largest_eigenvalue(gram / many),
            least=jnp.where(taken, along, jnp.inf).min(),
            most=jnp.where(taken, along, -jnp.inf).max(),
            radius=jnp.linalg.norm(across, axis=1).max(),
            gram=gram + along[:, None] * along[None],
        )

    given = exemplars, jnp.asarray(filled)
    return jax.lax.map(one, given, batch_size=_NEURONS_AT_ONCE)


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
