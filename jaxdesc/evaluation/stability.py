"""How surely a neuron has its concepts: would other exemplars of its own have given them too?

A neuron's m exemplars are drawn m times with replacement (Efron and Tibshirani, "An Introduction to
the Bootstrap", 1993), and its concepts are selected anew. A neuron's resampled scores are a product
of how often each exemplar was drawn with the exemplars' own scores. That product with a whole
vocabulary would cost more than everything else in a run, so only the concepts that are best over
all exemplars take part: others seldom become a resample's best. Where as many are asked for as
there are, nothing is approximate.

A sure concept need not be a right one: one near to all images is selected whatever is drawn.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Float32, Float64, Int, Int32

from jaxdesc.exemplars import Slots
from jaxdesc.runtime.compiler import contraction, jit, product
from jaxdesc.scoring import Selection
from jaxdesc.scoring.candidates import padded
from jaxdesc.scoring.problem import PART, Problem, checked, slots_of
from jaxdesc.similarity import check_kappa, t_vmf_difference

# Pairs of neuron and concept whose resampled scores are computed at a time.
_PAIRS = 128

# Neurons at a time; bounds memory: 40 exemplars and 100 resamples of 49,152 would take 1.6 GB.
_NEURONS = 2048

# Exemplars' rows that are added in one pass over the sums.
_ROWS_AT_ONCE = 8

# The same score by two programs: a concept that lies this near to the largest ties with it.
_ROUNDING = 1e-5


class Stability(NamedTuple):
    """Shares of the resamples.

    Attributes:
        top: in which the neuron's best concept still has the largest score; NaN where it has none.
        selected: in which each selected concept is selected, in the order of the selection.
    """

    top: Float64[np.ndarray, "neuron"]
    selected: Float64[np.ndarray, "selected"]


def stability(
    image_features: Float[ArrayLike, "image feature"],
    exemplars: Slots | Int[ArrayLike, "neuron exemplar"],
    concept_features: Any,
    base_feature: Float[ArrayLike, "feature"],
    kappa: float,
    alpha: float,
    selection: Selection,
    resamples: int = 100,
    seed: int = 0,
    block: int = 512,
    best: int = 256,
) -> Stability:
    """In which share of resamples of its exemplars each neuron keeps its concepts.

    In each resample a concept is compared with the neuron's `best` concepts by their score over all
    exemplars, not with the whole vocabulary where that is larger. A share is therefore never below
    the exact one: it is above it by the resamples that another concept would have won.

    Args:
        image_features: as in `scoring.discover`.
        exemplars: as in `scoring.discover`.
        concept_features: as in `scoring.discover`.
        base_feature: as in `scoring.discover`.
        kappa: that of the selection.
        alpha: that of the selection.
        selection: what `scoring.discover` gave for these arrays.
        resamples: how often each neuron's exemplars are drawn anew.
        seed: of the draws.
        block: concepts at a time.
        best: how many of a neuron's concepts are resampled; exact from the vocabulary's size on.

    Raises:
        ValueError: as `scoring.discover`, `resamples`, `block` or `best` is below 1, or the
            selection is of another number of neurons.
    """
    check_kappa(kappa)
    if min(block, best) < 1:
        raise ValueError(
            f"block is {block} and best is {best}, but at least 1 concept must be scored at a time."
        )
    slots = slots_of(exemplars)
    if len(selection.counts) != len(slots.counts):
        raise ValueError(
            f"the selection is of {len(selection.counts)} neurons, but exemplars are of "
            f"{len(slots.counts)}: give what was selected for these exemplars."
        )
    problem = checked(image_features, {slots.rows.shape[1]: slots}, concept_features, base_feature)
    parts, size = [], min(block, len(problem))
    for first in range(0, len(slots.counts), _NEURONS):
        last = min(first + _NEURONS, len(slots.counts))
        own, counts = problem.of(slice(first, last)), slots.counts[first:last]
        times = draws(counts, slots.rows.shape[1], resamples, seed, first)
        weights = times / np.maximum(counts, 1)[:, None, None]
        drawn = jnp.asarray(weights, jnp.float32)
        if best < len(problem):
            largest = _largest_of_best(own, drawn, kappa, _best(own, kappa, best, size))
        else:
            largest = _largest_of_all(own, drawn, kappa, size)
        chosen = selection.part(first, last)
        scores = _of_pairs(own, drawn, kappa, chosen)
        parts.append(_shares(scores, largest, chosen, alpha))
    return Stability(*map(np.concatenate, zip(*parts, strict=True)))


def draws(
    counts: Int[np.ndarray, "neuron"], slots: int, resamples: int, seed: int, first: int = 0
) -> Int[np.ndarray, "neuron resample slot"]:
    """How often each exemplar is drawn in each resample; a neuron's draws depend on its index only.

    Args:
        counts: exemplars of each neuron.
        slots: of each neuron; those without an exemplar are never drawn.
        resamples: how often as many as there are exemplars are drawn.
        seed: of the draws.
        first: index of the first neuron.

    Raises:
        ValueError: `resamples` is below 1.
    """
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}, but exemplars must be drawn at least once.")
    times = np.zeros((len(counts), resamples, slots), np.int64)
    for place, count in enumerate(counts.tolist()):
        rng = np.random.default_rng([seed, first + place])
        if count:
            even = np.full(count, 1 / count)
            times[place, :, :count] = rng.multinomial(count, even, resamples)
    return times


def _known(
    problem: Problem,
) -> tuple[Float32[Array, "image feature"], Float32[Array, "image"], Int32[Array, "neuron slot"]]:
    (rows,) = problem.exemplars.values()
    return problem.images, problem.with_base, rows


def _largest_of_all(
    problem: Problem, drawn: Float32[Array, "neuron resample exemplar"], kappa: float, size: int
) -> Float32[np.ndarray, "neuron resample"]:
    """Each resample's largest score over the whole vocabulary."""
    known = _known(problem)
    largest = jnp.full(drawn.shape[:2], -jnp.inf, jnp.float32)
    for _, texts in problem.blocks(size):
        look = jnp.asarray(padded(texts, size)), kappa, len(texts)
        largest = _largest(*known, drawn, *look, largest)
    return np.asarray(largest)


