"""How far the cosines of a single pair spread, at a fraction of the price of its exemplars'.

Screening bounds the variance of v_o · t over a neuron's exemplars by that in the direction in which
they differ most, which concepts hardly ever take. Concepts, for their part, differ mostly in a few
directions, the columns of B. With x_o = v_o − m, z = Bᵀt and q = t − Bz,

    √variance = √mean (Bᵀx_o · z + x_o · q)² ≤ √mean (Bᵀx_o · z)² + |q| √λ,

where λ is the largest eigenvalue of mean w_o w_oᵀ for w_o = x_o − B Bᵀx_o, as q is orthogonal to B.
That holds for any B with orthonormal columns; it is the tighter, the less of the concepts is left
in q.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float32, Float64, Int32, Integer

from jaxdesc.runtime.ahead import ahead
from jaxdesc.runtime.compiler import contraction, jit, product
from jaxdesc.scoring import rounding
from jaxdesc.scoring.eigenvalue import largest_eigenvalue
from jaxdesc.scoring.problem import PART, Problem
from jaxdesc.scoring.tiles import Tiles, tiles

# Of `_SHARE` features one direction: a quarter of MiniLM's holds four fifths of what its concepts
# differ in, which leaves a quarter of the bound, and a hundredth of the pairs.
_SHARE = 4
_ITERATIONS = 3

# Concepts in a tile, and tiles that are looked at at a time on each device.
_WIDTH = 128
_TILES = 256

# How many neurons gather their exemplars' features at a time; bounds memory.
_NEURONS_AT_ONCE = 32


class Apart(NamedTuple):
    """How each neuron's exemplars lie around their mean.

    Attributes:
        within: Bᵀx_o.
        beyond: √λ.
    """

    within: Float32[Array, "neuron exemplar direction"]
    beyond: Float32[Array, "neuron"]


def directions(texts: Float32[np.ndarray, "some feature"]) -> Float32[np.ndarray, "feature _"]:
    """B, from a sample of the concepts, by subspace iteration: close to the best is enough."""
    moment = np.asarray(_moment(texts), np.float64)
    width = len(moment)
    found = np.eye(width, -(-width // _SHARE))
    for _ in range(_ITERATIONS):
        found = moment @ found
    return _orthonormal(found).astype(np.float32)


def _orthonormal(columns: Float64[np.ndarray, "feature some"]) -> Float64[np.ndarray, "feature _"]:
    """By Gram-Schmidt, twice over; zero where a column is a sum of those before it.

    Products alone: LAPACK's QR of 512 × 128 took 1.7 s where it was measured, this a hundredth.
    """
    rows = (columns / np.maximum(np.linalg.norm(columns, axis=0), 1e-300)).T
    for place, row in enumerate(rows):
        before = rows[:place]
        for _ in range(2):
            row = row - (before @ row) @ before
            length = np.linalg.norm(row)
            row = row / length if length > 1e-8 else np.zeros_like(row)
        rows[place] = row
    return rows.T


class Closer:
    """Looks at pairs one by one."""

    def __init__(self, problem: Problem, sample: Float32[np.ndarray, "some feature"]):
        """Choose B by a sample of the concepts."""
        self.problem, self.basis = problem, directions(sample)
        self.images = _within(problem.images, self.basis)
        self.first, self.size = -1, min(PART, len(problem))

    def variances(
        self,
        count: int,
        grams: Float32[Array, "neuron exemplar exemplar"],
        neurons: Int32[np.ndarray, "pair"],
        concepts: Int32[np.ndarray, "pair"],
    ) -> Float32[np.ndarray, "pair"]:
        """At least the variance of each pair's cosines over the neuron's exemplars.

        Args:
            count: number of exemplars asked for.
            grams: their x_o · x_p.
            neurons: of each pair.
            concepts: of each pair.

        Returns:
            The bounds.
        """
        filled = jnp.asarray(self.problem.filled[count])
        apart = _apart(self.images, self.problem.exemplars[count], filled, grams)
        found = np.empty(len(neurons), np.float32)
        for first in range(0, len(self.problem), self.size):
            own = np.flatnonzero((concepts >= first) & (concepts < first + self.size))
            own = own[np.argsort(_short(neurons[own]), kind="stable")]
            self._read(first)
            pairs = neurons[own], concepts[own] - first
            for some, values in self._deviations(apart, *pairs, filled):
                found[own[some.pairs]] = np.asarray(values).ravel().take(some.cells)
        error = rounding.of_cosine(self.problem.images.shape[1] + count)
        return np.square(found + np.float32(error))

    def _read(self, first: int) -> None:
        """Z and |q| of a part of the concepts, unless they are there from the last time."""
        if self.first != first:
            self.texts = _split(self.problem.part(first, self.size), self.basis)
            self.first = first

    def _deviations(
        self,
        apart: Apart,
        neurons: Int32[np.ndarray, "pair"],
        concepts: Int32[np.ndarray, "pair"],
        filled: Int32[Array, "neuron"],
    ) -> Iterator[tuple[Tiles, Float32[Array, "tile concept"]]]:
        devices = self.problem.devices
        return ahead(
            (
                some,
                _deviations(
                    apart,
                    *self.texts,
                    devices.split(some.neurons),
                    devices.split(some.concepts),
                    filled,
                ),
            )
            for some in tiles(neurons, concepts, _WIDTH, _TILES * devices.count)
        )


def _short(neurons: Int32[np.ndarray, "pair"]) -> Integer[np.ndarray, "pair"]:
    """The same in 16 bits where they fit, which NumPy sorts several times faster."""
    return neurons.astype(np.uint16) if neurons.max(initial=0) < 1 << 16 else neurons


_moment = jit(lambda rows: product(jnp.transpose(rows), rows))
_within = jit(lambda rows, basis: product(rows, jnp.asarray(basis)))


@jax.jit
def _apart(
    within: Float32[Array, "image direction"],
    exemplars: Int32[Array, "neuron exemplar"],
    filled: Int32[Array, "neuron"],
    grams: Float32[Array, "neuron exemplar exemplar"],
) -> Apart:
    def one(given: tuple[Array, Array, Array]) -> Apart:
        rows, count, gram = given
        taken, many = (jnp.arange(len(rows)) < count)[:, None], count.astype(within.dtype)
        mean = within[rows].sum(axis=0) / many  # empty slots hold zero rows
        own = jnp.where(taken, within[rows] - mean[None], 0)
        # Of w_o; the difference of two products of unit features, so with room for their rounding.
        eigenvalue = largest_eigenvalue((gram - product(own, own.T)) / many)
        return Apart(own, jnp.sqrt(1.001 * eigenvalue + 1e-6))

    return jax.lax.map(one, (exemplars, filled, grams), batch_size=_NEURONS_AT_ONCE)


@jit
def _split(
    texts: Float32[Array, "concept feature"], basis: Float32[ArrayLike, "feature direction"]
) -> tuple[Float32[Array, "concept direction"], Float32[Array, "concept"]]:
    """Z and at least |q|: what a unit feature has beyond z, with room for rounding."""
    within = product(texts, jnp.asarray(basis))
    rest = 1 + 3 * rounding.NORM - (within**2).sum(axis=1)
    return within, jnp.sqrt(jnp.maximum(rest, 0) + 1e-5)


@jax.jit
def _deviations(
    apart: Apart,
    within: Float32[Array, "part direction"],
    beyond: Float32[Array, "part"],
    neurons: Int32[Array, "tile"],
    concepts: Int32[Array, "tile concept"],
    filled: Int32[Array, "neuron"],
) -> Float32[Array, "tile concept"]:
    """At least the standard deviation of each cell's cosines."""
    chosen = within.at[concepts].get(mode="promise_in_bounds")
    own = apart.within.at[neurons].get(mode="promise_in_bounds")
    square = (contraction("tck,tok->tco", chosen, own) ** 2).sum(axis=2)
    rest = beyond[concepts] * apart.beyond[neurons][:, None]
    return jnp.sqrt(square / filled[neurons].astype(square.dtype)[:, None]) + rest
