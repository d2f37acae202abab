"""The target: the network whose neurons are described."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import get_opaque_trace_state
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, UInt8

from jaxdesc.errors import InputError, as_printed, shown
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.models.dictionary import LATENTS, Dictionary, WithDictionary
from jaxdesc.models.taps import Apply, attention_probs, class_gradient, positions, recorded
from jaxdesc.runtime import fingerprint
from jaxdesc.runtime.compiler import in_pieces, jit
from jaxdesc.runtime.mesh import on_each, shared_out

LOGITS = "fc"
POOLINGS = ("mean", "max", "class")
GRID, TOKENS = "(batch, rows, columns, channels)", "(batch, prefix + patches, channels)"

Pixels = (
    UInt8[Array | np.ndarray, "batch height width 3"]
    | Float[Array | np.ndarray, "batch height width 3"]
)


@dataclass(frozen=True, eq=False)
class Target:
    """A vision network as a function that hands each of its layers to a tap.

    Its methods take pixels as bytes, as `preprocess` cuts them, or as normalised numbers.

    Attributes:
        params: pytree of all its weights.
        apply: (params, pixels [B, H, W, 3], tap) -> logits [B, classes], or None without classes.
            It calls `tap(name, x)` at each layer x that it offers, a grid [B, h, w, N] or tokens
            [B, prefix + h · w, N], and goes on with what the tap returns; not within a scan, a vmap
            or an inner jit. `taps.ATTENTION_PROBS` it offers to taps that ask for them.
        preprocess: preprocessing that it expects.
        classes: names of each class, the usual name first; if empty, nothing is evaluated.
        name: for reports.
        attention: layer that attention maps are of; the last layer if empty.
        mesh: devices among which a batch is split; the default device if None.
        wnids: WordNet id of each class; may be empty.
        notes: what was assumed or stripped when it was read, a sentence each.
        prefix: number of tokens before those of the patches, the class token first, then registers.
        sparse: layers of latents of dictionaries, which are 0 nearly everywhere.
    """

    params: Any
    apply: Apply
    preprocess: Preprocess
    classes: tuple[tuple[str, ...], ...] = ()
    name: str = "target"
    attention: str = ""
    mesh: Mesh | None = None
    wnids: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    prefix: int = 0
    sparse: tuple[str, ...] = ()

    def on(self, mesh: Mesh | None) -> "Target":
        """Copy the weights to each device of a mesh; a batch must split evenly among them."""
        if mesh is None:
            return self
        return replace(self, params=on_each(self.params, mesh), mesh=mesh)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights, of what apply and its gradient compute, and of preprocess."""
        size = self.preprocess.size
        pixels = np.zeros((1, size, size, 3), np.float32)
        program = fingerprint.of_function(self._everything, self.params, pixels)
        return f"{fingerprint.of_weights(self.params)} {program} {self.preprocess}"

    def _everything(self, params: Any, pixels: Array) -> Any:
        logits, values = recorded(self.apply, params, pixels, self.shapes)
        layer = self.attention_layer
        if logits is None or not layer:
            return values, logits
        shape = self.shapes[layer]
        seen = class_gradient(self.apply, params, pixels, None, layer, shape, self.prefix)
        return values, logits, seen.gradient

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each layer for one image.

        It is (classes,), (rows, columns, channels), or (tokens, channels) with the prefix.
        """
        return self.shapes_at(self.preprocess.size, self.preprocess.size)

    def shapes_at(self, height: int, width: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of each layer for one image of another size.

        `InputError` if `apply` is not as `Target` says.
        """
        pixels = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
        expected = "expected apply(params, pixels, tap) -> logits (batch, classes) or None"
        order: list[str] = []  # as offered; eval_shape sorts a dict
        try:
            logits, values = jax.eval_shape(
                lambda params, pixels: self._every_layer(params, pixels, order),
                self.params,
                pixels,
            )
        except InputError:
            raise
        except Exception as error:  # of no fixed type: the user's code
            raise InputError(
                f"apply of {self.name} fails for pixels of shape {pixels.shape}: {shown(error)}; "
                f"{expected}."
            ) from error
        if logits is not None and not hasattr(logits, "shape"):
            raise InputError(f"apply of {self.name} gives {shown(logits)}: {expected}.")
        layers = ({} if logits is None else {LOGITS: logits}) | {
            name: values[name] for name in order
        }
        for name, value in layers.items():
            title, axes, ranks = name, f"{GRID} or {TOKENS}", {3, 4}
            if name == LOGITS:
                title, axes, ranks = "logits", "(batch, classes)", {2}
            if len(value.shape) not in ranks or value.shape[0] != 2 or 0 in value.shape:
                raise InputError(
                    f"{self.name} gives {title} the shape {value.shape} for pixels of shape "
                    f"{pixels.shape}: expected {axes}."
                )
            patches = value.shape[1] - self.prefix
            square = height == width and patches > 0 and math.isqrt(patches) ** 2 == patches
            if len(value.shape) == 3 and not square:
                raise InputError(
                    f"{self.name} gives {title} {value.shape[1]} tokens for {height} × {width} "
                    f"pixels, which without a prefix of {self.prefix} are not a square of patches: "
                    "give square images, and the number of its class tokens and registers as the "
                    "target's prefix."
                )
        return {name: tuple(value.shape[1:]) for name, value in layers.items()}

    def _every_layer(
        self, params: Any, pixels: Array, order: list[str]
    ) -> tuple[Any, dict[str, Array]]:
        values: dict[str, Array] = {}
        trace = get_opaque_trace_state(convention="flax")

        def tap(name: str, x: Array) -> Array:
            if name in (LOGITS, *values):
                raise InputError(
                    f"{self.name} offers its tap a layer {name!r} twice, or one with the name of "
                    f"the logits, {LOGITS!r}: give each layer a unique name."
                )
            if get_opaque_trace_state(convention="flax") != trace:
                raise InputError(
                    f"{self.name} offers its tap the layer {name!r} within a scan, a vmap, a remat "
                    "or a jit, which hides its values: call the tap outside of these."
                )
            values[name] = x
            order.append(name)
            return x

        return self.apply(params, pixels, tap), values

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers whose neurons can be described: "fc", the logits, and those offered to taps."""
        return tuple(self.shapes)

    def only_latents(self, layers: Sequence[str]) -> bool:
        """Return True if all of these layers are latents of dictionaries."""
        return all(layer in self.sparse for layer in layers)

    @property
    def logit_count(self) -> int:
        """Number of logits; 0 for a network without classes."""
        return self.shapes.get(LOGITS, (0,))[0]

    @property
    def attention_layer(self) -> str:
        """Layer that attention maps are of; empty if the network offers none."""
        offered = [name for name in self.layers if name != LOGITS]
        return self.attention or (offered[-1] if offered else "")

    @cached_property
    def attention_blocks(self) -> tuple[str, ...]:
        """Blocks whose attention probabilities the network offers if asked; none for most."""
        side = self.preprocess.size
        pixels = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
        forward = partial(self.apply, self.params)
        return tuple(attention_probs(forward, pixels))

    @cached_property
    def read_at_patches(self) -> frozenset[str]:
        """Layers of tokens with a class token, at whose patches a logit has a gradient.

        Found by the largest logit of a made-up image, in one backward pass for all layers.
        """
        layers = tuple((n, shape) for n, shape in self.shapes.items() if self.class_token(n))
        side = self.preprocess.size
        pixels = np.random.default_rng(0).normal(size=(1, side, side, 3)).astype(np.float32)
        read = _read_at_patches(self.apply, layers, self.prefix, self.params, pixels)
        return frozenset(name for name, is_read in read.items() if is_read)

    def with_dictionary(self, layer: str, dictionary: Dictionary, output: str = "") -> "Target":
        """Return the same network with a further layer: the latents of a dictionary of a layer.

        The new layer is `LAYER/sae`. Editing it changes the layer by the decoded difference; of a
        transcoder, whose decoder predicts another layer, that one, `output`. `InputError` if the
        layer does not exist, is of another width, or has a dictionary already.
        """
        for name in filter(None, (layer, output)):
            self.check_layer(name)
        name, channels = f"{layer}{LATENTS}", self.shapes[layer][-1]
        decoder = dictionary.params.get("W_dec")
        if layer == LOGITS or dictionary.width != channels:
            raise InputError(
                f"{dictionary.name} reads {dictionary.width} channels, but {layer!r} of "
                f"{self.name} has {channels}: give the layer that it was trained on, one of "
                f"{', '.join(n for n in self.layers if n != LOGITS)}."
            )
        if name in self.shapes:
            raise InputError(f"{self.name} has a layer {name!r} already: add only one.")
        if output and decoder is not None and decoder.shape[1] != self.shapes[output][-1]:
            raise InputError(
                f"{dictionary.name} decodes to {decoder.shape[1]} channels, but {output!r} of "
                f"{self.name} has {self.shapes[output][-1]}: give the layer that it predicts."
            )
        names = list(self.shapes)
        if output and names.index(output) < names.index(layer):
            raise InputError(f"{output!r} of {self.name} comes before {layer!r}, its input.")
        return replace(
            self,
            params={
                "network": self.params,
                "dictionary": {n: jnp.asarray(tensor) for n, tensor in dictionary.params.items()},
            },
            apply=WithDictionary(self.apply, layer, name, output or layer, dictionary.coding),
            attention=self.attention_layer,
            notes=(*self.notes, *dictionary.notes),
            sparse=(*self.sparse, name),
        )

    def check_layer(self, layer: str, pooling: str = "mean") -> None:
        """Raise `InputError` for a layer that does not exist, or can't be pooled like this."""
        if layer not in self.shapes:
            layers = ", ".join(self.layers)
            raise InputError(f"Unknown layer {layer!r} of {self.name}: expected one of {layers}.")
        if pooling not in POOLINGS:
            raise InputError(f"Unknown pooling {pooling!r}: expected one of {', '.join(POOLINGS)}.")
        if pooling == "class" and layer != LOGITS and not self.class_token(layer):
            raise InputError(
                f"Layer {layer!r} of {self.name} has no class token to read: choose the pooling "
                "'mean' or 'max'."
            )

    def class_token(self, layer: str) -> bool:
        """Return True for a layer of tokens that starts with a class token."""
        return self.prefix > 0 and len(self.shapes[layer]) == 2

    def logits(self, pixels: Pixels) -> Float[Array, "batch class"]:
        """Return the class logits."""
        return self.activations(pixels)

    def activations(
        self, pixels: Pixels, layer: str = LOGITS, pooling: str = "mean"
    ) -> Float[Array, "batch neuron"]:
        """Return every neuron's activation in a layer: "fc", the logits, or one of channels.

        Channels are pooled by "mean" or "max" over the layer's positions, which a prefix of tokens
        is not among, or are those of the class token ("class"). `InputError` if the layer or the
        pooling does not exist.
        """
        return self.activate(pixels, (layer,), pooling)[0][layer]

    def activate(
        self,
        pixels: Pixels,
        layers: Sequence[str],
        pooling: str = "mean",
        classify: bool = False,
    ) -> tuple[dict[str, Float[Array, "batch _"]], Int[Array, " batch"] | None]:
        """Return the `activations` in several layers, by name, in one pass.

        If asked to classify, return each image's class with the largest logit too.
        """
        for layer in (*layers, *([LOGITS] if classify else ())):
            self.check_layer(layer, pooling)
        found: Any = self.activating(layers, pooling, classify)(pixels)
        return found

    def activating(self, layers: Sequence[str], pooling: str, classify: bool) -> partial[Any]:
        """Return the program of `activate`, which takes pixels."""
        prefix = self.prefix
        options = self.apply, self.preprocess, self.mesh, tuple(layers), pooling, prefix, classify
        return partial(_activate, *options, self.params)

    def check(self, images: Any, *, layer: str = LOGITS, count: int = 64) -> Any:
        """Try it on at most `count` images, spread evenly over those given; print what was found.

        Images are as `jaxdesc.describe` takes them. Return a `stages.check.Check`: the layers with
        their shapes, top-1 and top-5 if labels are known, a sheet of what it sees, and every doubt
        about the activations in `layer`. Raises `InputError` if it can't be used: shapes that do
        not fit, a layer that is missing, NaN; or no image can be used.
        """
        from jaxdesc.images.sources import open_source

        # Stages are above this room, and this method is where users look for theirs.
        look = import_module("jaxdesc.stages.check").look
        found = look(self, open_source(images), layer, count)
        print(as_printed(str(found), sys.stdout))
        return found


