"""One pass over a vocabulary, a block at a time, keeping each neuron's best concept."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Float32, Int, Int64

from jaxdesc.runtime.ahead import ahead
from jaxdesc.runtime.compiler import jit, product

# Scores [neuron, block] of a block of concepts' features, zero rows at its end if it is short.
Look = Callable[[Float32[Array, "block feature"]], Float[Array, "neuron block"]]


class Best(NamedTuple):
    """The best concept of each neuron, the first where several are.

    Attributes:
        concepts: its index; −1 if no concept has a score (all NaN or minus infinity).
        scores: its score; minus infinity if there is none.
    """

    concepts: Int64[np.ndarray, "neuron"]
    scores: Float32[np.ndarray, "neuron"]


def best(concepts: Float32[np.ndarray, "concept feature"], look: Look, block: int) -> Best:
    """Each neuron's best concept; only a block's scores are held.

    Raises:
        ValueError: `block` is below 1.
    """
    looks = ((first, _best(look(texts), count)) for first, count, texts in blocks(concepts, block))
    found: Best | None = None
    for first, (places, values) in ahead(looks):
        block_best = Best(np.asarray(places, np.int64) + first, np.asarray(values))
        if found is not None:
            # Strictly, so that of equal scores the first stays.
            better = block_best.scores > found.scores
            pairs = zip(block_best, found, strict=True)
            block_best = Best(*(np.where(better, new, old) for new, old in pairs))
        found = block_best
    assert found is not None
    return found._replace(concepts=np.where(found.scores > -np.inf, found.concepts, -1))


def every(
    concepts: Float32[np.ndarray, "concept feature"], look: Look, block: int
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
    """First concept, how many, and their features, always of one shape, so that there is one trace.

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
def _best(
    scores: Float[Array, "neuron block"], count: Int[ArrayLike, ""]
) -> tuple[Int[Array, "neuron"], Float[Array, "neuron"]]:
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
