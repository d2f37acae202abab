"""Which concepts a neuron would have if its exemplars were any images: what a score is worth.

Some neurons respond to nothing that the vocabulary names, and still some concept scores highest.
Some concepts score high for any images. Both are told by random sets of n images from the pool that
exemplars come from. For each concept their scores have a mean and a standard deviation, which
sampling theory gives exactly (Cochran, "Sampling Techniques", 1977, theorems 2.1 and 2.2); z is a
score's distance from that mean in those deviations.

A neuron's concepts were chosen among all, so each is compared with the *largest* z over all
concepts of each random set (Westfall and Young, "Resampling-Based Multiple Testing", 1993): its p
is the share of sets that reach it, whatever the shape of the scores' distribution. Over neurons,
the false discovery rate is controlled.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Float32, Float64, Int, Int32

from jaxdesc.evaluation.statistics import at_least, false_discovery
from jaxdesc.exemplars import Slots
from jaxdesc.runtime.compiler import jit, product
from jaxdesc.scoring import Selection, discover
from jaxdesc.scoring.candidates import padded
from jaxdesc.scoring.problem import checked
from jaxdesc.similarity import check_kappa, t_vmf_difference

LEVEL = 0.05  # false discovery rate up to which a concept is significant

# Images' rows that are added in one pass over the sums.
_ROWS_AT_ONCE = 4


class Null(NamedTuple):
    """What random image sets score.

    Attributes:
        mean: of each concept's score over all sets of n images, whatever n is.
        deviation: its standard deviation, by n; 0 for a concept that is equally near to all images.
        largest: the largest z over all concepts of each random set, ascending, by n.
        share: of random sets of the largest n that each concept is selected for.
        hubs: concepts that are selected for far more random sets than chance, most often first.
    """

    mean: Float64[np.ndarray, "concept"]
    deviation: Mapping[int, Float64[np.ndarray, "concept"]]
    largest: Mapping[int, Float64[np.ndarray, "set"]]
    share: Float64[np.ndarray, "concept"]
    hubs: Int[np.ndarray, "hub"]


class Significance(NamedTuple):
    """What the null says of selected concepts, in the order of the selection.

    NaN for the concepts of a neuron that has as many exemplars as no random set has images.

    Attributes:
        z: distance of each score from its concept's mean, in its standard deviations.
        p: share of random sets that reach this z with any concept.
        q: smallest false discovery rate at which the pair counts as found.
        significant: whether q is within the level.
        named: of each neuron, whether any of its concepts is significant.
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
    sets: int = 1000,
    seed: int = 0,
    block: int = 512,
    level: float = LEVEL,
    least_share: float = 0.01,
) -> Null:
    """Score random image sets.

    Args:
        image_features: unit features of all images of the pool.
        concept_features: as in `scoring.discover`.
        base_feature: as in `scoring.discover`.
        kappa: that of the neurons.
        alpha: that of the neurons, for the sets' selected concepts.
        sizes: n, images in a set; sets of fewer images are the first of those with more.
        sets: how many of each size; the smallest p is 1 / (sets + 1).
        seed: of the sets.
        block: concepts at a time.
        level: false discovery rate of hubs.
        least_share: of the sets, that a hub is selected for at least.

    Raises:
        ValueError: as `scoring.discover`, a set is as large as the pool, there is none, or `block`
            is below 1.
    """
    check_kappa(kappa)
    if block < 1:
        raise ValueError(f"block is {block}, but at least 1 concept must be scored at a time.")
    sizes = sorted(set(sizes))
    chosen = random_sets(len(np.asarray(image_features)), sizes[-1], sets, seed)
    slots = {sizes[-1]: Slots.full(chosen)}
    problem = checked(image_features, slots, concept_features, base_feature)
    known = problem.images, problem.with_base, problem.count, problem.exemplars[sizes[-1]]
    largest, moments = jnp.full((len(sizes), sets), -jnp.inf, jnp.float32), []
    size = min(block, len(problem))
    for _, texts in problem.blocks(size):
        look = jnp.asarray(padded(texts, size)), kappa, len(texts), largest
        *found, largest = _of_block(*known, *look, sizes=tuple(sizes))
        moments.append(np.vstack(found)[:, : len(texts)])
    mean, *deviations = np.concatenate(moments, axis=1).astype(np.float64)
    named = discover(image_features, chosen, concept_features, base_feature, kappa, alpha, block)
    times = np.bincount(named.concepts, minlength=len(mean))
    return Null(
        mean,
        dict(zip(sizes, deviations, strict=True)),
        dict(zip(sizes, np.sort(np.asarray(largest, np.float64), axis=1), strict=True)),
        times / sets,
        _hubs(times, sets, level, least_share),
    )