def pooled(layer: str, x: Array, pooling: str, prefix: int) -> Float[Array, "batch neuron"]:
    """Return the activations of a layer's neurons, of its value; logits are such already."""
    if layer == LOGITS:
        return x
    x = x.astype(jnp.float32)
    if pooling == "class":
        return x[:, 0]
    over = jnp.mean if pooling == "mean" else jnp.max
    return over(x, axis=(1, 2)) if x.ndim == 4 else over(x[:, prefix:], axis=1)


def normalised(preprocess: Preprocess, pixels: Array) -> Array:
    """Normalise views as they were cut; numbers that are not bytes are normalised already."""
    return preprocess.normalise(pixels) if pixels.dtype == jnp.uint8 else pixels


@partial(jit, static=("apply", "layers", "prefix"))
def _read_at_patches(
    apply: Apply,
    layers: tuple[tuple[str, tuple[int, ...]], ...],
    prefix: int,
    params: Any,
    pixels: Any,
) -> dict[str, Array]:
    def logit(zeros: dict[str, Array]) -> Array:
        logits = apply(
            params, pixels, lambda name, x: x + zeros[name].astype(x.dtype) if name in zeros else x
        )
        return logits.max()

    zeros = {name: jnp.zeros((len(pixels), *shape), jnp.float32) for name, shape in layers}
    gradients = jax.grad(logit)(zeros)
    return {name: (positions(g, prefix) != 0).any() for name, g in gradients.items()}


# XLA computes only what a program returns: layers that are not asked for cost nothing.
@partial(jit, static=("apply", "preprocess", "mesh", "layers", "pooling", "prefix", "classify"))
def _activate(
    apply: Apply,
    preprocess: Preprocess,
    mesh: Mesh | None,
    layers: tuple[str, ...],
    pooling: str,
    prefix: int,
    classify: bool,
    params: Any,
    pixels: Any,
) -> tuple[dict[str, Array], Array | None]:
    def activate(params: Any, pixels: Array) -> tuple[dict[str, Array], Array | None]:
        logits, values = recorded(apply, params, normalised(preprocess, pixels), layers)
        values[LOGITS] = logits
        found = {name: pooled(name, values[name], pooling, prefix) for name in layers}
        return found, logits.argmax(axis=1) if classify else None

    found: tuple[dict[str, Array], Array | None] = shared_out(
        partial(in_pieces, activate), mesh, params, pixels
    )
    return found
