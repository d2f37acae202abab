"""Taps: how a network's layers are read, and its logits differentiated with respect to them.

A network is a function that hands each of its layers to a tap, and goes on with what the tap
returns:

    apply(params, pixels [batch, row, column, 3], tap) -> logits [batch, class], or None

A tap that has `names` gets values of these kinds too, which a network computes only if asked. There
is one so far: attention probabilities [batch, head, query, key], which fused attention never holds.
They are `BLOCK/attention_probs` of a block whose tokens are the layer `BLOCK`.

A tap is made, used and read inside one traced function. Anything that splits or maps a batch
(`in_pieces`, `shard_map`, `jax.vmap`) goes around `apply` together with its tap and its gradient:
a tap inside it would keep tracers that are invalid outside.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

ATTENTION_PROBS = "attention_probs"

Tap = Callable[[str, Array], Array]
Apply = Callable[[Any, Any, Tap], Any]


def positions(x: Array, prefix: int) -> Float[Array, "batch position channel"]:
    """Return what a layer has at each position: a grid's cells, or tokens without their prefix."""
    return x.reshape(len(x), -1, x.shape[-1]) if x.ndim == 4 else x[:, prefix:]


def grid(x: Array, prefix: int) -> Float[Array, "batch row column channel"]:
    """Return a layer's positions in rows and columns, those of tokens as a square."""
    if x.ndim == 4:
        return x
    side = math.isqrt(x.shape[1] - prefix)
    return positions(x, prefix).reshape(len(x), side, side, x.shape[-1])


def untouched(name: str, x: Array) -> Array:
    """Tap that changes nothing."""
    del name
    return x


@dataclass(frozen=True)
class Asking:
    """A tap that also wants values of some kinds, which a network computes only if asked.

    Attributes:
        tap: function that the layers and these values are handed to.
        names: kinds of value, the last parts of their names, such as "attention_probs".
    """

    tap: Tap
    names: Collection[str]

    def __call__(self, name: str, x: Array) -> Array:
        """Return what the tap returns."""
        return self.tap(name, x)


def asks(tap: Tap, kind: str) -> bool:
    """Return True if a tap wants values of a kind that a network computes only if asked."""
    return kind in getattr(tap, "names", ())


def attention_probs(
    forward: Callable[[Any, Tap], Any], pixels: Array | np.ndarray | jax.ShapeDtypeStruct
) -> dict[str, tuple[int, ...]]:
    """Return the shape [batch, head, query, key] of each block's attention probabilities.

    They are by the block's name, in the order of the blocks; empty if the network,
    `forward(pixels, tap)`, offers none.
    """
    shapes = {}

    def tap(name: str, x: Array) -> Array:
        shapes[name] = x.shape
        return x

    jax.eval_shape(lambda x: forward(x, Asking(tap, (ATTENTION_PROBS,))), pixels)
    probs = {block: shapes.get(f"{block}/{ATTENTION_PROBS}") for block in shapes}
    return {block: shape for block, shape in probs.items() if shape is not None}


def recorded(
    apply: Apply, params: Any, pixels: Array | np.ndarray, layers: Collection[str]
) -> tuple[Any, dict[str, Array]]:
    """Return a network's logits and the values of some layers, by name.

    Its last bits may depend on which others are recorded: XLA fuses what it can, and decides orders
    of summation by what a product is for.
    """
    values = {}

    def tap(name: str, x: Array) -> Array:
        if name in layers:
            values[name] = x
        return x

    return apply(params, pixels, tap), values


class ClassGradient(NamedTuple):
    """A layer A of a network, and how the logit y_c of each image's class c depends on it.

    Tokens are a square grid without their prefix: what a logit takes from the class token has no
    position. `forward` takes normalised images and a tap, by default one that changes nothing, and
    returns logits, for maps that need further passes. A network without classes has one logit, 0.
    """

    maps: Float32[Array, "batch row column channel"]  # A
    gradient: Float32[Array, "batch row column channel"]  # ∂y_c/∂A
    classes: Int[Array, " batch"]  # c
    logits: Float[Array, "batch class"]  # y
    pixels: Float[Array, "batch height width 3"]  # normalised
    forward: Callable[..., Array]
    prefix: int  # tokens that are not patches


def class_gradient(
    apply: Apply,
    params: Any,
    pixels: Float[Array, "batch height width 3"],
    classes: Int[Array, " batch"] | None,
    layer: str,
    shape: tuple[int, ...],
    prefix: int = 0,
) -> ClassGradient:
    """Differentiate the logit of each image's class with respect to a layer.

    The tap adds zeros to the layer, and the gradient is taken with respect to those: the backward
    pass ends at the layer. Images are normalised and must not depend on each other; the class is
    the predicted one if `classes` is None, `shape` is that of the layer's value for one image, and
    `prefix` counts its tokens that are not patches.
    """

    def logit(zeros: Array) -> tuple[Array, tuple[Array, Array, Array]]:
        values = {}

        def tap(name: str, x: Array) -> Array:
            if name != layer:
                return x
            values[name] = x
            return x + zeros.astype(x.dtype)

        logits = apply(params, pixels, tap)
        if logits is None:  # maps that need no class look at nothing but `forward`
            logits = jnp.zeros((len(pixels), 1), jnp.float32)
        labels = logits.argmax(axis=1) if classes is None else classes
        chosen = jnp.take_along_axis(logits.astype(jnp.float32), labels[:, None], axis=1)
        return chosen.sum(), (values[layer], labels, logits)

    zeros = jnp.zeros((len(pixels), *shape), jnp.float32)
    gradient, (maps, labels, logits) = jax.grad(logit, has_aux=True)(zeros)
    return ClassGradient(
        maps=grid(maps.astype(jnp.float32), prefix),
        gradient=grid(gradient, prefix),
        classes=labels,
        logits=logits,
        pixels=pixels,
        forward=lambda pixels, tap=untouched: apply(params, pixels, tap),
        prefix=prefix,
    )
