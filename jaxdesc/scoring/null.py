"""Significance of concepts: scores of random image sets show what a score is worth.

Some neurons respond to nothing that the vocabulary names, and still some concept scores highest.
Some concepts score high for any images. Random sets of n images from the pool of exemplar views
show both. For each concept their scores have a mean and a standard deviation, which sampling theory
gives exactly (Cochran, "Sampling Techniques", 1977, theorems 2.1 and 2.2); z is a score's distance
from that mean in those deviations.

A neuron's concepts were chosen among all, so each is compared with the *largest* z over all
concepts of each random set (Westfall and Young, "Resampling-Based Multiple Testing", 1993): its p
is the share of sets that reach it, for any shape of the scores' distribution. Over neurons, the
false discovery rate is controlled (Benjamini and Hochberg, "Controlling the False Discovery Rate",
1995; valid for independent tests and for positively dependent ones).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Float32, Float64, Int, Int32
from scipy import stats

from jaxdesc.exemplars import Slots
from jaxdesc.runtime.compiler import jit, product
from jaxdesc.scoring.block import Full, Look, add_rows, seen_above
from jaxdesc.scoring.discovery import selected
from jaxdesc.scoring.problem import Problem, problem_of
from jaxdesc.scoring.selection import Selection
from jaxdesc.similarity import T_VMF, Similarity

LEVEL = 0.05  # false discovery rate up to which a concept is significant, or a hub

# Least share of random sets that a hub is selected for.
_HUB_SHARE = 0.01

SETS = 1000  # random sets of each size

# Most views that random sets are drawn from; of a larger pool this many are drawn at random.
POOL = 4096


class Null(NamedTuple):
    """Scores of random image sets of n images each, for one n or several."""

    mean: Float64[np.ndarray, "concept"]  # of each concept's score over all sets, for any n
    deviation: Mapping[int, Float64[np.ndarray, "concept"]]  # by n; 0 if equally near to all images
    largest: Mapping[int, Float64[np.ndarray, "set"]]  # z over all concepts, ascending, by n
    share: Float64[np.ndarray, "concept"]  # of the sets of the largest n that each is selected for
    hubs: Int[np.ndarray, "hub"]  # selected for far more sets than chance, most often first


class Significance(NamedTuple):
    """Selected concepts against the null, in the order of the selection.

    `z` is the distance of each score from its concept's mean, in its standard deviations, `p` the
    share of random sets that reach it with any concept, and `q` the smallest false discovery rate
    at which the pair counts as found; NaN if no random set has as many images as the neuron has
    exemplars. If q is within the level the concept is significant, and its neuron `named`.
    """

    z: Float64[np.ndarray, "selected"]
    p: Float64[np.ndarray, "selected"]
    q: Float64[np.ndarray, "selected"]
    significant: Bool[np.ndarray, "selected"]
    named: Bool[np.ndarray, "neuron"]


def null(
    image_features: Float[ArrayLike, "image feature"],
    concept_features: Any,
    base_feature: Float[ArrayLike, "feature"],
    kappa: float,
    alpha: float,
    sizes: Sequence[int],
    sets: int = SETS,
    seed: int = 0,
    block: int = 512,
    similarity: Similarity = T_VMF,
) -> Null:
    """Score random sets of a pool's images; further arguments are those of `discover`.

    There are `sets` of each of the `sizes`, so that the smallest p is 1 / (sets + 1); smaller sets
    are the first images of larger ones.

    Raises:
        ValueError: as `discover`, a set is as large as the pool, or there is none.
    """
    pool = np.asarray(image_features)
    if len(pool) > POOL:
        drawn = np.random.default_rng([seed, len(pool)]).choice(len(pool), POOL, replace=False)
        pool = pool[np.sort(drawn)]
    sizes = sorted(set(sizes))
    chosen = Slots.full(random_sets(len(pool), sizes[-1], sets, seed))
    arrays = pool, {sizes[-1]: chosen}, concept_features, base_feature
    problem = problem_of(*arrays, [kappa], [alpha], similarity)
    engine = _Sets(problem, len(pool), tuple(sizes))
    (named,) = selected(problem, engine, [alpha], min(block, len(problem)))
    mean, *deviations = np.concatenate(engine.moments, axis=1)[:, : len(problem)].astype(np.float64)
    times = np.bincount(named.concepts, minlength=len(problem))
    # Hubs are selected for more sets than if all concepts were equally likely.
    chance = min(1.0, times.sum() / (sets * len(times)))
    q = stats.false_discovery_control(stats.binom.sf(times - 1, sets, chance))
    hubs = np.flatnonzero((q <= LEVEL) & (times >= _HUB_SHARE * sets))
    return Null(
        mean,
        dict(zip(sizes, deviations, strict=True)),
        dict(zip(sizes, np.sort(np.asarray(engine.z, np.float64), axis=1), strict=True)),
        times / sets,
        hubs[np.argsort(-times[hubs], kind="stable")],
    )


def significance(
    null: Null, selection: Selection, counts: Int[np.ndarray, "neuron"], level: float = LEVEL
) -> Significance:
    """Compare selected concepts with random sets, scored for the same concepts and κ.

    A neuron is compared with sets of as many images as it has exemplars, its `counts`; `level` is
    the false discovery rate over the selected pairs of all neurons.
    """
    z, p, q = np.full((3, len(selection.concepts)), np.nan)
    sizes = np.repeat(counts, selection.counts)
    for size, largest in null.largest.items():
        pairs = sizes == size
        concepts, sets = selection.concepts[pairs], len(largest)
        mean, deviation = null.mean[concepts], null.deviation[size][concepts]
        spread = deviation > 0
        away = np.where(spread, selection.scores[pairs] - mean, 0) / np.where(spread, deviation, 1)
        reaching = sets - np.searchsorted(largest, away, side="left")
        z[pairs], p[pairs] = away, (1 + reaching) / (1 + sets)
    known = ~np.isnan(p)
    q[known] = stats.false_discovery_control(p[known])
    significant = q <= level
    owners = np.repeat(np.arange(len(selection.counts)), selection.counts)
    named = np.bincount(owners[significant], minlength=len(selection.counts)) > 0
    return Significance(z, p, q, significant, named)


def random_sets(
    images: int, exemplars: int, sets: int, seed: int
) -> Int32[np.ndarray, "set exemplar"]:
    """Draw sets of distinct images; all sets of that size are equally likely.

    Raises:
        ValueError: a set is as large as the pool, so that there is only one; or there is no set.
    """
    if not 1 <= exemplars < images or sets < 1:
        raise ValueError(
            f"{sets} random sets of {exemplars} of {images} images say nothing: give at least 1 "
            "set, and more images than a set has."
        )
    rng = np.random.default_rng(seed)
    rows = [rng.choice(images, exemplars, replace=False) for _ in range(sets)]
    return np.stack(rows).astype(np.int32)


class _Sets(Full):
    """The full engine with random sets as units; a smaller set is the start of a larger one.

    It keeps the mean and, by size, the deviation of each block's concepts, and by size the largest
    z of each set so far.
    """

    def __init__(self, problem: Problem, pool: int, sizes: tuple[int, ...]):
        super().__init__(problem)
        self.pool, self.sizes = pool, sizes
        self.moments: list[Float32[Array, "moment block"]] = []
        self.z = jnp.full((len(sizes), problem.neurons), -jnp.inf, jnp.float32)

    def look(self, texts: Float32[Array, "block feature"], count: int) -> Look:
        """Scores of the largest sets."""
        problem = self.problem
        look, moments, self.z = score_sets(
            *(problem.images, problem.with_base, self.rows[0], texts, problem.kappas[0]),
            *(self.floor, count, self.pool, self.z),
            sizes=self.sizes,
            difference=problem.similarity.difference,
        )
        self.moments.append(moments)
        return look


@partial(jit, static=("sizes", "difference"))
def score_sets(
    images: Float32[Array, "image feature"],
    with_base: Float32[Array, "image"],
    chosen: Int32[Array, "set exemplar"],
    texts: Float32[Array, "block feature"],
    kappa: ArrayLike,
    floor: Float32[ArrayLike, "1 set 1"],
    count: Int[ArrayLike, ""],
    pool: Int[ArrayLike, ""],
    largest: Float32[Array, "size set"],
    sizes: tuple[int, ...],
    difference: Callable[..., Any],
) -> tuple[Look, Float32[Array, "moment block"], Float32[Array, "size set"]]:
    """Scores, moments of a set's score, and each set's largest z so far.

    Images after the first `pool` are padding, so that pools of any size are one program.
    """
    cosines = jnp.minimum(product(images, texts.T), 1)
    rows = difference(cosines, with_base[:, None], kappa)
    there, seen = (jnp.arange(len(rows)) < pool)[:, None], jnp.arange(len(texts)) < count
    mean = jnp.where(there, rows, 0).sum(axis=0) / pool
    variance = jnp.where(there, (rows - mean[None]) ** 2, 0).sum(axis=0) / pool
    sums = jnp.zeros((len(chosen), len(texts)), rows.dtype)
    moments, reached = [mean], []
    for before, size in pairwise((0, *sizes)):
        sums = add_rows(sums, rows, chosen[:, before:size])
        deviation = jnp.sqrt(variance / size * ((pool - size) / (pool - 1)))
        known = seen & (deviation > 0)
        z = (sums / size - mean[None]) / jnp.where(known, deviation, 1)[None]
        moments.append(deviation)
        reached.append(jnp.where(known[None], z, -jnp.inf).max(axis=1))
    look = seen_above((sums / sizes[-1])[None], floor, jnp.zeros(len(texts), jnp.int32), count)
    return look, jnp.stack(moments), jnp.maximum(largest, jnp.stack(reached))
