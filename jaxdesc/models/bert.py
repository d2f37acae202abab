"""BERT and MPNet in Flax NNX: the transformers of sentence-transformers' encoders.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
NAACL 2019. Song et al., "MPNet: Masked and Permuted Pre-training for Language Understanding",
NeurIPS 2020; its relative positions are T5's (Raffel et al., JMLR 2020). Names and numbers follow
`BertModel` and `MPNetModel` of Hugging Face transformers, to whose outputs these agree.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from jaxdesc.errors import InputError
from jaxdesc.models.checkpoint import PYTORCH, Row, Table
from jaxdesc.models.clip import Attention, layer_norm
from jaxdesc.models.clip_config import ACTIVATIONS
from jaxdesc.models.precision import float32_products
from jaxdesc.models.settings import DEPTH, NUMBER, POSITIVE, misfits, only
from jaxdesc.models.traces import traced_once

# MPNet's constants, which no config changes.
PADDING_ID = 1
DISTANCE_BUCKETS = 32
LARGEST_DISTANCE = 128

STD = 0.02  # of initial weights, which a checkpoint's replace

# Entries of Hugging Face's configs that are read, or that would make it another network.
SIZES = {
    **dict.fromkeys(("vocab_size", "hidden_size", "num_attention_heads"), POSITIVE),
    **dict.fromkeys(("intermediate_size", "max_position_embeddings"), POSITIVE),
    "num_hidden_layers": DEPTH,
}
SETTINGS = SIZES | {
    "type_vocab_size": POSITIVE,
    "layer_norm_eps": NUMBER,
    "hidden_act": only("gelu"),
    "position_embedding_type": only("absolute"),
    "relative_attention_num_buckets": only(DISTANCE_BUCKETS),
    "is_decoder": only(False),
    "add_cross_attention": only(False),
    "pruned_heads": only({}),
    "quantization_config": only(None),
}


@dataclass(frozen=True)
class BertConfig:
    """The sizes of a BERT or an MPNet, under Hugging Face's names."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12

    @classmethod
    def from_huggingface(cls, entries: dict[str, Any]) -> "BertConfig":
        """Read the entries of a `config.json`; those without an effect here are ignored.

        Raises:
            InputError: an entry is missing or of the wrong type, or sets what is not implemented.
        """
        problems = misfits(SETTINGS, dict.fromkeys(SIZES) | entries)
        if not problems and entries["hidden_size"] % entries["num_attention_heads"]:
            problems.append(
                f"hidden_size = {entries['hidden_size']} (expected a multiple of "
                f"num_attention_heads = {entries['num_attention_heads']})"
            )
        if problems:
            raise InputError(
                f"config.json sets {', '.join(problems)}; use a checkpoint without these, or "
                "correct the file."
            )
        names = [field.name for field in fields(cls)]
        return cls(**{name: entries[name] for name in names if name in entries})


class EncoderLayer(nnx.Module):
    """A post-norm transformer layer: attention, then a two-layer perceptron."""

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        width, inner = config.hidden_size, config.intermediate_size
        self.attention = Attention(
            width, config.num_attention_heads, causal=False, stds=(STD, STD), rngs=rngs
        )
        self.attention_norm = layer_norm(config, rngs)
        self.intermediate = nnx.Linear(width, inner, rngs=rngs)
        self.output = nnx.Linear(inner, width, rngs=rngs)
        self.output_norm = layer_norm(config, rngs)

    def __call__(
        self,
        x: Float[Array, "batch length width"],
        mask: Bool[Array, "batch 1 1 length"],
        bias: Float[Array, "1 heads length length"] | None,
    ) -> Float[Array, "batch length width"]:
        """Return the tokens after this layer."""
        x = self.attention_norm(x + self.attention(x, mask, bias))
        return self.output_norm(x + self.output(ACTIVATIONS["gelu"](self.intermediate(x))))


