"""Transformer layers in Flax NNX, which vision transformers, CLIP's towers, BERT and MPNet share.

The names are those of Hugging Face's CLIP.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from jaxdesc.models.settings import DEPTH, NUMBER, POSITIVE, one_of, only
from jaxdesc.models.taps import ATTENTION_PROBS, Tap, asks, untouched

Tokens = Float[Array, "batch length features"]
Mask = Bool[Array, "batch 1 1 length"]  # true for tokens that may be attended to
Bias = Float[Array, "1 heads length length"]  # added to the scaled products of queries and keys

normal = nnx.initializers.normal

# OpenAI's weights were trained with the approximation x σ(1.702 x); Hugging Face's "gelu" is x Φ(x)
# with the exact normal distribution function.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_pytorch_tanh": lambda x: jax.nn.gelu(x, approximate=True),  # SigLIP's
}
# Entries of Hugging Face's configs that every transformer reads, or that would make it another.
SETTINGS = {
    **dict.fromkeys(("hidden_size", "intermediate_size", "num_attention_heads"), POSITIVE),
    "num_hidden_layers": DEPTH,
    "hidden_act": one_of(ACTIVATIONS),
    "layer_norm_eps": NUMBER,
    "pruned_heads": only({}),
    "quantization_config": only(None),
}


@dataclass(frozen=True)
class TransformerConfig:
    """The sizes of a transformer, under Hugging Face's names."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5


def head_misfits(entries: Mapping[str, Any], where: str = "") -> list[str]:
    """List the width if the heads can't share it evenly; all entries fit `SETTINGS`."""
    width, heads = entries["hidden_size"], entries["num_attention_heads"]
    expected = f"(expected a multiple of num_attention_heads = {heads})"
    return [f"{where}hidden_size = {width} {expected}"] if width % heads else []


def linear(inputs: int, outputs: int, std: float, rngs: nnx.Rngs, bias: bool = True) -> nnx.Linear:
    """Return a linear layer with normal initial weights."""
    return nnx.Linear(inputs, outputs, use_bias=bias, kernel_init=normal(std), rngs=rngs)