def significance(
    null: Null, selection: Selection, counts: Int[np.ndarray, "neuron"], level: float = LEVEL
) -> Significance:
    """How far each selected concept is from what random sets reach.

    Args:
        null: of the same concepts and κ.
        selection: the neurons' concepts.
        counts: exemplars of each neuron, which is compared with sets of as many images.
        level: false discovery rate, over the selected pairs of all neurons.
    """
    z, p, q = np.full((3, len(selection.concepts)), np.nan)
    sizes = np.repeat(counts, selection.counts)
    for size, largest in null.largest.items():
        own = sizes == size
        concepts, sets = selection.concepts[own], len(largest)
        mean, deviation = null.mean[concepts], null.deviation[size][concepts]
        spread = deviation > 0
        away = np.where(spread, selection.scores[own] - mean, 0) / np.where(spread, deviation, 1)
        reaching = sets - np.searchsorted(largest, away, side="left")
        z[own], p[own] = away, (1 + reaching) / (1 + sets)
    known = ~np.isnan(p)
    q[known] = false_discovery(p[known])
    significant = q <= level
    owners = np.repeat(np.arange(len(selection.counts)), selection.counts)
    named = np.bincount(owners[significant], minlength=len(selection.counts)) > 0
    return Significance(z, p, q, significant, named)


def random_sets(
    images: int, exemplars: int, sets: int, seed: int
) -> Int32[np.ndarray, "set exemplar"]:
    """Sets of distinct images, each set of that size as likely as any other.

    Raises:
        ValueError: a set is as large as the pool, so that there is but one; or there is no set.
    """
    if not 1 <= exemplars < images or sets < 1:
        raise ValueError(
            f"{sets} random sets of {exemplars} of {images} images tell nothing: give at least 1 "
            "set, and more images than a set has."
        )
    rng = np.random.default_rng(seed)
    rows = [rng.choice(images, exemplars, replace=False) for _ in range(sets)]
    return np.stack(rows).astype(np.int32)


def _hubs(
    times: Int[np.ndarray, "concept"], sets: int, level: float, least_share: float
) -> Int[np.ndarray, "hub"]:
    """Concepts selected for more sets than if each of them were as likely, most often first."""
    chance = min(1.0, times.sum() / (sets * len(times)))
    often = false_discovery(at_least(times, sets, chance)) <= level
    hubs = np.flatnonzero(often & (times >= least_share * sets))
    return hubs[np.argsort(-times[hubs], kind="stable")]


@partial(jit, static=("sizes",))
def _of_block(
    images: Float32[Array, "image feature"],
    with_base: Float32[Array, "image"],
    pool: Int[ArrayLike, ""],
    chosen: Int32[Array, "set exemplar"],
    texts: Float32[Array, "block feature"],
    kappa: ArrayLike,
    count: Int[ArrayLike, ""],
    largest: Float32[Array, "size set"],
    *,
    sizes: tuple[int, ...],
) -> tuple[Float32[Array, "block"], Float32[Array, "size block"], Float32[Array, "size set"]]:
    """Mean of a set's score, its deviation and each set's largest z so far, by the set's size.

    Images behind the first `pool` are padding, so that pools of any size are one program.
    """
    cosines = jnp.minimum(product(images, texts.T), 1)
    rows = t_vmf_difference(cosines, with_base[:, None], kappa)
    there, seen = (jnp.arange(len(rows)) < pool)[:, None], jnp.arange(len(texts)) < count
    mean = jnp.where(there, rows, 0).sum(axis=0) / pool
    variance = jnp.where(there, (rows - mean[None]) ** 2, 0).sum(axis=0) / pool

    def add(total: Array, own: Array) -> tuple[Array, None]:
        return total + rows.at[own].get(mode="promise_in_bounds"), None

    sums = jnp.zeros((len(chosen), len(texts)), rows.dtype)
    deviations, reached = [], []
    for before, size in pairwise((0, *sizes)):
        sums, _ = jax.lax.scan(add, sums, chosen[:, before:size].T, unroll=_ROWS_AT_ONCE)
        deviation = jnp.sqrt(variance / size * ((pool - size) / (pool - 1)))
        known = seen & (deviation > 0)
        z = (sums / size - mean[None]) / jnp.where(known, deviation, 1)[None]
        deviations.append(deviation)
        reached.append(jnp.where(known[None], z, -jnp.inf).max(axis=1))
    return mean, jnp.stack(deviations), jnp.maximum(largest, jnp.stack(reached))