class Encoder(nnx.Module):
    """Base of BERT and MPNet, without their poolers, which a mean over tokens doesn't read.

    Args:
        config: the sizes.
        rngs: the source of the initial weights, which a checkpoint's replace.
    """

    first_position: ClassVar[int] = 0  # row of the table of positions for the first token

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        width, depth = config.hidden_size, range(config.num_hidden_layers)
        self.config = config
        self.word_embeddings = nnx.Embed(config.vocab_size, width, rngs=rngs)
        self.position_embeddings = nnx.Embed(config.max_position_embeddings, width, rngs=rngs)
        self.norm = layer_norm(config, rngs)
        self.layers = nnx.List([EncoderLayer(config, rngs=rngs) for _ in depth])

    def positions(self, ids: Int[Array, "batch length"]) -> Int[Array, "batch length"]:
        """Return each token's row of the table of positions."""
        return jnp.broadcast_to(jnp.arange(ids.shape[1], dtype=ids.dtype), ids.shape)

    def embed(self, ids: Int[Array, "batch length"]) -> Float[Array, "batch length width"]:
        """Return the sum of each token's embeddings."""
        return self.word_embeddings(ids) + self.position_embeddings(self.positions(ids))

    def bias(self, _length: int) -> Float[Array, "1 heads length length"] | None:
        """Return the numbers that every layer's attention adds to its products, if any."""
        return None

    def hidden_states(
        self, ids: Int[Array, "batch length"], mask: Bool[Array, "batch length"]
    ) -> list[Float[Array, "batch length width"]]:
        """Return the tokens before the first layer and after each.

        Args:
            ids: token ids.
            mask: true for tokens that belong to its text.
        """
        states = [self.norm(self.embed(ids))]
        bias = self.bias(ids.shape[1])
        for layer in self.layers:
            states.append(traced_once(layer, states[-1], mask[:, None, None, :], bias))
        return states

    @float32_products
    def encode(
        self, ids: Int[Array, "batch length"], mask: Bool[Array, "batch length"]
    ) -> Float[Array, "batch width"]:
        """Return one unit vector per text: the mean of its tokens, normalised.

        Args:
            ids: token ids.
            mask: true for tokens that belong to its text.
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
    """MPNet: relative positions besides the absolute ones, and no token types."""

    # As in RoBERTa, whose table this is: after the padding's row, and one before it.
    first_position = PADDING_ID + 1

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        self.relative_attention_bias = nnx.Embed(
            DISTANCE_BUCKETS, config.num_attention_heads, rngs=rngs
        )

    def positions(self, ids: Int[Array, "batch length"]) -> Int[Array, "batch length"]:
        """Return each token's row of the table of positions, which skip padding."""
        real = (ids != PADDING_ID).astype(ids.dtype)
        return jnp.cumsum(real, axis=1) * real + PADDING_ID

    def bias(self, length: int) -> Float[Array, "1 heads length length"]:
        """Return a number for each distance and head, from one table for all layers."""
        positions = np.arange(length, dtype=np.int32)
        buckets = distance_bucket(positions[None, :] - positions[:, None])
        return jnp.moveaxis(self.relative_attention_bias(jnp.asarray(buckets)), -1, 0)[None]


def distance_bucket(distances: Int[np.ndarray, "*shape"]) -> Int[np.ndarray, "*shape"]:
    """Return the bucket of each distance (key minus query), as T5 and MPNet share them.

    Half of the buckets are for keys after the query. In each half, the first buckets hold one
    distance each, and the others grow with the logarithm up to `LARGEST_DISTANCE`.
    """
    half = DISTANCE_BUCKETS // 2
    exact = half // 2
    size = np.abs(distances)
    # In float32, as the reference computes it: at a bucket's edge, rounding decides.
    logarithm = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact))
    growth = logarithm / np.float32(np.log(LARGEST_DISTANCE / exact)) * np.float32(half - exact)
    large = np.minimum(exact + growth.astype(np.int32), half - 1)
    return np.where(size < exact, size, large) + half * (distances > 0)


_SHARED_ROWS = (
    Row(r"(word|position)_embeddings\.embedding", r"embeddings.\1_embeddings.weight"),
    *PYTORCH.norm_rows("norm", "embeddings.LayerNorm"),
    *PYTORCH.dense_rows(r"layers\.(\d+)\.intermediate", r"encoder.layer.\1.intermediate.dense"),
    *PYTORCH.dense_rows(r"layers\.(\d+)\.output", r"encoder.layer.\1.output.dense"),
    *PYTORCH.norm_rows(r"layers\.(\d+)\.output_norm", r"encoder.layer.\1.output.LayerNorm"),
)
_OURS, _THEIRS = r"layers\.(\d+)\.attention", r"encoder.layer.\1.attention"
ROWS = {
    "bert": (
        *_SHARED_ROWS,
        Row(r"token_type_embeddings\.embedding", "embeddings.token_type_embeddings.weight"),
        *PYTORCH.dense_rows(rf"{_OURS}\.q_proj", f"{_THEIRS}.self.query"),
        *PYTORCH.dense_rows(rf"{_OURS}\.k_proj", f"{_THEIRS}.self.key"),
        *PYTORCH.dense_rows(rf"{_OURS}\.v_proj", f"{_THEIRS}.self.value"),
        *PYTORCH.dense_rows(rf"{_OURS}\.out_proj", f"{_THEIRS}.output.dense"),
        *PYTORCH.norm_rows(rf"{_OURS}_norm", f"{_THEIRS}.output.LayerNorm"),
    ),
    "mpnet": (
        *_SHARED_ROWS,
        Row(r"relative_attention_bias\.embedding", "encoder.relative_attention_bias.weight"),
        *PYTORCH.dense_rows(rf"{_OURS}\.(q|k|v)_proj", rf"{_THEIRS}.attn.\2"),
        *PYTORCH.dense_rows(rf"{_OURS}\.out_proj", f"{_THEIRS}.attn.o"),
        *PYTORCH.norm_rows(rf"{_OURS}_norm", f"{_THEIRS}.LayerNorm"),
    ),
}
# Tensors that a mean over tokens does not read: the pooler, positions counted from 0, tasks' heads.
_IGNORED = r"({kind}\.)?(pooler\.dense\..*|embeddings\.position_ids)|(cls|lm_head)\..*"

NETWORKS: dict[str, type[Encoder]] = {"bert": Bert, "mpnet": MPNet}


def table_of(kind: str, tensors: Mapping[str, Any]) -> Table:
    """Return the table of a kind's checkpoint.

    A task's checkpoint names its encoder's tensors with the kind as a prefix, an encoder's without.
    """
    prefix = f"{kind}." if any(name.startswith(f"{kind}.") for name in tensors) else ""
    rows = tuple(row._replace(tensor=prefix + row.tensor) for row in ROWS[kind])
    return Table(rows, _IGNORED.format(kind=kind))
