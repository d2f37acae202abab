"""CLIP with a ViT image tower in Flax NNX, for any Hugging Face CLIP checkpoint.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021.
Names and numbers follow `CLIPModel` of Hugging Face transformers, to whose outputs this agrees:
exact or quick GELU as the config says, LayerNorm's epsilon from the config, a causal text tower
read at its end-of-text token.
"""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from jaxdesc.errors import InputError
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.models.checkpoint import (
    FLAX,
    PYTORCH,
    Framework,
    Row,
    Table,
    abstract,
    read_model,
    tensors_of,
    write_folder,
)
from jaxdesc.models.clip_config import (
    ACTIVATIONS,
    CLIPConfig,
    TextConfig,
    TowerConfig,
    VisionConfig,
)
from jaxdesc.models.encoder import Namer, Tower
from jaxdesc.models.packaging import clip_preprocess
from jaxdesc.models.precision import float32_products
from jaxdesc.models.settings import parsed, read_config
from jaxdesc.models.texts import load_tokenizer
from jaxdesc.models.traces import traced_once

normal = nnx.initializers.normal

# Configs written before transformers 4.31 carry this wrong id; their texts are read at the largest
# id instead, which in OpenAI's vocabulary is the end-of-text token.
LEGACY_EOS_TOKEN_ID = 2


def _linear(inputs: int, outputs: int, std: float, rngs: nnx.Rngs, bias: bool = True) -> nnx.Linear:
    return nnx.Linear(inputs, outputs, use_bias=bias, kernel_init=normal(std), rngs=rngs)


