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
from jaxdesc.models import transformer
from jaxdesc.models.checkpoint import Table, pytorch_table
from jaxdesc.models.precision import float32_products
from jaxdesc.models.settings import DEPTH, POSITIVE, misfits, only

Ids = Int[Array, "batch length"]
Real = Bool[Array, "batch length"]  # true for tokens that belong to their row's text

# MPNet's constants, which no config changes.
PADDING_ID = 1
DISTANCE_BUCKETS = 32
LARGEST_DISTANCE = 128

# Entries of Hugging Face's configs that are read, or that would make it another network.
SIZES = {
    **dict.fromkeys(("vocab_size", "hidden_size", "num_attention_heads"), POSITIVE),
    **dict.fromkeys(("intermediate_size", "max_position_embeddings"), POSITIVE),
    "num_hidden_layers": DEPTH,
}
SETTINGS = {
    **SIZES,
    **transformer.SETTINGS,
    "type_vocab_size": POSITIVE,
    "hidden_act": only("gelu"),
    "position_embedding_type": only("absolute"),
    "relative_attention_num_buckets": only(DISTANCE_BUCKETS),
    **dict.fromkeys(("is_decoder", "add_cross_attention"), only(False)),
}


@dataclass(frozen=True, kw_only=True)
class BertConfig(transformer.TransformerConfig):
    """The sizes of a BERT or an MPNet, under Hugging Face's names."""

    vocab_size: int
    max_position_embeddings: int
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12

    @classmethod
    def from_huggingface(cls, entries: dict[str, Any]) -> "BertConfig":
        """Read the entries of a `config.json`; those without an effect here are ignored.

        Raises `InputError` for missing entries, and for those that are not implemented.
        """
        problems = misfits(SETTINGS, dict.fromkeys(SIZES) | entries)
        problems = problems or transformer.head_misfits(entries)
        if problems:
            raise InputError(
                f"config.json sets {', '.join(problems)}; use a checkpoint without these, or "
                "correct the file."
            )
        names = [field.name for field in fields(cls)]
        return cls(**{name: entries[name] for name in names if name in entries})


class Encoder(nnx.Module):
    """Base of BERT and MPNet, without their poolers, which a mean over tokens doesn't read."""

    first_position: ClassVar[int] = 0  # row of the table of positions for the first token

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        width = config.hidden_size
        self.config = config
        self.word_embeddings = nnx.Embed(config.vocab_size, width, rngs=rngs)
        self.position_embeddings = nnx.Embed(config.max_position_embeddings, width, rngs=rngs)
        self.norm = transformer.layer_norm(config, rngs)
        self.layers = nnx.List(transformer.layers(config, post_norm=True, rngs=rngs))

    def positions(self, ids: Ids) -> Ids:
        """Return each token's row of the table of positions."""
        return jnp.broadcast_to(jnp.arange(ids.shape[1], dtype=ids.dtype), ids.shape)

    def embed(self, ids: Ids) -> transformer.Tokens:
        """Return the sum of each token's embeddings."""
        return self.word_embeddings(ids) + self.position_embeddings(self.positions(ids))

    def bias(self, _length: int) -> transformer.Bias | None:
        """Return the numbers that every layer's attention adds to its products, if any."""
        return None

    def hidden_states(self, ids: Ids, mask: Real) -> list[transformer.Tokens]:
        """Return the tokens before the first layer and after each."""
        states = [self.norm(self.embed(ids))]
        bias = self.bias(ids.shape[1])
        for layer in self.layers:
            states.append(transformer.traced_once(layer, states[-1], mask[:, None, None, :], bias))
        return states

    @float32_products
    def encode(self, ids: Ids, mask: Real) -> Float[Array, "batch features"]:
        """Return one unit vector per text: the mean of its tokens, normalised."""
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

    def embed(self, ids: Ids) -> transformer.Tokens:
        """Return the sum of each token's embeddings; all are of the first type."""
        return super().embed(ids) + self.token_type_embeddings(jnp.zeros((1, 1), ids.dtype))


class MPNet(Encoder):
    """MPNet: relative positions besides the absolute ones, and no token types."""

    # As in RoBERTa: rows up to the padding's are not positions.
    first_position = PADDING_ID + 1

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        self.relative_attention_bias = nnx.Embed(
            DISTANCE_BUCKETS, config.num_attention_heads, rngs=rngs
        )

    def positions(self, ids: Ids) -> Ids:
        """Return each token's row of the table of positions, which skip padding."""
        real = (ids != PADDING_ID).astype(ids.dtype)
        return jnp.cumsum(real, axis=1) * real + PADDING_ID

    def bias(self, length: int) -> transformer.Bias:
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


_OURS, _THEIRS = r"layers\.(\d+)", r"encoder.layer.\1"
_SHARED_ROWS = {
    r"(word|position)_embeddings": r"embeddings.\1_embeddings",
    "norm": "embeddings.LayerNorm",
    rf"{_OURS}\.fc1": f"{_THEIRS}.intermediate.dense",
    rf"{_OURS}\.fc2": f"{_THEIRS}.output.dense",
    rf"{_OURS}\.layer_norm2": f"{_THEIRS}.output.LayerNorm",
}
ROWS = {
    "bert": _SHARED_ROWS
    | {
        "token_type_embeddings": "embeddings.token_type_embeddings",
        rf"{_OURS}\.self_attn\.q_proj": f"{_THEIRS}.attention.self.query",
        rf"{_OURS}\.self_attn\.k_proj": f"{_THEIRS}.attention.self.key",
        rf"{_OURS}\.self_attn\.v_proj": f"{_THEIRS}.attention.self.value",
        rf"{_OURS}\.self_attn\.out_proj": f"{_THEIRS}.attention.output.dense",
        rf"{_OURS}\.layer_norm1": f"{_THEIRS}.attention.output.LayerNorm",
    },
    "mpnet": _SHARED_ROWS
    | {
        "relative_attention_bias": "encoder.relative_attention_bias",
        rf"{_OURS}\.self_attn\.(q|k|v)_proj": rf"{_THEIRS}.attention.attn.\2",
        rf"{_OURS}\.self_attn\.out_proj": f"{_THEIRS}.attention.attn.o",
        rf"{_OURS}\.layer_norm1": f"{_THEIRS}.attention.LayerNorm",
    },
}
# Tensors that a mean over tokens does not read: the pooler, position ids, tasks' heads.
_IGNORED = r"({kind}\.)?(pooler\.dense\..*|embeddings\.position_ids)|(cls|lm_head)\..*"

NETWORKS: dict[str, type[Encoder]] = {"bert": Bert, "mpnet": MPNet}


def table_of(kind: str, tensors: Mapping[str, Any]) -> Table:
    """Return the table of a kind's checkpoint.

    A checkpoint with a task's head has the kind as a prefix of its encoder's tensors; a bare
    encoder's has none.
    """
    prefix = f"{kind}." if any(name.startswith(f"{kind}.") for name in tensors) else ""
    rows = {ours: prefix + theirs for ours, theirs in ROWS[kind].items()}
    return pytorch_table(rows, _IGNORED.format(kind=kind))
