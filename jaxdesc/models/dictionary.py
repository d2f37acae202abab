"""Dictionaries: sparse autoencoders and transcoders, whose latents are units of a new layer.

    latents = act((x − centre) W_enc + b_enc)

of what a layer has at each position. A network that a dictionary is added to offers them to taps as
a layer. It goes on as before, unless the tap changes them: then the decoded change is added to the
layer, and the error of the reconstruction stays, so that a latent's effect can be measured alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32
from safetensors.numpy import save_file

from jaxdesc.models.taps import Apply, Asking, Tap, untouched
from jaxdesc.runtime.compiler import jit, product

LATENTS = "/sae"  # behind the name of a layer, that of the latents of its dictionary
RELU, TOP_K, SIGNED_TOP_K, JUMP_RELU = "relu", "top_k", "signed_top_k", "jump_relu"
ACTIVATIONS = {
    RELU: "max(z, 0)",
    TOP_K: "the k largest z of a position, if above zero",
    SIGNED_TOP_K: "the k largest z of a position, of any sign, as saev's TopK",
    JUMP_RELU: "z, if above the threshold and above zero; at inference also batch-top-k",
}
LAYER_NORM = "layer_norm"
NORMALISATIONS = ("", LAYER_NORM)
_EPSILON = 1e-5  # of that normalisation, added to the standard deviation


class Coding(NamedTuple):
    """The computation of latents from a layer, but for the weights.

    Attributes:
        activation: one of `ACTIVATIONS`.
        k: latents per position, for those of the k largest.
        normalise: "layer_norm" if each position is normalised first, to mean 0 and standard
            deviation 1 (Prisma's default).
    """

    activation: str
    k: int = 0
    normalise: str = ""


@dataclass(frozen=True, eq=False)
class Dictionary:
    """A sparse autoencoder, or a transcoder, whose output belongs to another layer.

    Attributes:
        coding: activation, k and normalisation.
        params: weights by name, float32: W_enc [d, m] and b_enc [m]; if it has them, b_pre [d],
            which is subtracted from a layer first, threshold [m] or [], W_dec [m, e], b_dec [e].
        name: for reports.
        notes: what was left out when it was read, a sentence each.
    """

    coding: Coding
    params: Mapping[str, Float32[np.ndarray, "..."]]
    name: str = "dictionary"
    notes: tuple[str, ...] = field(default=())

    @property
    def width(self) -> int:
        """Channels of the layer that it reads, d."""
        return int(self.params["W_enc"].shape[0])

    @property
    def latents(self) -> int:
        """Number of its latents, m."""
        return int(self.params["W_enc"].shape[1])

    def encode(self, x: Float[Array | np.ndarray, "... channel"]) -> Float32[Array, "... latent"]:
        """Return the latents at each position."""
        found: Array = _encode(self.coding, dict(self.params), jnp.asarray(x))
        return found

    def save(self, file: str | PathLike[str]) -> None:
        """Write a safetensors file that says everything, as `load_dictionary` documents it."""
        about = {"activation": self.coding.activation, "normalise": self.coding.normalise}
        tensors = {name: np.asarray(tensor, order="C") for name, tensor in self.params.items()}
        if self.coding.k:
            tensors["k"] = np.array(self.coding.k, np.int64)
        save_file(tensors, file, metadata=about)


def encoded(
    coding: Coding, params: Mapping[str, Any], x: Float[Array, "... channel"]
) -> tuple[Float32[Array, "... latent"], Float[Array, "... 1"] | None]:
    """Return the latents of a layer, and the scale that a normalisation took away."""
    scale, kind = None, x.dtype
    if coding.normalise:
        x = x.astype(jnp.float32)
        x = x - x.mean(axis=-1, keepdims=True)
        scale = x.std(axis=-1, ddof=1, keepdims=True)  # as torch.std
        x = x / (scale + _EPSILON)
    if "b_pre" in params:
        x = x.astype(jnp.float32) - _along(params["b_pre"], x)
    # In bfloat16 if the layer is; sums are float32.
    x, weights = x.astype(kind), params["W_enc"].astype(kind)
    precision = "highest" if kind == jnp.float32 else None
    z = jnp.matmul(x, weights, precision=precision, preferred_element_type=jnp.float32)
    z = z + _along(params["b_enc"], z)
    if coding.activation in (TOP_K, SIGNED_TOP_K):
        z = jnp.where(_among_largest(z, coding.k), z, 0)
    if coding.activation == JUMP_RELU:
        z = jnp.where(z > _along(params["threshold"], z), z, 0)
    return (z if coding.activation == SIGNED_TOP_K else jax.nn.relu(z)), scale


def _among_largest(z: Float32[Array, "... latent"], k: int) -> Bool[Array, "... latent"]:
    """Return which values are among the k largest, and equal to the last of them.

    The k-th largest is found bit by bit, from the highest: 32 passes over the values, which on a
    CPU take a tenth of the time of `jax.lax.top_k`, a sort.
    """
    bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(z), jnp.int32)
    # Numbers without sign in the order of the values; of negative ones all bits count inverted.
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(jnp.uint32) ^ jnp.uint32(1 << 31)

    def step(place: Array, found: Array) -> Array:
        larger = found | (jnp.uint32(1) << (31 - place).astype(jnp.uint32))
        enough = (ordered >= larger).sum(axis=-1, keepdims=True) >= k
        return jnp.where(enough, larger, found)

    least = jax.lax.fori_loop(0, 32, step, jnp.zeros((*z.shape[:-1], 1), jnp.uint32))
    return ordered >= least


def _along(values: Any, x: Array) -> Array:
    """Values of the last axis, or one for all, as an array of as many axes as x."""
    return jnp.reshape(values, (1,) * (x.ndim - 1) + (-1,))


@dataclass(frozen=True)
class WithDictionary:
    """A network that offers the latents of one of its layers too.

    Attributes:
        apply: the network, whose weights are params["network"]; the dictionary's are
            params["dictionary"].
        layer: layer that the dictionary reads.
        name: of the layer of its latents.
        output: layer that a change of the latents changes.
        coding: the dictionary's.
    """

    apply: Apply
    layer: str
    name: str
    output: str
    coding: Coding

    def __call__(self, params: Any, pixels: Any, tap: Tap) -> Any:
        """Return the network's logits."""
        if tap is untouched:
            return self.apply(params["network"], pixels, tap)
        weights, change = params["dictionary"], dict[str, Array]()

        def wider(name: str, x: Array) -> Array:
            x = tap(name, x)
            if name == self.layer:
                latents, scale = encoded(self.coding, weights, x)
                edited = tap(self.name, latents)
                if edited is not latents:
                    decoded = product(edited - latents, weights["W_dec"])
                    change[self.output] = decoded if scale is None else decoded * scale
            return x + change.pop(name).astype(x.dtype) if name in change else x

        kinds = getattr(tap, "names", ())
        return self.apply(params["network"], pixels, Asking(wider, kinds) if kinds else wider)


@partial(jit, static=("coding",))
def _encode(coding: Coding, params: Any, x: Array) -> Array:
    return encoded(coding, params, x)[0]
