"""Maps of units, and their peaks: the part of an image that a unit itself looks at.

The map of a logit is an attention map of it, as `CAMS` has them for classes. The map of a channel
is relu of the channel itself: at its own layer the gradient of its mean is constant. A unit that is
read from the class token gets the attention map of that value.

The first pass over the images gives the peaks of all channels, and those of logits that are one
linear layer on the mean of the attention layer, whose Grad-CAM is that layer times the weights.
For other units there is a second pass over the images that they chose.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, UInt8

from jaxdesc.attention.cams import CAMS, check_cam, is_linear, suited
from jaxdesc.errors import InputError
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.models.taps import Apply, ClassGradient, Tap, class_gradient, grid, positions, recorded
from jaxdesc.models.target import LOGITS, Target, normalised, pooled
from jaxdesc.runtime.compiler import contraction, in_pieces, jit
from jaxdesc.runtime.mesh import on_each, shared_out

NOWHERE = int(np.iinfo(np.uint16).max)  # in place of a peak if a map has no positive value
LINEAR = ("cam", "grad_cam")  # maps that behind a linear head are the layer times the weights
UNITS = 4  # of an image whose maps are computed in a backward pass
CHANNELS = 64  # of an image whose maps are read from the layer, which takes no such pass
AT_ONCE = 64  # units whose weights are computed in a batch; bounds memory

# By layer, weights [channel, unit] of the attention layer, or their shape; None for channels, which
# are their own maps.
Weights = Mapping[str, Array | jax.ShapeDtypeStruct | None]


def known_at_once(target: Target, layer: str, pooling: str, cam: str) -> bool:
    """Return True if the first pass gives the peaks of a layer's units."""
    if layer != LOGITS:
        return pooling != "class"
    return cam in LINEAR and is_linear(target, target.attention_layer)


def weights_at_once(target: Target, layers: Sequence[str], pooling: str, cam: str) -> Weights:
    """Return what the first pass multiplies the attention layer by, of layers known at once."""
    found: dict[str, Array | None] = {}
    for layer in layers:
        if known_at_once(target, layer, pooling, cam):
            found[layer] = _weights_of_logits(target) if layer == LOGITS else None
    return found


def _weights_of_logits(target: Target) -> Float[Array, "channel unit"]:
    side = target.preprocess.size
    blank = np.zeros((1, side, side, 3), np.float32)
    weights: Array = _weights(target.apply, *_attention(target), target.params, blank)
    return on_each(weights, target.mesh) if target.mesh else weights


def units_at_once(layer: str, pooling: str) -> int:
    """Return how many units' maps of an image are computed together."""
    return UNITS if layer == LOGITS or pooling == "class" else CHANNELS


def rows_and_columns(target: Target, layer: str, pooling: str) -> tuple[int, int]:
    """Rows and columns of the maps of a layer's units."""
    itself = layer != LOGITS and pooling != "class"
    shape = target.shapes[layer if itself else target.attention_layer]
    one = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    _, rows, columns, _ = jax.eval_shape(partial(grid, prefix=target.prefix), one).shape
    return rows, columns


def looking_at_once(
    target: Target, layers: Sequence[str], pooling: str, classify: bool, weights: Weights
) -> partial[Any]:
    """Return the program that activates some layers and finds the peaks of their units.

    It takes pixels, and returns what `Target.activate` does and, by layer, the cell [B, N] of each
    unit's peak, counted by rows; `NOWHERE` if its map has no positive value.
    """
    return partial(
        _look_at_once,
        target.apply,
        target.preprocess,
        target.mesh,
        target.prefix,
        tuple(layers),
        pooling,
        classify,
        target.attention_layer,
        tuple(weights),
        (target.params, dict(weights)),
    )


@partial(
    jit,
    static=(
        *("apply", "preprocess", "mesh", "prefix"),
        *("layers", "pooling", "classify", "attention", "peaked"),
    ),
)
def _look_at_once(
    apply: Apply,
    preprocess: Preprocess,
    mesh: Mesh | None,
    prefix: int,
    layers: tuple[str, ...],
    pooling: str,
    classify: bool,
    attention: str,
    peaked: tuple[str, ...],
    params: Any,
    pixels: Any,
) -> Any:
    def look(given: Any, pixels: Array) -> Any:
        params, weights = given
        seen = {*layers, attention}
        logits, values = recorded(apply, params, normalised(preprocess, pixels), seen)
        values[LOGITS] = logits
        found = {name: pooled(name, values[name], pooling, prefix) for name in layers}
        peaks = {}
        for name in peaked:
            maps = positions(values[attention if name == LOGITS else name], prefix)
            maps = maps.astype(jnp.float32)
            if weights[name] is not None:
                maps = contraction("bpc,cn->bpn", maps, weights[name])
            cells = jnp.where(maps.max(axis=1) > 0, maps.argmax(axis=1), NOWHERE)
            peaks[name] = cells.astype(jnp.uint16)
        return found, logits.argmax(axis=1) if classify else None, peaks

    return shared_out(partial(in_pieces, look), mesh, params, pixels)


