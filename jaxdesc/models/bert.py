"""BERT and MPNet in Flax NNX: the transformers of sentence-transformers' encoders.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
NAACL 2019. Song et al., "MPNet: Masked and Permuted Pre-training for Language Understanding",
NeurIPS 2020; its relative positions are T5's (Raffel et al., JMLR 2020). Names and numbers follow
`BertModel` and `MPNetModel` of Hugging Face transformers, to whose outputs these agree.
"""

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from jaxdesc.errors import InputError
from jaxdesc.models.clip import exact_gelu
from jaxdesc.models.precision import float32_products
from jaxdesc.models.settings import LARGEST, MOST_LAYERS
from jaxdesc.models.traces import traced_once

# MPNet's constants, which no config changes.
PADDING_ID = 1
DISTANCE_BUCKETS = 32
LARGEST_DISTANCE = 128

# Fields of Hugging Face's configs that change the network, of which one value is implemented.
FIXED_FIELDS: dict[str, Any] = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "relative_attention_num_buckets": DISTANCE_BUCKETS,
    "is_decoder": False,
    "add_cross_attention": False,
    "pruned_heads": {},
    "quantization_config": None,
}


@dataclass(frozen=True)
class BertConfig:
    """The sizes of a BERT or an MPNet, under Hugging Face's names.

    Raises:
        InputError: sizes that no network can have.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12

    def __post_init__(self) -> None:
        sizes = [getattr(self, field.name) for field in fields(self) if field.type is int]
        possible = min(sizes) >= 1 and max(sizes) <= LARGEST and math.isfinite(self.layer_norm_eps)
        if not possible or self.hidden_size % self.num_attention_heads:
            raise InputError(
                f"{self} describes no network: expected positive sizes, and hidden_size a multiple "
                "of num_attention_heads; correct these entries of config.json."
            )
        if self.num_hidden_layers > MOST_LAYERS:
            raise InputError(
                f"num_hidden_layers = {self.num_hidden_layers} (expected at most {MOST_LAYERS}); "
                "correct this entry of config.json."
            )

    @classmethod
    def from_huggingface(cls, entries: dict[str, Any]) -> "BertConfig":
        """Read the entries of a `config.json`; those of no effect here are ignored.

        Raises:
            InputError: an entry is missing or of the wrong type, or sets what is not implemented.
        """
        types = {field.name: (int, float) if field.type is float else int for field in fields(cls)}
        optional = {"type_vocab_size", "layer_norm_eps"}
        problems = [
            f"{key} = {entries.get(key)!r} (expected a number)"
            for key, kind in types.items()
            if not isinstance(entries.get(key, 0 if key in optional else None), kind)
        ]
        problems += [
            f"{key} = {entries[key]!r} (only {value!r} is implemented)"
            for key, value in FIXED_FIELDS.items()
            if entries.get(key, value) != value
        ]
        if problems:
            raise InputError(
                f"config.json sets {', '.join(problems)}; use a checkpoint without these, or "
                "correct the file."
            )
        return cls(**{key: entries[key] for key in types if key in entries})


def _layer_norm(config: BertConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    # The two-pass variance, as the reference computes it: E[x²] − E[x]² would lose digits.
    return nnx.LayerNorm(
        config.hidden_size, epsilon=config.layer_norm_eps, use_fast_variance=False, rngs=rngs
    )


class Attention(nnx.Module):
    """Multi-head self-attention."""

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.query = nnx.Linear(width, width, rngs=rngs)
        self.key = nnx.Linear(width, width, rngs=rngs)
        self.value = nnx.Linear(width, width, rngs=rngs)
        self.output = nnx.Linear(width, width, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "batch length width"],
        mask: Bool[Array, "batch length"],
        bias: Float[Array, "1 heads length length"] | None,
    ) -> Float[Array, "batch length width"]:
        """Return the mixed tokens; `bias` is added to the scaled products of queries and keys."""
        split = (*x.shape[:-1], self.heads, x.shape[-1] // self.heads)
        query, key, value = (f(x).reshape(split) for f in (self.query, self.key, self.value))
        mixed = jax.nn.dot_product_attention(
            query, key, value, bias=bias, mask=mask[:, None, None, :]
        )
        return self.output(mixed.reshape(x.shape))


class EncoderLayer(nnx.Module):
    """A post-norm transformer layer: attention, then a two-layer perceptron."""

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        width, inner = config.hidden_size, config.intermediate_size
        self.attention = Attention(config, rngs=rngs)
        self.attention_norm = _layer_norm(config, rngs)
        self.intermediate = nnx.Linear(width, inner, rngs=rngs)
        self.output = nnx.Linear(inner, width, rngs=rngs)
        self.output_norm = _layer_norm(config, rngs)

    def __call__(
        self,
        x: Float[Array, "batch length width"],
        mask: Bool[Array, "batch length"],
        bias: Float[Array, "1 heads length length"] | None,
    ) -> Float[Array, "batch length width"]:
        """Return the tokens after this layer."""
        x = self.attention_norm(x + self.attention(x, mask, bias))
        return self.output_norm(x + self.output(exact_gelu(self.intermediate(x))))


class Encoder(nnx.Module):
    """What BERT and MPNet share; their poolers, which no mean over tokens reads, are left out.

    Args:
        config: the sizes.
        rngs: the source of the initial weights, which a checkpoint's replace.
    """

    # How many rows of the table of positions stand before the first token's.
    first_position: ClassVar[int] = 0

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        width, depth = config.hidden_size, range(config.num_hidden_layers)
        self.config = config
        self.word_embeddings = nnx.Embed(config.vocab_size, width, rngs=rngs)
        self.position_embeddings = nnx.Embed(config.max_position_embeddings, width, rngs=rngs)
        self.norm = _layer_norm(config, rngs)
        self.layers = nnx.List([EncoderLayer(config, rngs=rngs) for _ in depth])

    def positions(self, ids: Int[Array, "batch length"]) -> Int[Array, "batch length"]:
        """Return each token's row of the table of positions: its place."""
        return jnp.broadcast_to(jnp.arange(ids.shape[1], dtype=ids.dtype), ids.shape)

    def embed(self, ids: Int[Array, "batch length"]) -> Float[Array, "batch length width"]:
        """Return the sum of each token's embeddings."""
        return self.word_embeddings(ids) + self.position_embeddings(self.positions(ids))

    def bias(self, _length: int) -> Float[Array, "1 heads length length"] | None:
        """Return what every layer's attention adds to its products."""
        return None

    def hidden_states(
        self, ids: Int[Array, "batch length"], mask: Bool[Array, "batch length"]
    ) -> list[Float[Array, "batch length width"]]:
        """Return the tokens before the first layer and after each.

        Args:
            ids: token ids.
            mask: true where a token belongs to its text.
        """
        states = [self.norm(self.embed(ids))]
        bias = self.bias(ids.shape[1])
        for layer in self.layers:
            states.append(traced_once(layer, states[-1], mask, bias))
        return states

    @float32_products
    def encode(
        self, ids: Int[Array, "batch length"], mask: Bool[Array, "batch length"]
    ) -> Float[Array, "batch width"]:
        """Return one unit vector per text: the mean of its tokens, normalised.

        Args:
            ids: token ids.
            mask: true where a token belongs to its text.
        """
        tokens = jnp.where(mask[..., None], self.hidden_states(ids, mask)[-1], 0).sum(axis=1)
        mean = tokens / mask.sum(axis=1, keepdims=True).astype(tokens.dtype)
        return mean / jnp.linalg.norm(mean, axis=-1, keepdims=True)