def _largest_of_best(
    problem: Problem,
    drawn: Float32[Array, "neuron resample exemplar"],
    kappa: float,
    concepts: Int32[Array, "neuron best"],
) -> Float32[np.ndarray, "neuron resample"]:
    """Each resample's largest score over some concepts of each neuron."""
    known = _known(problem)
    largest = jnp.full(drawn.shape[:2], -jnp.inf, jnp.float32)
    size = -(-len(problem) // -(-len(problem) // PART))  # parts of one size
    for start in range(0, len(problem), size):
        texts = problem.part(start, size)
        largest = _largest_among(*known, drawn, concepts - start, texts, kappa, largest)
    return np.asarray(largest)


def _best(problem: Problem, kappa: float, best: int, size: int) -> Int32[Array, "neuron best"]:
    """Each neuron's best concepts by their score over all exemplars."""
    known = _known(problem)
    scores = jnp.full((problem.neurons, best), -jnp.inf, jnp.float32)
    concepts = jnp.zeros(scores.shape, jnp.int32)
    for first, texts in problem.blocks(size):
        look = jnp.asarray(padded(texts, size)), kappa, (first, len(texts))
        scores, concepts = _better(*known, *look, scores, concepts)
    return concepts


def _of_pairs(
    problem: Problem,
    drawn: Float32[Array, "neuron resample exemplar"],
    kappa: float,
    selection: Selection,
) -> Float32[np.ndarray, "selected resample"]:
    """Resampled scores of the selected concepts, a fixed number of pairs at a time."""
    known = _known(problem)
    neurons = np.repeat(np.arange(len(selection.counts)), selection.counts)
    parts = [np.empty((0, drawn.shape[1]), np.float32)]
    for first in range(0, len(neurons), _PAIRS):
        own = neurons[first : first + _PAIRS]
        concepts = selection.concepts[first : first + _PAIRS].tolist()
        texts = np.concatenate([problem.block(concept, 1) for concept in concepts])
        missing = _PAIRS - len(own)
        rows, texts = np.pad(own, (0, missing)), np.pad(texts, ((0, missing), (0, 0)))
        scores = _resampled(*known, drawn, jnp.asarray(rows, jnp.int32), texts, kappa)
        parts.append(np.asarray(scores)[: len(own)])
    return np.concatenate(parts)


def _shares(
    own: Float32[np.ndarray, "selected resample"],
    largest: Float32[np.ndarray, "neuron resample"],
    selection: Selection,
    alpha: float,
) -> Stability:
    most = np.repeat(largest, selection.counts, axis=0).astype(np.float64)
    selected = (own > alpha * most).mean(axis=1)  # where none is positive, none is above it
    # Scores are differences: a resample's may be next to 0, but its rounding is that of the others.
    rounding = _ROUNDING * np.abs(most).max(axis=1, keepdims=True)
    leading = (own >= most - rounding).mean(axis=1)
    top, has = np.full(len(selection.counts), np.nan), selection.counts > 0
    top[has] = leading[(np.cumsum(selection.counts) - selection.counts)[has]]
    return Stability(top, selected)


@jit
def _largest(
    images: Float32[Array, "image feature"],
    with_base: Float32[Array, "image"],
    exemplars: Int32[Array, "neuron exemplar"],
    drawn: Float32[Array, "neuron resample exemplar"],
    texts: Float32[Array, "block feature"],
    kappa: ArrayLike,
    count: Int[ArrayLike, ""],
    before: Float32[Array, "neuron resample"],
) -> Float32[Array, "neuron resample"]:
    """Each resample's largest score, over this block's concepts and those before."""
    cosines = jnp.minimum(product(images, texts.T), 1)
    rows = t_vmf_difference(cosines, with_base[:, None], kappa)
    seen = (jnp.arange(len(texts)) < count)[None]

    def of_neuron(own: tuple[Array, Array]) -> Float32[Array, "resample"]:
        chosen, weights = own
        scores = product(weights, rows.at[chosen].get(mode="promise_in_bounds"))
        return jnp.where(seen, scores, -jnp.inf).max(axis=1)

    return jnp.maximum(jax.lax.map(of_neuron, (exemplars, drawn)), before)


@jit
def _better(
    images: Float32[Array, "image feature"],
    with_base: Float32[Array, "image"],
    exemplars: Int32[Array, "neuron exemplar"],
    texts: Float32[Array, "block feature"],
    kappa: ArrayLike,
    where: tuple[ArrayLike, ArrayLike],
    scores: Float32[Array, "neuron best"],
    concepts: Int32[Array, "neuron best"],
) -> tuple[Float32[Array, "neuron best"], Int32[Array, "neuron best"]]:
    """The best of this block's concepts and of those before, by the sum over exemplars.

    `where` is the index of the block's first concept, and how many are no padding.
    """
    first, count = where
    cosines = jnp.minimum(product(images, texts.T), 1)
    rows = t_vmf_difference(cosines, with_base[:, None], kappa)

    def add(total: Array, own: Array) -> tuple[Array, None]:
        return total + rows.at[own].get(mode="promise_in_bounds"), None

    nothing = jnp.zeros((len(exemplars), len(texts)), rows.dtype)
    sums, _ = jax.lax.scan(add, nothing, exemplars.T, unroll=_ROWS_AT_ONCE)
    places = jnp.arange(len(texts))
    sums = jnp.where((places < count)[None], sums, -jnp.inf)
    here = jnp.broadcast_to((jnp.asarray(first) + places)[None], sums.shape)
    kept, chosen = jax.lax.top_k(jnp.concatenate([scores, sums], axis=1), scores.shape[1])
    return kept, jnp.take_along_axis(jnp.concatenate([concepts, here], axis=1), chosen, axis=1)


@jit
def _largest_among(
    images: Float32[Array, "image feature"],
    with_base: Float32[Array, "image"],
    exemplars: Int32[Array, "neuron exemplar"],
    drawn: Float32[Array, "neuron resample exemplar"],
    concepts: Int32[Array, "neuron best"],
    texts: Float32[Array, "part feature"],
    kappa: ArrayLike,
    before: Float32[Array, "neuron resample"],
) -> Float32[Array, "neuron resample"]:
    """Each resample's largest score, over those of a neuron's concepts that lie in this part."""

    def of_neuron(own: tuple[Array, Array, Array]) -> Float32[Array, "resample"]:
        chosen, weights, places = own
        here = (places >= 0) & (places < len(texts))
        some = texts.at[jnp.where(here, places, 0)].get(mode="promise_in_bounds")
        cosines = jnp.minimum(product(images[chosen], some.T), 1)
        rows = t_vmf_difference(cosines, with_base[chosen][:, None], kappa)
        return jnp.where(here[None], product(weights, rows), -jnp.inf).max(axis=1)

    return jnp.maximum(jax.lax.map(of_neuron, (exemplars, drawn, concepts)), before)


@jit
def _resampled(
    images: Float32[Array, "image feature"],
    with_base: Float32[Array, "image"],
    exemplars: Int32[Array, "neuron exemplar"],
    drawn: Float32[Array, "neuron resample exemplar"],
    neurons: Int32[Array, "pair"],
    texts: Float32[ArrayLike, "pair feature"],
    kappa: ArrayLike,
) -> Float32[Array, "pair resample"]:
    chosen = exemplars[neurons]
    cosines = jnp.minimum(contraction("pof,pf->po", images[chosen], texts), 1)
    scores = t_vmf_difference(cosines, with_base[chosen], kappa)
    return contraction("pro,po->pr", drawn[neurons], scores)