def layer_norm(config: Any, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Return a LayerNorm of a config's width and epsilon."""
    # E[x²] − E[x]² loses digits if a token's mean is far from zero, as CLIP's outlier channels
    # make it; the two-pass variance is what the reference computes.
    return nnx.LayerNorm(
        config.hidden_size, epsilon=config.layer_norm_eps, use_fast_variance=False, rngs=rngs
    )


class Attention(nnx.Module):
    """Multi-head self-attention.

    Args:
        width: of the tokens.
        heads: how many heads share the width.
        causal: if a token sees only itself and those before it.
        stds: standard deviations of the initial weights, of the three inputs' and of the output's.
        rngs: the source of the initial weights.
    """

    def __init__(
        self, width: int, heads: int, *, causal: bool, stds: tuple[float, float], rngs: nnx.Rngs
    ):
        self.causal = causal
        self.heads = heads
        self.q_proj = _linear(width, width, stds[0], rngs)
        self.k_proj = _linear(width, width, stds[0], rngs)
        self.v_proj = _linear(width, width, stds[0], rngs)
        self.out_proj = _linear(width, width, stds[1], rngs)

    def __call__(
        self,
        x: Float[Array, "batch length width"],
        mask: Bool[Array, "batch 1 1 length"] | None = None,
        bias: Float[Array, "1 heads length length"] | None = None,
    ) -> Float[Array, "batch length width"]:
        """Return the mixed tokens.

        Args:
            x: tokens.
            mask: true for tokens that may be attended to.
            bias: added to the scaled products of queries and keys.
        """
        split = (*x.shape[:-1], self.heads, x.shape[-1] // self.heads)
        query, key, value = (f(x).reshape(split) for f in (self.q_proj, self.k_proj, self.v_proj))
        mixed = jax.nn.dot_product_attention(
            query, key, value, bias=bias, mask=mask, is_causal=self.causal
        )
        return self.out_proj(mixed.reshape(x.shape))


class EncoderLayer(nnx.Module):
    """A pre-norm transformer layer: attention, then a two-layer perceptron."""

    def __init__(self, config: TowerConfig, *, causal: bool, rngs: nnx.Rngs):
        width, inner = config.hidden_size, config.intermediate_size
        residual = width**-0.5 * (2 * config.num_hidden_layers) ** -0.5
        self.activation = ACTIVATIONS[config.hidden_act]
        self.layer_norm1 = layer_norm(config, rngs)
        self.self_attn = Attention(
            width,
            config.num_attention_heads,
            causal=causal,
            stds=(residual, width**-0.5),
            rngs=rngs,
        )
        self.layer_norm2 = layer_norm(config, rngs)
        self.fc1 = _linear(width, inner, (2 * width) ** -0.5, rngs)
        self.fc2 = _linear(inner, width, residual, rngs)

    def __call__(self, x: Float[Array, "batch length width"]) -> Float[Array, "batch length width"]:
        """Return the tokens after this layer."""
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.fc2(self.activation(self.fc1(self.layer_norm2(x))))


class VisionTower(nnx.Module):
    """A vision transformer over square patches and a class token."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs):
        width, patch = config.hidden_size, config.patch_size
        positions = (config.image_size // patch) ** 2 + 1
        self.config = config
        self.class_embedding = nnx.Param(normal(width**-0.5)(rngs.params(), (width,)))
        self.patch_embedding = nnx.Conv(
            3,
            width,
            (patch, patch),
            strides=(patch, patch),
            padding="VALID",
            use_bias=False,
            kernel_init=normal(0.02),
            rngs=rngs,
        )
        self.position_embedding = nnx.Param(normal(0.02)(rngs.params(), (positions, width)))
        self.pre_layernorm = layer_norm(config, rngs)
        depth = range(config.num_hidden_layers)
        self.layers = nnx.List([EncoderLayer(config, causal=False, rngs=rngs) for _ in depth])
        self.post_layernorm = layer_norm(config, rngs)

    @float32_products
    def __call__(
        self, pixels: Float[Array, "batch height width 3"]
    ) -> Float[Array, "batch tokens features"]:
        """Return every token after the last layer, the class token first."""
        x = self.embed(pixels)
        for layer in self.layers:
            x = traced_once(layer, x)
        return x

    def embed(
        self, pixels: Float[Array, "batch height width 3"]
    ) -> Float[Array, "batch tokens features"]:
        """Return every token before the first layer, the class token first."""
        side = self.config.image_size
        if pixels.shape[1:3] != (side, side):
            raise InputError(
                f"CLIP was given images of {pixels.shape[1]} × {pixels.shape[2]} pixels, but its "
                f"config sets image_size {side}; resize and crop them to {side} × {side}."
            )
        patches = self.patch_embedding(jnp.asarray(pixels, self.patch_embedding.kernel.dtype))
        patches = patches.reshape(pixels.shape[0], -1, patches.shape[-1])
        first = jnp.broadcast_to(self.class_embedding[...], (len(patches), 1, patches.shape[-1]))
        x = jnp.concatenate([first.astype(patches.dtype), patches], axis=1)
        return self.pre_layernorm(x + self.position_embedding[...][None])


class TextTower(nnx.Module):
    """A causal transformer over token ids."""

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs):
        width, positions = config.hidden_size, config.max_position_embeddings
        self.config = config
        self.token_embedding = nnx.Embed(
            config.vocab_size, width, embedding_init=normal(0.02), rngs=rngs
        )
        self.position_embedding = nnx.Param(normal(0.02)(rngs.params(), (positions, width)))
        depth = range(config.num_hidden_layers)
        self.layers = nnx.List([EncoderLayer(config, causal=True, rngs=rngs) for _ in depth])
        self.final_layer_norm = layer_norm(config, rngs)

    @float32_products
    def __call__(self, ids: Int[Array, "batch length"]) -> Float[Array, "batch length features"]:
        """Return every token after the last layer and its normalisation."""
        x = self.embed(ids)
        for layer in self.layers:
            x = traced_once(layer, x)
        return self.final_layer_norm(x)

    def embed(self, ids: Int[Array, "batch length"]) -> Float[Array, "batch length features"]:
        """Return every token before the first layer."""
        length, most = ids.shape[1], self.config.max_position_embeddings
        if length > most:
            raise InputError(
                f"CLIP was given texts of {length} tokens, but its config sets "
                f"max_position_embeddings {most}; truncate them to {most} tokens."
            )
        positions = self.position_embedding[...][None, :length]
        # nnx.Embed returns float32 for weights of any type.
        return self.token_embedding(ids).astype(positions.dtype) + positions

    def end_positions(self, ids: Int[Array, "batch length"]) -> Int[Array, " batch"]:
        """Return the position at which each text is read: its first end-of-text token."""
        end = self.config.eos_token_id
        return jnp.argmax(ids if end == LEGACY_EOS_TOKEN_ID else ids == end, axis=-1)


class CLIP(nnx.Module):
    """Both towers and their projections into the common space.

    Args:
        config: the sizes.
        rngs: the source of the initial weights, with Hugging Face's standard deviations.
    """

    def __init__(self, config: CLIPConfig, *, rngs: nnx.Rngs):
        vision, text, common = config.vision, config.text, config.projection_dim
        self.config = config
        self.vision = VisionTower(vision, rngs=rngs)
        self.text = TextTower(text, rngs=rngs)
        self.visual_projection = _linear(
            vision.hidden_size, common, vision.hidden_size**-0.5, rngs, bias=False
        )
        self.text_projection = _linear(
            text.hidden_size, common, text.hidden_size**-0.5, rngs, bias=False
        )
        self.logit_scale = nnx.Param(jnp.asarray(config.logit_scale_init_value, jnp.float32))

    def pooled_image(
        self, pixels: Float[Array, "batch height width 3"]
    ) -> Float[Array, "batch features"]:
        """Return the normalised class token: the image tower's output before its projection."""
        return self.vision.post_layernorm(self.vision(pixels)[:, 0])

    @float32_products
    def encode_images(
        self, pixels: Float[Array, "batch height width 3"]
    ) -> Float[Array, "batch dimension"]:
        """Return one unit vector per image, of float32 for weights of any type.

        Args:
            pixels: images of the config's size, normalised as the checkpoint's preprocessing says.

        Raises:
            InputError: the images have another size than the config's.
        """
        return _unit(self.visual_projection, self.pooled_image(pixels))

    @float32_products
    def encode_texts(self, ids: Int[Array, "batch length"]) -> Float[Array, "batch dimension"]:
        """Return one unit vector per text, of float32 for weights of any type.

        Args:
            ids: token ids, each row with its end-of-text token; what follows that is never read,
                so padding may be cut to the batch's longest text.

        Raises:
            InputError: more tokens than the config has positions.
        """
        ends = self.text.end_positions(ids)
        tokens = jnp.take_along_axis(self.text(ids), ends[:, None, None], axis=1)[:, 0]
        return _unit(self.text_projection, tokens)


def _unit(
    projection: nnx.Linear, pooled: Float[Array, "batch features"]
) -> Float[Array, "batch dimension"]:
    # Concepts are closer to each other than bfloat16's 8 bits resolve.
    features = projection(pooled.astype(jnp.float32))
    return features / jnp.linalg.norm(features, axis=-1, keepdims=True)


def _clip_table(framework: Framework) -> Table:
    """The names are the same in PyTorch and Flax but for their last part."""
    dense, norm = framework.dense_rows, framework.norm_rows
    kernel, embedding = framework.kernel, framework.embedding
    return Table(
        rows=(
            Row(r"vision\.class_embedding", "vision_model.embeddings.class_embedding"),
            Row(
                r"vision\.patch_embedding\.kernel",
                f"vision_model.embeddings.patch_embedding.{kernel}",
                framework.convolution,
            ),
            Row(
                r"text\.token_embedding\.embedding",
                f"text_model.embeddings.token_embedding.{embedding}",
            ),
            Row(
                r"(vision|text)\.position_embedding",
                rf"\1_model.embeddings.position_embedding.{embedding}",
            ),
            # Hugging Face's own spelling, which every published checkpoint has.
            *norm(r"vision\.pre_layernorm", "vision_model.pre_layrnorm"),
            *norm(r"vision\.post_layernorm", "vision_model.post_layernorm"),
            *norm(r"text\.final_layer_norm", "text_model.final_layer_norm"),
            *norm(r"(vision|text)\.(layers\.\d+\.layer_norm[12])", r"\1_model.encoder.\2"),
            *dense(
                r"(vision|text)\.(layers\.\d+\.self_attn\.(?:q|k|v|out)_proj)",
                r"\1_model.encoder.\2",
            ),
            *dense(r"(vision|text)\.(layers\.\d+)\.(fc[12])", r"\1_model.encoder.\2.mlp.\3"),
            Row(r"(visual|text)_projection\.kernel", rf"\1_projection.{kernel}", framework.dense),
            Row("logit_scale", "logit_scale"),
        ),
        ignored=r"(vision|text)_model\.embeddings\.position_ids",
    )


HUGGING_FACE_CLIP = _clip_table(PYTORCH)
FLAX_CLIP = _clip_table(FLAX)


def load_clip_model(folder: str | PathLike[str], notes: list[str] | None = None) -> CLIP:
    """Read a CLIP from a Hugging Face folder, or from one that `launch.convert` wrote.

    Args:
        folder: its folder.
        notes: gets a sentence about each thing around the tensors that was left out.

    Raises:
        InputError: a missing, unreadable or unsuitable file, or tensors that do not fit.
    """
    config = parsed(CLIPConfig.from_huggingface, read_config(folder), folder)

    def table(tensors: Mapping[str, Any]) -> Table:
        flax = any(name.endswith(".kernel") for name in tensors)
        return FLAX_CLIP if flax else HUGGING_FACE_CLIP

    return read_model(abstract(CLIP, config), folder, table, notes)


def save_clip_model(model: CLIP, folder: str | PathLike[str]) -> None:
    """Write a CLIP as `load_clip_model` and Hugging Face's `CLIPModel.from_pretrained` read it."""
    write_folder(folder, model.config.to_huggingface(), tensors_of(model, HUGGING_FACE_CLIP))


def load(folder: Path, preprocess: str | Preprocess, notes: list[str]) -> Namer:
    """Load a folder's CLIP as a name encoder: the entry "clip" of `NAMERS`."""
    model = load_clip_model(folder, notes)
    text, image_size = model.config.text, model.config.vision.image_size
    files = "tokenizer.json, or vocab.json and merges.txt"
    tokenizer = load_tokenizer("CLIPTokenizer", folder, "CLIP", files, text.vocab_size)
    graph, params = nnx.split(model)
    return Namer(
        params=params,
        images=Tower(graph, "encode_images"),
        texts=Tower(graph, "encode_texts"),
        tokenizer=tokenizer,
        length=text.max_position_embeddings,
        padding=tokenizer.eos_token_id,  # never read: the tower is causal
        preprocess=clip_preprocess(folder, image_size, preprocess, notes),
    )