@partial(jit, static=("apply", "layer", "shape", "prefix"))
def _weights(
    apply: Apply, layer: str, shape: tuple[int, ...], prefix: int, params: Any, pixels: Any
) -> Float[Array, "channel unit"]:
    """Weights of a linear head on a layer's mean: the gradient of each logit."""

    def logits(channels: Array) -> Array:
        def tap(name: str, x: Array) -> Array:
            if name != layer:
                return x
            everywhere = jnp.broadcast_to(channels.astype(x.dtype), x.shape)
            return everywhere if x.ndim == 4 else x.at[:, prefix:].set(everywhere[:, prefix:])

        return apply(params, pixels, tap)[0].astype(jnp.float32)

    values, pullback = jax.vjp(logits, jnp.zeros(shape[-1], jnp.float32))
    one_hot = jnp.eye(len(values), dtype=jnp.float32)
    rows = jax.lax.map(lambda unit: pullback(unit)[0], one_hot, batch_size=AT_ONCE)
    return rows.T


def _attention(target: Target) -> tuple[str, tuple[int, ...], int]:
    layer = target.attention_layer
    return layer, target.shapes[layer], target.prefix


@dataclass(frozen=True)
class ClassToken:
    """A network whose logits are the channels that a layer has at its class token."""

    apply: Apply
    layer: str

    def __call__(self, params: Any, pixels: Any, tap: Tap) -> Any:
        """Return these channels."""
        values = {}

        def keep(name: str, x: Array) -> Array:
            x = tap(name, x)
            if name == self.layer:
                values[name] = x
            return x

        self.apply(params, pixels, keep)
        return values[self.layer][:, 0].astype(jnp.float32)


def check_units(target: Target, layer: str, pooling: str, cam: str) -> None:
    """Refuse units that can't have maps of their own."""
    if layer == LOGITS:
        check_cam(target, cam)
    if (layer == LOGITS or pooling == "class") and not CAMS[cam].of_class:
        others = ", ".join(name for name, each in CAMS.items() if each.of_class)
        raise InputError(
            f"The attention map {cam!r} is the same for all units: for windows of each unit's own "
            f"(config.crop.of) take one of {others}."
        )
    if layer != LOGITS and pooling == "class":
        names = list(target.shapes)
        if names.index(layer) <= names.index(target.attention_layer):
            raise InputError(
                f"Units at the class token of {layer!r} of {target.name} have no attention maps at "
                f"{target.attention_layer!r}, which comes after it: choose the pooling 'mean' or "
                "'max', a later layer, or config.crop.of='class'."
            )


def unit_maps(
    target: Target,
    pixels: UInt8[Array | np.ndarray, "batch size size 3"],
    units: Int[Array | np.ndarray, "batch unit"],
    layer: str = LOGITS,
    pooling: str = "mean",
    cam: str = "",
) -> Float[Array, "batch unit row column"]:
    """Return the maps of several units of each image, before upsampling.

    The forward pass is computed once for all units of an image, and the backward pass, which
    channels do not need, for each.
    """
    cam = suited(target, cam)
    maps: Array = mapping_units(target, layer, pooling, cam)((pixels, units))
    return maps


def mapping_units(target: Target, layer: str, pooling: str, cam: str) -> partial[Any]:
    """Return the program of `unit_maps`, which takes (pixels, units)."""
    apply, seen = target.apply, _attention(target)
    compute: Callable[[ClassGradient], Any] | None = CAMS[cam].compute
    if layer != LOGITS and pooling == "class":
        apply = ClassToken(target.apply, layer)
    elif layer != LOGITS:
        compute, seen = None, (layer, target.shapes[layer], target.prefix)
    network = apply, target.preprocess, target.mesh, compute, *seen
    return partial(_map_units, *network, target.params)


@partial(jit, static=("apply", "preprocess", "mesh", "compute", "layer", "shape", "prefix"))
def _map_units(
    apply: Apply,
    preprocess: Preprocess,
    mesh: Mesh | None,
    compute: Callable[[ClassGradient], Any] | None,
    layer: str,
    shape: tuple[int, ...],
    prefix: int,
    params: Any,
    rows: Any,
) -> Any:
    def look(params: Any, rows: Any) -> Any:
        pixels, units = rows
        pixels = normalised(preprocess, pixels)
        if compute is None:
            _, values = recorded(apply, params, pixels, (layer,))
            channels = grid(values[layer].astype(jnp.float32), prefix)
            chosen = jnp.take_along_axis(channels, units[:, None, None], axis=3)
            return jax.nn.relu(jnp.moveaxis(chosen, 3, 1))

        # What does not depend on the unit, the forward pass, is not repeated.
        def of_units(chosen: Array) -> Array:
            return compute(class_gradient(apply, params, pixels, chosen, layer, shape, prefix))

        return jax.vmap(of_units, in_axes=1, out_axes=1)(units)

    return shared_out(partial(in_pieces, look), mesh, params, rows)
