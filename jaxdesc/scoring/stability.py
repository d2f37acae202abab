"""Stability of a neuron's concepts: would other exemplars of the neuron give them too?

A neuron's m exemplars are drawn m times with replacement (Efron and Tibshirani, "An Introduction to
the Bootstrap", 1993), and its concepts are selected again. The resampled scores are a product of
how often each exemplar was drawn with the exemplars' scores. That product with a whole vocabulary
would cost more than everything else in a run, so only the concepts nearest to the exemplars on
average take part, and the selected ones: others seldom become a resample's best.

A stable concept need not be right: one that is near to all images is selected in any resample.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float, Float32, Float64, Int

from jaxdesc.exemplars import Slots
from jaxdesc.runtime.compiler import jit, product
from jaxdesc.scoring.pairs import resampled_scores
from jaxdesc.scoring.problem import Problem, problem_of, slots_of
from jaxdesc.scoring.selection import Selection
from jaxdesc.similarity import T_VMF, Similarity

RESAMPLES, NEAREST = 100, 256  # of each neuron; concepts that take part

# Pairs and neurons at a time; bounds memory: 40 exemplars and 100 resamples of 49,152 neurons would
# take 1.6 GB.
_PAIRS, _NEURONS = 1 << 22, 2048

# Concepts whose scores are this near to the largest tie with it.
_ROUNDING = 1e-5


class Stability(NamedTuple):
    """Shares of a neuron's resamples that keep its concepts.

    `top` is the share in which the neuron's best concept still has the largest score, NaN without a
    concept; `selected` is the share in which each selected concept is selected again.
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
    resamples: int = RESAMPLES,
    seed: int = 0,
    block: int = 512,
    nearest: int = NEAREST,
    similarity: Similarity = T_VMF,
) -> Stability:
    """Resample each neuron's exemplars and count how often it keeps its concepts.

    In each resample a concept is compared with the `nearest` concepts to the neuron's exemplars on
    average and with the selected ones. So a share is at least that for the whole vocabulary; it is
    larger by the resamples that a concept left out would have won. Further arguments are those of
    `discover`, and `selection` its result.

    Raises:
        ValueError: as `discover`, `resamples` is below 1, or the selection is of another number of
            neurons.
    """
    slots = slots_of(exemplars)
    if len(selection.counts) != len(slots.counts):
        raise ValueError(
            f"the selection is of {len(selection.counts)} neurons, but exemplars are of "
            f"{len(slots.counts)}: give the selection of these exemplars."
        )
    asked = slots.rows.shape[1]
    arrays = image_features, {asked: slots}, concept_features, base_feature
    problem = problem_of(*arrays, [kappa], [alpha], similarity)
    nearest = min(nearest, len(problem))
    step = neurons_at_once(nearest)
    parts = []
    for first in range(0, len(slots.counts), step):
        part, chosen = problem.of(slice(first, first + step)), selection.part(first, first + step)
        counts = slots.counts[first : first + step]
        drawn = draws(counts, asked, resamples, seed, first)
        weights = (drawn / np.maximum(counts, 1)[:, None, None]).astype(np.float32)
        parts.append(_shares(part, weights, chosen, _nearest(part, nearest, block)))
    return Stability(*map(np.concatenate, zip(*parts, strict=True)))


def neurons_at_once(nearest: int) -> int:
    """Neurons that are resampled at a time, each with so many concepts."""
    return max(1, min(_NEURONS, _PAIRS // nearest))


def draws(
    counts: Int[np.ndarray, "neuron"], slots: int, resamples: int, seed: int, first: int = 0
) -> Int[np.ndarray, "neuron resample slot"]:
    """Count how often each exemplar is drawn in each resample of a neuron; empty slots never are.

    A neuron's draws depend on the seed and its index only; `first` is the index of the first.

    Raises:
        ValueError: `resamples` is below 1.
    """
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}, but exemplars must be drawn at least once.")
    times = np.zeros((len(counts), resamples, slots), np.int64)
    for index in np.flatnonzero(counts).tolist():
        rng, count = np.random.default_rng([seed, first + index]), int(counts[index])
        times[index, :, :count] = rng.multinomial(count, np.full(count, 1 / count), resamples)
    return times


def _nearest(problem: Problem, most: int, block: int) -> Int[np.ndarray, "neuron nearest"]:
    """Concepts with the largest sum of cosines to each neuron's exemplars."""
    (slots,) = problem.exemplars.values()
    images = np.asarray(problem.images)  # a sum ranks concepts as the mean does
    sums = jnp.asarray([images[rows].sum(axis=0) for rows in slots.rows])
    cosines = np.full((problem.neurons, 0), -np.inf, np.float32)
    concepts = np.zeros(cosines.shape, np.int64)
    for first, count, texts in problem.blocks(max(block, most)):
        here = np.broadcast_to(first + np.arange(count), (problem.neurons, count))
        cosines = np.concatenate(
            [cosines, np.asarray(mean_cosines(sums, texts))[:, :count]], axis=1
        )
        concepts = np.concatenate([concepts, here], axis=1)
        if cosines.shape[1] > most:
            kept = np.argpartition(cosines, -most, axis=1)[:, -most:]
            cosines = np.take_along_axis(cosines, kept, axis=1)
            concepts = np.take_along_axis(concepts, kept, axis=1)
    return concepts


mean_cosines = jit(lambda sums, texts: product(sums, texts.T))


def _shares(
    problem: Problem,
    weights: Float32[np.ndarray, "neuron resample exemplar"],
    selection: Selection,
    nearest: Int[np.ndarray, "neuron nearest"],
) -> Stability:
    """Compare each selected concept with the largest score of each resample."""
    ((asked, _),) = problem.exemplars.items()
    owners = np.repeat(np.arange(problem.neurons), selection.counts)
    others = np.repeat(np.arange(problem.neurons), nearest.shape[1])
    units = np.concatenate([owners, others])
    concepts = np.concatenate([selection.concepts, nearest.ravel()])
    largest = np.full((weights.shape[1], problem.neurons), -np.inf, np.float32)
    kept = np.empty((weights.shape[1], len(owners)), np.float32)
    for pairs, scores in resampled_scores(problem, asked, units, concepts, weights):
        starts = np.flatnonzero(np.diff(units[pairs], prepend=-1))
        best, of_units = np.maximum.reduceat(scores, starts, axis=1), units[pairs[starts]]
        largest[:, of_units] = np.maximum(largest[:, of_units], best)
        chosen = np.flatnonzero(pairs < len(owners))
        kept[:, pairs[chosen]] = scores[:, chosen]
    most = largest[:, owners].astype(np.float64)
    selected = (kept > problem.alpha * most).mean(axis=0)  # if none is positive, none is above it
    # Scores are differences: one may be close to 0, yet its rounding is as large as the others'.
    leading = (kept >= most - _ROUNDING * np.abs(most).max(axis=0, initial=0)).mean(axis=0)
    top, has = np.full(problem.neurons, np.nan), selection.counts > 0
    top[has] = leading[(np.cumsum(selection.counts) - selection.counts)[has]]
    return Stability(top, selected)
