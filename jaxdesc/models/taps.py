"""Taps: how a network's layers are read, and its logits differentiated with respect to them.

A network is a function that hands each of its layers to a tap, and goes on with what the tap
returns:

    apply(params, pixels [batch, row, column, 3], tap) -> logits [batch, class], or None

A tap is made, used and read inside one traced function. Anything that splits or maps a batch
(`in_pieces`, `shard_map`, `jax.vmap`) goes around `apply` together with its tap and its gradient:
a tap inside it would keep tracers that are invalid outside.
"""

import math
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from jaxdesc.runtime.compiler import materialised

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


def recorded(
    apply: Apply, params: Any, pixels: Array | np.ndarray, layers: Collection[str]
) -> tuple[Any, dict[str, Array]]:
    """Return a network's logits and the values of some layers, by name.

    A layer has the same values, bit for bit, regardless of which others are recorded: XLA computes
    each as it is instead of fusing it with what follows, which rounds differently.
    """
    values = {}

    def tap(name: str, x: Array) -> Array:
        x = materialised(x)
        if name in layers:
            values[name] = x
        return x

    return apply(params, pixels, tap), values


class ClassGradient(NamedTuple):
    """A layer A of a network, and how the logit y_c of each image's class c depends on it.

    Tokens are a square grid without their prefix: what a logit takes from the class token has no
    position. `forward` maps normalised images to logits, for maps that need further passes.
    """

    maps: Float32[Array, "batch row column channel"]  # A
    gradient: Float32[Array, "batch row column channel"]  # ∂y_c/∂A
    classes: Int[Array, " batch"]  # c
    logits: Float[Array, "batch class"]  # y
    pixels: Float[Array, "batch height width 3"]  # normalised
    forward: Callable[[Array], Array]


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
        forward=lambda pixels: apply(params, pixels, untouched),
    )
