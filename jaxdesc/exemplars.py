"""The exemplars of a neuron: the n probe images that excite it most.

They are found in one pass over the probe images. The state holds n candidates for each neuron, and
every batch of activations is merged into it, so memory is neurons × (n + batch), whatever the
number of images.

Equal activations are ordered by image index, the lower first. The merge sorts candidates by
(activation descending, image index ascending), a total order on images; the best n under a total
order don't depend on the order in which images arrive, so batches may come in any order.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Float32, Int, Int32

# Sorts after every image, so that an empty slot loses even to an activation of minus infinity.
_LAST = np.iinfo(np.int32).max


class Exemplars(NamedTuple):
    """What is known of each neuron after the images seen so far; a pytree.

    Attributes:
        values: activations of the exemplars, best first; minus infinity where a slot is empty.
        images: their image indices; −1 where a slot is empty.
        lowest: the smallest activation over all images; plus infinity before the first.
        highest: the largest; minus infinity before the first.
        nan: whether any activation was NaN. Such an activation enters nothing else, so a caller
            has to raise where this is set.
    """

    values: Float32[Array, "neuron exemplar"]
    images: Int32[Array, "neuron exemplar"]
    lowest: Float32[Array, "neuron"]
    highest: Float32[Array, "neuron"]
    nan: Bool[Array, "neuron"]


def empty(neurons: int, n: int) -> Exemplars:
    """The state before the first image, for `neurons` neurons and `n` exemplars each.

    Raises:
        ValueError: either number is below 1.
    """
    if neurons < 1 or n < 1:
        raise ValueError(
            f"exemplars need at least 1 neuron and 1 exemplar each, but got {neurons} and {n}."
        )
    return Exemplars(
        values=jnp.full((neurons, n), -jnp.inf, jnp.float32),
        images=jnp.full((neurons, n), -1, jnp.int32),
        lowest=jnp.full(neurons, jnp.inf, jnp.float32),
        highest=jnp.full(neurons, -jnp.inf, jnp.float32),
        nan=jnp.zeros(neurons, bool),
    )


@jax.jit
def update(
    state: Exemplars,
    activations: Float[ArrayLike, "batch neuron"],
    images: Int[ArrayLike, "batch"],
    valid: Bool[ArrayLike, "batch"],
) -> Exemplars:
    """Merge one batch of activations into the state.

    Args:
        state: what is known so far.
        activations: one row for each image of the batch.
        images: the images' indices, ≥ 0. Each image may be merged once only.
        valid: False on padding rows, which leave no trace.

    Returns:
        The state that includes the batch.
    """
    activations = jnp.asarray(activations, jnp.float32).T
    images = jnp.asarray(images, jnp.int32)[None]
    valid = jnp.asarray(valid)[None]
    nan = jnp.isnan(activations) & valid
    seen = valid & ~nan
    values, kept = _best(
        jnp.concatenate([state.values, jnp.where(seen, activations, -jnp.inf)], axis=1),
        jnp.concatenate([state.images, jnp.where(seen, images, -1)], axis=1),
        state.values.shape[1],
    )
    return Exemplars(
        values=values,
        images=kept,
        lowest=jnp.minimum(state.lowest, jnp.where(seen, activations, jnp.inf).min(axis=1)),
        highest=jnp.maximum(state.highest, jnp.where(seen, activations, -jnp.inf).max(axis=1)),
        nan=state.nan | nan.any(axis=1),
    )


def dead(state: Exemplars) -> Bool[Array, "neuron"]:
    """Whether each neuron's activation was the same on all images; False before the first."""
    return state.lowest == state.highest


def exemplars(
    activations: Float[ArrayLike, "image neuron"], n: int, batch: int = 1024
) -> Exemplars:
    """The exemplars of a whole matrix of activations, by the same update in batches of `batch`.

    Args:
        activations: one row for each image.
        n: how many exemplars each neuron gets.
        batch: how many rows are merged at a time.

    Returns:
        The final state; a caller checks its `nan`.

    Raises:
        ValueError: there are fewer images than exemplars, or no neuron, or n or batch is below 1.
    """
    activations = jnp.asarray(activations)
    count, neurons = activations.shape
    if n > count or batch < 1:
        raise ValueError(
            f"{n} exemplars were asked for in batches of {batch}, but there are {count} images: "
            "ask for at most as many exemplars as images, and for a batch of at least 1."
        )
    state = empty(neurons, n)
    batch = min(batch, count)
    for start in range(0, count, batch):
        rows = np.arange(start, start + batch, dtype=np.int32)
        # The last batch repeats its last row as padding: one shape, so one trace.
        block = activations[np.minimum(rows, count - 1)]
        state = update(state, block, rows, rows < count)
    return state


def distinct(
    images: Int[ArrayLike, "neuron exemplar"],
) -> tuple[Int[np.ndarray, "view"], Int32[np.ndarray, "neuron exemplar"]]:
    """The images that are any neuron's exemplar, ascending, and the exemplars as rows of them."""
    found, rows = np.unique(np.asarray(images), return_inverse=True)
    return found, rows.reshape(np.shape(images)).astype(np.int32)


def _best(values: Array, images: Array, n: int) -> tuple[Array, Array]:
    """The first n of each row by (value descending, image ascending), empty slots last."""
    order = jnp.where(images < 0, _LAST, images)
    descending, order = jax.lax.sort((-values, order), dimension=1, num_keys=2)
    descending, order = descending[:, :n], order[:, :n]
    return -descending, jnp.where(order == _LAST, -1, order)
