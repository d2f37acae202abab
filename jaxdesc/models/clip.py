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

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from jaxdesc.errors import InputError
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.models import checkpoint
from jaxdesc.models.clip_config import CLIPConfig, TextConfig, VisionConfig
from jaxdesc.models.encoder import Namer, Tower
from jaxdesc.models.packaging import clip_preprocess
from jaxdesc.models.precision import float32_products
from jaxdesc.models.settings import parsed, read_config
from jaxdesc.models.texts import load_tokenizer
from jaxdesc.models.transformer import Tokens, encoded, layer_norm, layers, linear, normal
from jaxdesc.runtime.compiler import in_pieces

Pixels = Float[Array, "batch height width 3"]  # normalised as the checkpoint's preprocessing says
Ids = Int[Array, "batch length"]
Features = Float[Array, "batch dimension"]

# Configs written before transformers 4.31 carry this wrong id; their texts are read at the largest
# id instead, which in OpenAI's vocabulary is the end-of-text token.
LEGACY_EOS_TOKEN_ID = 2

# Tokens of images at a time on a TPU, so that its on-chip memory holds a layer's.
TOKENS = 3200


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
        self.layers = nnx.List(layers(config, rngs=rngs))
        self.post_layernorm = layer_norm(config, rngs)

    @float32_products
    def __call__(self, pixels: Pixels) -> Tokens:
        """Return every token after the last layer, the class token first."""
        return encoded(self.layers, self.embed(pixels))

    def embed(self, pixels: Pixels) -> Tokens:
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
        self.layers = nnx.List(layers(config, causal=True, rngs=rngs))
        self.final_layer_norm = layer_norm(config, rngs)

    @float32_products
    def __call__(self, ids: Ids) -> Tokens:
        """Return every token after the last layer and its normalisation."""
        return self.final_layer_norm(encoded(self.layers, self.embed(ids)))

    def embed(self, ids: Ids) -> Tokens:
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


class CLIP(nnx.Module):
    """Both towers and their projections into the common space.

    The initial weights have Hugging Face's standard deviations.
    """

    def __init__(self, config: CLIPConfig, *, rngs: nnx.Rngs):
        image, text = config.vision.hidden_size, config.text.hidden_size
        common = config.projection_dim
        self.config = config
        self.vision = VisionTower(config.vision, rngs=rngs)
        self.text = TextTower(config.text, rngs=rngs)
        self.visual_projection = linear(image, common, image**-0.5, rngs, bias=False)
        self.text_projection = linear(text, common, text**-0.5, rngs, bias=False)
        self.logit_scale = nnx.Param(jnp.asarray(config.logit_scale_init_value, jnp.float32))

    def pooled_image(self, pixels: Pixels) -> Float[Array, "batch features"]:
        """Return the normalised class token: the image tower's output before its projection."""
        return self.vision.post_layernorm(self.vision(pixels)[:, 0])

    @float32_products
    def encode_images(self, pixels: Pixels) -> Features:
        """Return one unit vector per image, of float32 for weights of any type.

        Raises `InputError` if the images have another size than the config's.
        """
        sizes = {"tpu": max(1, TOKENS // len(self.vision.position_embedding[...]))}
        pooled = in_pieces(CLIP.pooled_image, self, pixels, sizes)
        return _unit(self.visual_projection, pooled)

    @float32_products
    def encode_texts(self, ids: Ids) -> Features:
        """Return one unit vector per text, of float32 for weights of any type.

        A text is read at its first end-of-text token. What follows is never read, so padding may be
        cut to the batch's longest text. Raises `InputError` for more tokens than the config has
        positions.
        """
        end = self.config.text.eos_token_id
        ends = jnp.argmax(ids if end == LEGACY_EOS_TOKEN_ID else ids == end, axis=-1)
        tokens = jnp.take_along_axis(self.text(ids), ends[:, None, None], axis=1)[:, 0]
        return _unit(self.text_projection, tokens)


def _unit(projection: nnx.Linear, pooled: Float[Array, "batch features"]) -> Features:
    # Concepts are closer to each other than bfloat16's 8 bits resolve.
    features = projection(pooled.astype(jnp.float32))
    return features / jnp.linalg.norm(features, axis=-1, keepdims=True)


ROWS = {
    r"vision\.(class|patch)_embedding": r"vision_model.embeddings.\1_embedding",
    r"text\.token_embedding": "text_model.embeddings.token_embedding",
    r"(vision|text)\.position_embedding": r"\1_model.embeddings.position_embedding.embedding",
    # Hugging Face's own spelling, which every published checkpoint has.
    r"vision\.pre_layernorm": "vision_model.pre_layrnorm",
    r"vision\.post_layernorm": "vision_model.post_layernorm",
    r"text\.final_layer_norm": "text_model.final_layer_norm",
    r"(vision|text)\.(layers\.\d+\.(?:layer_norm|self_attn).*)": r"\1_model.encoder.\2",
    r"(vision|text)\.(layers\.\d+)\.(fc[12])": r"\1_model.encoder.\2.mlp.\3",
    r"(visual|text)_projection": r"\1_projection",
    "logit_scale": "logit_scale",
}
_IGNORED = r"(vision|text)_model\.embeddings\.position_ids"
HUGGING_FACE_CLIP = checkpoint.pytorch_table(ROWS, _IGNORED)
FLAX_CLIP = checkpoint.Table(ROWS, _IGNORED)


def load_clip_model(folder: str | PathLike[str], notes: list[str] | None = None) -> CLIP:
    """Read a CLIP from a Hugging Face folder, or from one that `launch.convert` wrote.

    Notes get a sentence about each thing around the tensors that was left out. Raises `InputError`
    for a missing, unreadable or unsuitable file, or tensors that do not fit.
    """
    config = parsed(CLIPConfig.from_huggingface, read_config(folder), folder)

    def table(tensors: Mapping[str, Any]) -> checkpoint.Table:
        flax = any(name.endswith(".kernel") for name in tensors)
        return FLAX_CLIP if flax else HUGGING_FACE_CLIP

    return checkpoint.read_model(checkpoint.abstract(CLIP, config), folder, table, notes)


def save_clip_model(model: CLIP, folder: str | PathLike[str]) -> None:
    """Write a CLIP as `load_clip_model` and Hugging Face's `CLIPModel.from_pretrained` read it."""
    tensors = checkpoint.tensors_of(model, HUGGING_FACE_CLIP)
    checkpoint.write_folder(folder, model.config.to_huggingface(), tensors)


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