class Bert(Encoder):
    """BERT, for one text at a time."""

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        self.token_type_embeddings = nnx.Embed(
            config.type_vocab_size, config.hidden_size, rngs=rngs
        )

    def embed(self, ids: Int[Array, "batch length"]) -> Float[Array, "batch length width"]:
        """Return the sum of each token's embeddings; all are of the first type."""
        return super().embed(ids) + self.token_type_embeddings(jnp.zeros((1, 1), ids.dtype))


class MPNet(Encoder):
    """MPNet: relative positions beside the absolute ones, and no token types."""

    # As in RoBERTa, whose table this is: the padding's row, and one before it.
    first_position = PADDING_ID + 1

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        self.relative_attention_bias = nnx.Embed(
            DISTANCE_BUCKETS, config.num_attention_heads, rngs=rngs
        )

    def positions(self, ids: Int[Array, "batch length"]) -> Int[Array, "batch length"]:
        """Return each token's row of the table of positions, which pass over the padding's id."""
        own = (ids != PADDING_ID).astype(ids.dtype)
        return jnp.cumsum(own, axis=1) * own + PADDING_ID

    def bias(self, length: int) -> Float[Array, "1 heads length length"]:
        """Return a number for each distance and head, from one table for all layers."""
        places = np.arange(length, dtype=np.int32)
        buckets = distance_bucket(places[None, :] - places[:, None])
        return jnp.moveaxis(self.relative_attention_bias(jnp.asarray(buckets)), -1, 0)[None]


def distance_bucket(distances: Int[np.ndarray, "*shape"]) -> Int[np.ndarray, "*shape"]:
    """Return the bucket of each distance (key minus query), as T5 and MPNet share them.

    Half of the buckets are for keys behind the query. Of each half, the first half holds one
    distance each, and the rest grow with the logarithm up to `LARGEST_DISTANCE`.
    """
    half = DISTANCE_BUCKETS // 2
    exact = half // 2
    size = np.abs(distances)
    # In float32, as the reference computes it: at a bucket's edge the rounding decides.
    logarithm = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact))
    growth = logarithm / np.float32(np.log(LARGEST_DISTANCE / exact)) * np.float32(half - exact)
    large = np.minimum(exact + growth.astype(np.int32), half - 1)
    return np.where(size < exact, size, large) + half * (distances > 0)