def layer_norm(config: TransformerConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Return a LayerNorm of a config's width and epsilon."""
    # E[x²] − E[x]² loses digits if a token's mean is far from zero, as CLIP's outlier channels
    # make it; the two-pass variance is what the reference computes.
    return nnx.LayerNorm(
        config.hidden_size, epsilon=config.layer_norm_eps, use_fast_variance=False, rngs=rngs
    )


class Attention(nnx.Module):
    """Multi-head attention; if causal, a token sees only itself and those before it."""

    def __init__(
        self, config: TransformerConfig, residual: float, causal: bool = False, *, rngs: nnx.Rngs
    ):
        width = config.hidden_size
        self.causal, self.heads = causal, config.num_attention_heads
        self.q_proj = linear(width, width, residual, rngs)
        self.k_proj = linear(width, width, residual, rngs)
        self.v_proj = linear(width, width, residual, rngs)
        self.out_proj = linear(width, width, width**-0.5, rngs)

    def __call__(
        self,
        x: Tokens,
        mask: Mask | None = None,
        bias: Bias | None = None,
        queries: Float[Array, "batch query features"] | None = None,
        tap: Tap = untouched,
        name: str = "",
    ) -> Float[Array, "batch query features"]:
        """Mix the tokens, for each of them, or for each of other queries.

        If the tap asks for them, it gets the probabilities [batch, head, query, key] as `name`,
        unless there is a mask or a bias.
        """
        asking = x if queries is None else queries
        projections = (self.q_proj, asking), (self.k_proj, x), (self.v_proj, x)
        split = self.heads, x.shape[-1] // self.heads
        query, key, value = (f(y).reshape(*y.shape[:-1], *split) for f, y in projections)
        if asks(tap, ATTENTION_PROBS) and mask is None and bias is None and not self.causal:
            # As XLA's dot_product_attention does, with the softmax in float32.
            products = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
            probs = jax.nn.softmax(products * split[-1] ** -0.5, axis=-1).astype(key.dtype)
            mixed = jnp.einsum("bhqk,bkhd->bqhd", tap(name, probs), value)
        else:
            mixed = jax.nn.dot_product_attention(
                query, key, value, bias=bias, mask=mask, is_causal=self.causal
            )
        return self.out_proj(mixed.reshape(asking.shape))


class Layer(nnx.Module):
    """Attention, then a two-layer perceptron, each around a shortcut.

    LayerNorm is in front of both (pre-norm, as in CLIP) or behind both sums (post-norm, as in
    BERT). Scaled, what is added to a shortcut is multiplied by a vector (LayerScale, Touvron et
    al., ICCV 2021); gated, the perceptron is SwiGLU (Shazeer 2020). The initial weights have the
    standard deviations of Hugging Face's CLIP.
    """

    def __init__(
        self,
        config: TransformerConfig,
        *,
        causal: bool,
        post_norm: bool,
        scaled: bool,
        gated: bool,
        rngs: nnx.Rngs,
    ):
        width, inner = config.hidden_size, config.intermediate_size
        residual = width**-0.5 * (2 * config.num_hidden_layers) ** -0.5
        self.post_norm = post_norm
        self.activation = ACTIVATIONS[config.hidden_act]
        self.layer_norm1 = layer_norm(config, rngs)
        self.self_attn = Attention(config, residual, causal, rngs=rngs)
        self.layer_norm2 = layer_norm(config, rngs)
        self.fc1 = linear(width, inner, (2 * width) ** -0.5, rngs)
        self.fc2 = linear(inner, width, residual, rngs)
        self.gate = linear(width, inner, (2 * width) ** -0.5, rngs) if gated else None
        self.scale1 = nnx.Param(jnp.ones(width)) if scaled else None
        self.scale2 = nnx.Param(jnp.ones(width)) if scaled else None

    def __call__(
        self,
        x: Tokens,
        mask: Mask | None = None,
        bias: Bias | None = None,
        tap: Tap = untouched,
        name: str = "",
    ) -> Tokens:
        """Return the tokens after this layer.

        Pre-norm, the tap gets the first norm `name/norm1`, attention's output `name/attention`, the
        perceptron's hidden units `name/mlp`, and what is returned, the residual stream, as `name`;
        if it asks for them, attention's probabilities `name/attention_probs` too.
        """
        if self.post_norm:
            x = self.layer_norm1(x + self.self_attn(x, mask, bias))
            return self.layer_norm2(x + self.fc2(self.activation(self.fc1(x))))
        normed = tap(f"{name}/norm1", self.layer_norm1(x))
        mixed = self.self_attn(normed, mask, bias, tap=tap, name=f"{name}/{ATTENTION_PROBS}")
        mixed = tap(f"{name}/attention", mixed)
        x = x + (mixed if self.scale1 is None else mixed * self.scale1[...][None, None])
        normed = self.layer_norm2(x)
        hidden = self.fc1(normed)
        if self.gate is None:
            hidden = self.activation(hidden)
        else:
            hidden = jax.nn.silu(self.gate(normed)) * hidden
        added = self.fc2(tap(f"{name}/mlp", hidden))
        x = x + (added if self.scale2 is None else added * self.scale2[...][None, None])
        return tap(name, x)


class AttentionPool(nnx.Module):
    """A learned query that attends to all tokens, then a perceptron around a shortcut.

    The multihead attention pooling of Zhai et al., "Scaling Vision Transformers", CVPR 2022.
    """

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        width, inner = config.hidden_size, config.intermediate_size
        self.activation = ACTIVATIONS[config.hidden_act]
        self.probe = nnx.Param(normal(1.0)(rngs.params(), (width,)))
        self.attention = Attention(config, width**-0.5, rngs=rngs)
        self.layernorm = layer_norm(config, rngs)
        self.fc1 = linear(width, inner, width**-0.5, rngs)
        self.fc2 = linear(inner, width, inner**-0.5, rngs)

    def __call__(self, x: Tokens) -> Float[Array, "batch features"]:
        """Return one vector per row."""
        probe = jnp.broadcast_to(self.probe[...], (len(x), 1, x.shape[-1])).astype(x.dtype)
        pooled = self.attention(x, queries=probe)[:, 0]
        return pooled + self.fc2(self.activation(self.fc1(self.layernorm(pooled))))


def layers(
    config: TransformerConfig,
    *,
    causal: bool = False,
    post_norm: bool = False,
    scaled: bool = False,
    gated: bool = False,
    rngs: nnx.Rngs,
) -> list[Layer]:
    """Return all layers of a transformer."""
    depth = range(config.num_hidden_layers)
    kind = {"causal": causal, "post_norm": post_norm, "scaled": scaled, "gated": gated}
    return [Layer(config, **kind, rngs=rngs) for _ in depth]


def encoded(layers: Iterable[Layer], x: Tokens, tap: Tap = untouched) -> Tokens:
    """Return the tokens after every layer; layer i offers its parts as `blocks.i`, `blocks.i/…`."""
    for index, layer in enumerate(layers):
        # A tap can't be called within the program that equal layers share.
        shared = tap is untouched
        x = traced_once(layer, x) if shared else layer(x, tap=tap, name=f"blocks.{index}")
    return x


def traced_once(module: nnx.Module, *arguments: Any) -> Any:
    """Return `module(*arguments)`; modules of one structure and shape share their trace.

    A program with a dozen equal layers is traced and lowered in half the time; XLA inlines them and
    compiles the same program. The modules must not change their own state.
    """
    return _applied(*nnx.split(module), *arguments)


@partial(jax.jit, static_argnums=0)
def _applied(graph: Any, params: Any, *arguments: Any) -> Any:
    return nnx.merge(graph, params)(*arguments)
