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
from jaxdesc.models.clip_config import CLIPConfig, TextConfig
from jaxdesc.models.encoder import Namer, Tower
from jaxdesc.models.packaging import namer_preprocess
from jaxdesc.models.precision import float32_products
from jaxdesc.models.settings import parsed, read_config
from jaxdesc.models.taps import Tap
from jaxdesc.models.texts import load_tokenizer
from jaxdesc.models.transformer import Tokens, encoded, layer_norm, layers, linear, normal
from jaxdesc.models.vit import ViT
from jaxdesc.runtime.compiler import in_pieces

Pixels = Float[Array, "batch height width 3"]  # normalised as the checkpoint's preprocessing says
Ids = Int[Array, "batch length"]
Features = Float[Array, "batch dimension"]

# Configs written before transformers 4.31 carry this wrong id; their texts are read at the largest
# id instead, which in OpenAI's vocabulary is the end-of-text token.
LEGACY_EOS_TOKEN_ID = 2

# Tokens of images at a time on a TPU, so that its on-chip memory holds a layer's.
TOKENS = 3200


class TextTower(nnx.Module):
    """A transformer over token ids; if causal, a token sees only itself and those before it."""

    def __init__(self, config: TextConfig, *, causal: bool, rngs: nnx.Rngs):
        width, positions = config.hidden_size, config.max_position_embeddings
        self.config = config
        self.token_embedding = nnx.Embed(
            config.vocab_size, width, embedding_init=normal(0.02), rngs=rngs
        )
        self.position_embedding = nnx.Param(normal(0.02)(rngs.params(), (positions, width)))
        self.layers = nnx.List(layers(config, causal=causal, rngs=rngs))
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
                f"A text tower was given texts of {length} tokens, but its config sets "
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
        self.vision = ViT(config.vision, rngs=rngs)
        self.text = TextTower(config.text, causal=True, rngs=rngs)
        self.visual_projection = linear(image, common, image**-0.5, rngs, bias=False)
        self.text_projection = linear(text, common, text**-0.5, rngs, bias=False)
        self.logit_scale = nnx.Param(jnp.asarray(config.logit_scale_init_value, jnp.float32))

    @float32_products
    def encode_images(self, pixels: Pixels) -> Features:
        """Return one unit vector per image, of float32 for weights of any type.

        Raises `InputError` if the images have another size than the config's.
        """
        return unit(self.visual_projection(pooled_images(self.vision, pixels).astype(jnp.float32)))

    @float32_products
    def tapped_images(self, pixels: Pixels, tap: Tap) -> Features:
        """Return `encode_images` of images of any size; the tap gets the image tower's layers."""
        return unit(self.visual_projection(self.vision.pooled(pixels, tap).astype(jnp.float32)))

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
        # Concepts are closer to each other than bfloat16's 8 bits resolve.
        return unit(self.text_projection(tokens.astype(jnp.float32)))


def pooled_images(tower: ViT, pixels: Pixels) -> Float[Array, "batch features"]:
    """Return an image tower's vectors, before any projection, of images of its config's size."""
    side = tower.config.image_size
    if pixels.shape[1:3] != (side, side):
        raise InputError(
            f"An image tower was given images of {pixels.shape[1]} × {pixels.shape[2]} pixels, but "
            f"its config sets image_size {side}; resize and crop them to {side} × {side}."
        )
    sizes = {"tpu": max(1, TOKENS // len(tower.positions[...]))}
    return in_pieces(ViT.pooled, tower, pixels, sizes)


def unit(features: Features) -> Features:
    """Return unit vectors."""
    return features / jnp.linalg.norm(features, axis=-1, keepdims=True)


# Tensors of Hugging Face's CLIP and SigLIP.
ROWS = {
    r"vision\.class_token": "vision_model.embeddings.class_embedding",
    r"vision\.patch_embedding": "vision_model.embeddings.patch_embedding",
    r"vision\.positions": "vision_model.embeddings.position_embedding.embedding",
    # Hugging Face's own spelling, which every published checkpoint has.
    r"vision\.pre_norm": "vision_model.pre_layrnorm",
    r"vision\.norm": "vision_model.post_layernorm",
    r"vision\.blocks\.(\d+\.(?:layer_norm|self_attn).*)": r"vision_model.encoder.layers.\1",
    r"vision\.blocks\.(\d+)\.(fc[12])": r"vision_model.encoder.layers.\1.mlp.\2",
    r"vision\.pool\.(fc[12])": r"vision_model.head.mlp.\1",
    r"vision\.pool\.(probe|attention\..*|layernorm)": r"vision_model.head.\1",
    r"text\.token_embedding": "text_model.embeddings.token_embedding",
    r"text\.position_embedding": "text_model.embeddings.position_embedding.embedding",
    r"text\.final_layer_norm": "text_model.final_layer_norm",
    r"text\.(layers\.\d+\.(?:layer_norm|self_attn).*)": r"text_model.encoder.\1",
    r"text\.(layers\.\d+)\.(fc[12])": r"text_model.encoder.\1.mlp.\2",
    r"text_head": "text_model.head",
    r"(visual|text)_projection": r"\1_projection",
    r"logit_(scale|bias)": r"logit_\1",
}
IGNORED = r"(vision|text)_model\.embeddings\.position_ids"
HUGGING_FACE_CLIP = checkpoint.pytorch_table(ROWS, IGNORED)
FLAX_CLIP = checkpoint.Table(ROWS, IGNORED)


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


def namer_of(model: Any, tokenizer: Any, preprocess: Preprocess, **fields: Any) -> Namer:
    """Return a network of two towers, as `CLIP` has, as a name encoder; fields are of `Namer`."""
    graph, params = nnx.split(model)
    tower = model.config.vision
    return Namer(
        params=params,
        images=Tower(graph, "encode_images"),
        texts=Tower(graph, "encode_texts"),
        tokenizer=tokenizer,
        length=model.config.text.max_position_embeddings,
        preprocess=preprocess,
        logit_scale=float(jnp.exp(model.logit_scale[...])),
        apply=Tower(graph, "tapped_images"),
        attention=tower.attention,
        prefix=tower.prefix,
        **fields,
    )


def clip_namer(model: CLIP, folder: Path, preprocess: Preprocess) -> Namer:
    """Return a CLIP as a name encoder, with the tokenizer of its folder."""
    files, size = "tokenizer.json, or vocab.json and merges.txt", model.config.text.vocab_size
    tokenizer = load_tokenizer("CLIPTokenizer", folder, "CLIP", files, size)
    # Padding is never read: the tower is causal.
    return namer_of(model, tokenizer, preprocess, padding=tokenizer.eos_token_id)


def load(folder: Path, preprocess: str | Preprocess, notes: list[str]) -> Namer:
    """Load a folder's CLIP as a name encoder: the entry "clip" of `NAMERS`."""
    model = load_clip_model(folder, notes)
    size = model.config.vision.image_size
    return clip_namer(model, folder, namer_preprocess(folder, size, preprocess, notes, "openai"))
