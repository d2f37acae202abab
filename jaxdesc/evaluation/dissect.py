"""Similarities of a neuron's activations and a concept over all probe images: six methods.

CLIP-Dissect (Oikarinen and Weng, "CLIP-Dissect: Automatic Description of Neuron Representations in
Deep Vision Networks", ICLR 2023) has five functions of the activations A [image, neuron] and of
P [image, concept], the cosines of images and concepts. INVERT (Bykov et al., "Labeling Neural
Representations with Inverse Recognition", NeurIPS 2023) maximises the AUC of a neuron's activation
between images with and without a concept, here single concepts. The answer of each is the neuron's
best concept.

P is never held as a whole: a function prepares what does not depend on the concepts, and returns a
pass over one block of them.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy  # imports scipy.stats on first use
from jaxtyping import Array, Float32, Float64, Int32

from jaxdesc.evaluation.probe import BlockScores, Probe, log_sums
from jaxdesc.runtime.compiler import jit, product

# (probe, concepts per block) -> scores of a block.
ProbeSimilarity = Callable[[Probe, int], BlockScores]

# Below this length a vector is not scaled to 1 (cos_cubed).
_LEAST_NORM = 1e-3
# Keeps the logarithm of a probability finite (wpmi, soft_wpmi).
_LEAST_PROBABILITY = 1e-7
# Probability that the strongest image belongs to a neuron, and one after the last (soft_wpmi).
_SUREST, _LEAST_SURE = 0.998, 0.97
# rank_reorder: power of an error, power of a concept's mean cosine, number of random orders.
_POWER, _SCALE, _SHUFFLES = 3, 0.5, 5
# Rows of images that one pass over the sums adds.
_ROWS_AT_ONCE = 4


def cos(probe: Probe, _: int) -> BlockScores:
    """Cosine of A's and P's columns. NaN for a neuron that is 0 everywhere.

    P = V W^T has rank d at most: A^T P is (A^T V) W^T, and |P_j| is |R w_j| with R of V's QR
    decomposition. So no image is needed again.
    """
    lengths = np.linalg.norm(probe.activations, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        sums = (probe.activations.T @ probe.images) / lengths[:, None]
    triangle = np.linalg.qr(probe.images, mode="r")
    return partial(_cos, jnp.asarray(sums), jnp.asarray(triangle))


def cos_cubed(probe: Probe, _: int) -> BlockScores:
    """Cosine of the cubes of A's and P's centred columns, whose length counts as at least 1e-3."""
    return partial(_cos_cubed, _cubed(jnp.asarray(probe.activations)), jnp.asarray(probe.images))


def wpmi(probe: Probe, block: int, images: int = 28) -> BlockScores:
    """Weighted pointwise mutual information, of a softmax of 2 P over concepts, λ = 0.6.

    Sums log p(concept | image) over the neuron's strongest images, then subtracts λ times the
    logarithm of the mean over all neurons of the exponential of that sum.
    """
    return _pmi(probe, block, images, factor=2.0, weight=0.6, sure=np.ones(images))


def soft_wpmi(probe: Probe, block: int, images: int = 100) -> BlockScores:
    """`wpmi` of a softmax of 10 P, λ = 1, with images that belong to the neuron more or less.

    The r-th strongest belongs to it with probability p_r = 0.998 − 0.028 r / images, and adds
    log(1 + p_r (p(concept | image) − 1)).
    """
    sure = _SUREST - np.arange(images) / images * (_SUREST - _LEAST_SURE)
    return _pmi(probe, block, images, factor=10.0, weight=1.0, sure=sure, soft=True)


def rank_reorder(probe: Probe, _: int, share: float = 0.05, seed: int = 0) -> BlockScores:
    """Agreement of two orders of images: by activation and by cosine with the concept.

    The activations of a neuron's strongest `share` of images are sorted by P_j. The mean of the
    cubed distances to the sorted activations is divided by that of random orders, which depend on
    the seed and the neuron's index alone, and by the square root of the images' mean P_j. The score
    is minus infinity if that mean is not positive, or all those activations are equal.
    """
    count = int(len(probe.images) * share)
    top = strongest(probe, count)
    values = np.take_along_axis(probe.activations.T, top, axis=1)
    base = [random_error(row, seed, neuron) for neuron, row in enumerate(values)]
    rows, positions = np.unique(top, return_inverse=True)
    return partial(
        _rank_reorder,
        jnp.asarray(probe.images[rows]),
        jnp.asarray(positions.reshape(top.shape), jnp.int32),
        jnp.asarray(values),
        jnp.asarray(base, jnp.float32),
    )


def auc(probe: Probe, _: int, share: float = 0.05) -> BlockScores:
    """Chance that an image with the concept excites the neuron more than one without; ties ½.

    An image has a concept if it is among the `share` of images that are nearest to it.
    """
    images = len(probe.images)
    ranks = scipy.stats.rankdata(probe.activations, axis=0).T
    # Of large ranks float32 would lose the last digits.
    centred = jnp.asarray((ranks - (images + 1) / 2) / images, jnp.float32)
    return partial(_auc, centred, jnp.asarray(probe.images), count=int(images * share))


def strongest(probe: Probe, count: int) -> Int32[np.ndarray, "neuron image"]:
    """Strongest images of each neuron, best first; of equal activations the lower index first."""
    return np.asarray(jax.lax.top_k(jnp.asarray(probe.activations.T), count)[1])


def random_error(values: Float32[np.ndarray, "image"], seed: int, neuron: int) -> float:
    """Mean cubed distance of sorted activations to themselves in random orders."""
    rng, rising = np.random.default_rng([seed, neuron]), np.sort(values.astype(np.float64))
    orders = np.stack([rng.permutation(len(rising)) for _ in range(_SHUFFLES)])
    return float((np.abs(rising - rising[orders]) ** _POWER).mean())


def _pmi(
    probe: Probe,
    block: int,
    images: int,
    factor: float,
    weight: float,
    sure: Float64[np.ndarray, "image"],
    soft: bool = False,
) -> BlockScores:
    rows, positions = np.unique(strongest(probe, images), return_inverse=True)
    views = jnp.asarray(probe.images[rows])
    return partial(
        _pmi_of,
        views,
        log_sums(views, probe.concepts, factor, block),
        jnp.asarray(positions.reshape(-1, images), jnp.int32),
        jnp.asarray(1 - sure, jnp.float32),
        factor=factor,
        weight=weight,
        soft=soft,
    )


@jit
def _cos(sums: Array, triangle: Array, texts: Array) -> Float32[Array, "neuron block"]:
    lengths = jnp.linalg.norm(product(triangle, texts.T), axis=0)
    return product(sums, texts.T) / lengths[None]


@jax.jit
def _cubed(columns: Float32[Array, "image column"]) -> Float32[Array, "image column"]:
    cubes = (columns - columns.mean(axis=0)[None]) ** 3
    return cubes / jnp.maximum(jnp.linalg.norm(cubes, axis=0), _LEAST_NORM)[None]


@jit
def _cos_cubed(cubes: Array, images: Array, texts: Array) -> Float32[Array, "neuron block"]:
    return product(cubes.T, _cubed(product(images, texts.T)))


@partial(jit, static=("factor", "weight", "soft"))
def _pmi_of(
    images: Float32[Array, "image feature"],
    log_sums: Float32[Array, "image"],
    top: Int32[Array, "neuron some"],
    unsure: Float32[Array, "some"],
    texts: Float32[Array, "block feature"],
    *,
    factor: float,
    weight: float,
    soft: bool,
) -> Float32[Array, "neuron block"]:
    probability = jnp.exp(factor * product(images, texts.T) - log_sums[:, None])
    logs = probability if soft else jnp.log(probability + _LEAST_PROBABILITY)

    def add(total: Array, ranked: tuple[Array, Array]) -> tuple[Array, None]:
        rows, doubt = ranked
        found = logs.at[rows].get(mode="promise_in_bounds")
        if soft:
            # 1 + p (q − 1) loses the digits of a small q.
            found = jnp.log(doubt + (1 - doubt) * found + _LEAST_PROBABILITY)
        return total + found, None

    nothing = jnp.zeros((len(top), len(texts)), probability.dtype)
    sums, _ = jax.lax.scan(add, nothing, (top.T, unsure), unroll=_ROWS_AT_ONCE)
    return sums - weight * (jax.nn.logsumexp(sums, axis=0) - jnp.log(float(len(top))))[None]


@jit
def _rank_reorder(
    images: Float32[Array, "image feature"],
    top: Int32[Array, "neuron some"],
    values: Float32[Array, "neuron some"],
    base: Float32[Array, "neuron"],
    texts: Float32[Array, "block feature"],
) -> Float32[Array, "neuron block"]:
    cosines = product(images, texts.T)

    def of_neuron(ranked: tuple[Array, Array, Array]) -> Float32[Array, "block"]:
        rows, activations, random = ranked
        keys = cosines.at[rows].get(mode="promise_in_bounds")
        mean, along = keys.mean(axis=0), jnp.broadcast_to(activations[:, None], keys.shape)
        _, ordered = jax.lax.sort((keys, along), dimension=0, num_keys=1)
        error = (jnp.abs(ordered - activations[::-1, None]) ** _POWER).mean(axis=0) / random
        score = -error / jnp.maximum(mean, 0) ** _SCALE
        return jnp.where((mean > 0) & (random > 0), score, -jnp.inf)

    return jax.lax.map(of_neuron, (top, values, base))


@partial(jit, static=("count",))
def _auc(
    ranks: Float32[Array, "neuron image"],
    images: Float32[Array, "image feature"],
    texts: Float32[Array, "block feature"],
    *,
    count: int,
) -> Float32[Array, "neuron block"]:
    cosines = product(images, texts.T)
    least = jax.lax.top_k(cosines.T, count)[0][:, -1]
    present = (cosines >= least[None]).astype(jnp.float32)
    positive = present.sum(axis=0)
    pairs = positive * (len(images) - positive)
    return 0.5 + len(images) * product(ranks, present) / pairs[None]
