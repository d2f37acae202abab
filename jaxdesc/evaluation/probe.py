"""Input of every method of naming neurons, and one pass over its concepts, a block at a time."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Float32, Int, Int64

from jaxdesc.evaluation.judging.presence import PUBLISHED, Sigmoid
from jaxdesc.exemplars import Slots
from jaxdesc.runtime.ahead import ahead
from jaxdesc.runtime.compiler import jit, product

# Scores [neuron, block] of a block of concepts' features, zero rows at its end if it is short.
BlockScores = Callable[[Float32[Array, "block feature"]], Float[Array, "neuron block"]]


class Probe(NamedTuple):
    """Activations and CLIP features of the same probe images; all features have unit length.

    `base` is the base template's feature. Exemplars are rows of `images`, or of `windows` if
    these are the units'. `sigmoid` makes chances of cosines.
    """

    activations: Float32[np.ndarray, "image neuron"]
    images: Float32[np.ndarray, "image feature"]
    concepts: Float32[np.ndarray, "concept feature"]
    base: Float32[np.ndarray, "feature"]
    exemplars: Slots
    windows: Float32[np.ndarray, "window feature"] | None = None
    sigmoid: Sigmoid = PUBLISHED

    @property
    def views(self) -> Float32[np.ndarray, "view feature"]:
        """Features that have a row for each exemplar."""
        return self.images if self.windows is None else self.windows

    @property
    def dead(self) -> Bool[np.ndarray, "neuron"]:
        """True for neurons with the same activation on all images."""
        return self.activations.min(axis=0) == self.activations.max(axis=0)


class Best(NamedTuple):
    """Best concept of each neuron, the first of equal ones, and its score.

    If no concept has a score (all NaN or minus infinity), they are −1 and minus infinity.
    """

    concepts: Int64[np.ndarray, "neuron"]
    scores: Float32[np.ndarray, "neuron"]


def best(concepts: Float32[np.ndarray, "concept feature"], look: BlockScores, block: int) -> Best:
    """Each neuron's best concept; only a block's scores are held.

    Raises:
        ValueError: `block` is below 1.
    """
    looks = ((first, _best(look(texts), count)) for first, count, texts in blocks(concepts, block))
    found: Best | None = None
    for first, (indices, values) in ahead(looks):
        block_best = Best(np.asarray(indices, np.int64) + first, np.asarray(values))
        if found is not None:
            # Strictly, so that of equal scores the first stays.
            better = block_best.scores > found.scores
            pairs = zip(block_best, found, strict=True)
            block_best = Best(*(np.where(better, new, old) for new, old in pairs))
        found = block_best
    assert found is not None
    return found._replace(concepts=np.where(found.scores > -np.inf, found.concepts, -1))


def every(
    concepts: Float32[np.ndarray, "concept feature"], look: BlockScores, block: int
) -> Float32[np.ndarray, "neuron concept"]:
    """All scores, for few concepts."""
    looks = [np.asarray(look(texts))[:, :count] for _, count, texts in blocks(concepts, block)]
    return np.concatenate(looks, axis=1)


def log_sums(
    images: Float32[Array, "image feature"],
    concepts: Float32[np.ndarray, "concept feature"],
    factor: float,
    block: int,
) -> Float32[Array, "image"]:
    """Each image's log Σ_j exp(factor · cos) over all concepts: what a softmax divides by."""
    total = jnp.full(len(images), -jnp.inf)
    for _, count, texts in blocks(concepts, block):
        total = _log_sums(total, images, texts, factor, count)
    return total


def blocks(
    concepts: Float32[np.ndarray, "concept feature"], block: int
) -> Iterator[tuple[int, int, Float32[Array, "block feature"]]]:
    """Yield each block's first concept, their number and their features.

    All blocks have one shape, so that there is one trace.

    Raises:
        ValueError: `block` is below 1.
    """
    if block < 1:
        raise ValueError(f"block is {block}, but at least 1 concept must be looked at at a time.")
    size = min(block, len(concepts))
    for first in range(0, len(concepts), size):
        texts = np.asarray(concepts[first : first + size])
        yield first, len(texts), jnp.asarray(np.pad(texts, ((0, size - len(texts)), (0, 0))))


@jax.jit
def _best(scores: Float[Array, "neuron block"], count: Int[ArrayLike, ""]) -> tuple[Array, Array]:
    known = (jnp.arange(scores.shape[1]) < count)[None] & ~jnp.isnan(scores)
    scores = jnp.where(known, scores, -jnp.inf)
    return scores.argmax(axis=1), scores.max(axis=1)


@jit
def _log_sums(
    total: Float32[Array, "image"],
    images: Float32[Array, "image feature"],
    texts: Float32[Array, "block feature"],
    factor: ArrayLike,
    count: Int[ArrayLike, ""],
) -> Float32[Array, "image"]:
    seen = (jnp.arange(len(texts)) < count)[None]
    terms = jnp.where(seen, factor * product(images, texts.T), -jnp.inf)
    return jnp.logaddexp(total, jax.nn.logsumexp(terms, axis=1))
