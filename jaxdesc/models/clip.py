"""CLIP with a ViT image tower in Flax NNX, for any Hugging Face CLIP checkpoint.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021.
Names and numbers follow `CLIPModel` of Hugging Face transformers, to whose outputs this agrees:
exact or quick GELU as the config says, LayerNorm's epsilon from the config, a causal text tower
read at its end-of-text token.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from jaxdesc.errors import InputError
from jaxdesc.models.precision import float32_products
from jaxdesc.models.settings import DEPTH, INTEGER, NUMBER, POSITIVE, Setting, misfits, one_of, only
from jaxdesc.models.traces import traced_once

normal = nnx.initializers.normal

# Configs written before transformers 4.31 carry this wrong id; their texts are read at the largest
# id instead, which in OpenAI's vocabulary is the end-of-text token.
LEGACY_EOS_TOKEN_ID = 2


def quick_gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return x σ(1.702 x), the approximation of GELU that OpenAI's weights were trained with."""
    return x * jax.nn.sigmoid(1.702 * x)


def exact_gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return x Φ(x) with the exact normal distribution function, which Hugging Face calls gelu."""
    return jax.nn.gelu(x, approximate=False)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"quick_gelu": quick_gelu, "gelu": exact_gelu}

# What Hugging Face's CLIP reads of a config, or what would make it another network. Everything else
# (generation settings, versions, dropout, how to initialise) is ignored: it changes no output.
MODEL_SETTINGS = {
    "model_type": only("clip"),
    "architectures": only(["CLIPModel"], None),
    "projection_dim": POSITIVE,
    "logit_scale_init_value": NUMBER,
    "quantization_config": only(None),
    "auto_map": only(None),  # code of its own
}
TOWER_SETTINGS = {
    "hidden_size": POSITIVE,
    "intermediate_size": POSITIVE,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": POSITIVE,
    "hidden_act": one_of(ACTIVATIONS),
    "layer_norm_eps": NUMBER,
    "is_causal": only(True),
    "pruned_heads": only({}),
    "quantization_config": only(None),
}
VISION_SETTINGS = TOWER_SETTINGS | {
    "image_size": POSITIVE,
    "patch_size": POSITIVE,
    "num_channels": only(3),
}
TEXT_SETTINGS = TOWER_SETTINGS | {
    "vocab_size": POSITIVE,
    "max_position_embeddings": POSITIVE,
    "eos_token_id": INTEGER,
}


@dataclass(frozen=True)
class TowerConfig:
    """The sizes that both towers have, under Hugging Face's names."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5


@dataclass(frozen=True)
class VisionConfig(TowerConfig):
    """The image tower: `CLIPVisionConfig` with its defaults (ViT-B/32). Sizes are in pixels."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    image_size: int = 224
    patch_size: int = 32


@dataclass(frozen=True)
class TextConfig(TowerConfig):
    """The text tower: `CLIPTextConfig` with its defaults."""

    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    vocab_size: int = 49408
    max_position_embeddings: int = 77
    eos_token_id: int = 49407


@dataclass(frozen=True)
class CLIPConfig:
    """Both towers, the width of the common space, and the logarithm of the initial temperature."""

    vision: VisionConfig = VisionConfig()
    text: TextConfig = TextConfig()
    projection_dim: int = 512
    logit_scale_init_value: float = 2.6592

    @classmethod
    def from_huggingface(cls, entries: dict[str, Any]) -> "CLIPConfig":
        """Read the entries of a Hugging Face CLIP `config.json`; absent ones take its defaults.

        Raises:
            InputError: every entry with a value that no CLIP has, or that is not implemented here.
        """
        vision, text = _tower_entries(entries, "vision"), _tower_entries(entries, "text")
        _refuse(
            misfits(MODEL_SETTINGS, entries)
            + _tower_misfits(VISION_SETTINGS, vision, "vision_config")
            + _tower_misfits(TEXT_SETTINGS, text, "text_config")
        )
        config = cls(
            VisionConfig(**_known(VisionConfig, vision)),
            TextConfig(**_known(TextConfig, text)),
            **{k: entries[k] for k in ("projection_dim", "logit_scale_init_value") if k in entries},
        )
        _refuse(_impossible(config))
        return config

    def to_huggingface(self) -> dict[str, Any]:
        """Return the `config.json` entries that `CLIPModel.from_pretrained` and this class read."""
        shared = {"projection_dim": self.projection_dim}
        return {
            "architectures": ["CLIPModel"],
            "model_type": "clip",
            "vision_config": {"model_type": "clip_vision_model", **asdict(self.vision), **shared},
            "text_config": {"model_type": "clip_text_model", **asdict(self.text), **shared},
            "projection_dim": self.projection_dim,
            "logit_scale_init_value": self.logit_scale_init_value,
        }


def _tower_entries(entries: dict[str, Any], tower: str) -> Any:
    """Old configs hold a `*_config_dict` too; filled up with defaults, it overrules the other."""
    overruling = entries.get(f"{tower}_config_dict")
    found = entries.get(f"{tower}_config") if overruling is None else overruling
    return {} if found is None else found


def _tower_misfits(settings: dict[str, Setting], entries: Any, where: str) -> list[str]:
    if not isinstance(entries, dict):
        return [f"{where} = {repr(entries)[:60]} (expected an object of settings)"]
    return misfits(settings, entries, f"{where}.")


def _known(config: type[TowerConfig], entries: dict[str, Any]) -> dict[str, Any]:
    return {field.name: entries[field.name] for field in fields(config) if field.name in entries}


def _impossible(config: "CLIPConfig") -> list[str]:
    """What only two entries together show."""
    vision, text = config.vision, config.text
    problems = [
        f"{name}.hidden_size = {tower.hidden_size} (expected a multiple of num_attention_heads = "
        f"{tower.num_attention_heads})"
        for name, tower in (("vision_config", vision), ("text_config", text))
        if tower.hidden_size % tower.num_attention_heads
    ]
    if vision.patch_size > vision.image_size:
        problems.append(
            f"vision_config.patch_size = {vision.patch_size} (expected at most image_size = "
            f"{vision.image_size})"
        )
    return problems


def _refuse(problems: list[str]) -> None:
    if problems:
        raise InputError(
            f"config.json describes no CLIP that is implemented: {', '.join(problems)}; use a "
            "Hugging Face CLIP checkpoint with a ViT image tower, or correct these entries."
        )


def _linear(inputs: int, outputs: int, std: float, rngs: nnx.Rngs, bias: bool = True) -> nnx.Linear:
    return nnx.Linear(inputs, outputs, use_bias=bias, kernel_init=normal(std), rngs=rngs)


def _layer_norm(config: TowerConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    # E[x²] − E[x]² loses digits where a token's mean is far from zero, as CLIP's outlier channels
    # make it; the two-pass variance is what the reference computes.
    return nnx.LayerNorm(
        config.hidden_size, epsilon=config.layer_norm_eps, use_fast_variance=False, rngs=rngs
    )


class Attention(nnx.Module):
    """Multi-head self-attention."""

    def __init__(self, config: TowerConfig, *, causal: bool, rngs: nnx.Rngs):
        width = config.hidden_size
        inner = width**-0.5 * (2 * config.num_hidden_layers) ** -0.5
        self.causal = causal
        self.heads = config.num_attention_heads
        self.q_proj = _linear(width, width, inner, rngs)
        self.k_proj = _linear(width, width, inner, rngs)
        self.v_proj = _linear(width, width, inner, rngs)
        self.out_proj = _linear(width, width, width**-0.5, rngs)

    def __call__(
        self,
        x: Float[Array, "batch length width"],
        mask: Bool[Array, "batch 1 1 length"] | None = None,
    ) -> Float[Array, "batch length width"]:
        """Return the mixed tokens; `mask` is true where a token may be attended to."""
        split = (*x.shape[:-1], self.heads, x.shape[-1] // self.heads)
        query, key, value = (f(x).reshape(split) for f in (self.q_proj, self.k_proj, self.v_proj))
        mixed = jax.nn.dot_product_attention(query, key, value, mask=mask, is_causal=self.causal)
        return self.out_proj(mixed.reshape(x.shape))


class EncoderLayer(nnx.Module):
    """A pre-norm transformer layer: attention, then a two-layer perceptron."""

    def __init__(self, config: TowerConfig, *, causal: bool, rngs: nnx.Rngs):
        width, inner = config.hidden_size, config.intermediate_size
        depth = config.num_hidden_layers
        self.activation = ACTIVATIONS[config.hidden_act]
        self.layer_norm1 = _layer_norm(config, rngs)
        self.self_attn = Attention(config, causal=causal, rngs=rngs)
        self.layer_norm2 = _layer_norm(config, rngs)
        self.fc1 = _linear(width, inner, (2 * width) ** -0.5, rngs)
        self.fc2 = _linear(inner, width, width**-0.5 * (2 * depth) ** -0.5, rngs)

    def __call__(
        self,
        x: Float[Array, "batch length width"],
        mask: Bool[Array, "batch 1 1 length"] | None = None,
    ) -> Float[Array, "batch length width"]:
        """Return the tokens after this layer; `mask` is true where one may be attended to."""
        x = x + self.self_attn(self.layer_norm1(x), mask)
        return x + self.fc2(self.activation(self.fc1(self.layer_norm2(x))))


def _layers(config: TowerConfig, *, causal: bool, rngs: nnx.Rngs) -> list[EncoderLayer]:
    depth = range(config.num_hidden_layers)
    return [EncoderLayer(config, causal=causal, rngs=rngs) for _ in depth]


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
        self.pre_layernorm = _layer_norm(config, rngs)
        self.layers = nnx.List(_layers(config, causal=False, rngs=rngs))
        self.post_layernorm = _layer_norm(config, rngs)

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
        self.layers = nnx.List(_layers(config, causal=True, rngs=rngs))
        self.final_layer_norm = _layer_norm(config, rngs)

    @float32_products
    def __call__(
        self,
        ids: Int[Array, "batch length"],
        mask: Bool[Array, "batch length"] | Int[Array, "batch length"] | None = None,
    ) -> Float[Array, "batch length features"]:
        """Return every token after the last layer and its normalisation."""
        x = self.embed(ids)
        allowed = None if mask is None else mask.astype(bool)[:, None, None, :]
        for layer in self.layers:
            x = traced_once(layer, x, allowed)
        return self.final_layer_norm(x)

    def embed(self, ids: Int[Array, "batch length"]) -> Float[Array, "batch length features"]:
        """Return every token before the first layer."""
        length, positions = ids.shape[1], self.config.max_position_embeddings
        if length > positions:
            raise InputError(
                f"CLIP was given texts of {length} tokens, but its config sets "
                f"max_position_embeddings {positions}; truncate them to {positions} tokens."
            )
        places = self.position_embedding[...][None, :length]
        return self.token_embedding(ids).astype(places.dtype) + places  # nnx.Embed keeps float32

    def end_positions(self, ids: Int[Array, "batch length"]) -> Int[Array, " batch"]:
        """Return where each text is read: its first end-of-text token, as `CLIPTextModel` does."""
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

    def image_tokens(
        self, pixels: Float[Array, "batch height width 3"]
    ) -> Float[Array, "batch tokens features"]:
        """Return the image tower's tokens after its last layer, the class token first.

        Args:
            pixels: images of the config's size, normalised as the checkpoint's preprocessing says.

        Raises:
            InputError: the images have another size than the config's.
        """
        return self.vision(pixels)

    def pooled_image(
        self, pixels: Float[Array, "batch height width 3"]
    ) -> Float[Array, "batch features"]:
        """Return the normalised class token: the image tower's output before its projection."""
        return self.vision.post_layernorm(self.image_tokens(pixels)[:, 0])

    def pooled_text(
        self,
        ids: Int[Array, "batch length"],
        mask: Bool[Array, "batch length"] | Int[Array, "batch length"] | None = None,
    ) -> Float[Array, "batch features"]:
        """Return the end-of-text token: the text tower's output before its projection."""
        tokens = self.text(ids, mask)
        ends = self.text.end_positions(ids)
        return jnp.take_along_axis(tokens, ends[:, None, None], axis=1)[:, 0]

    @float32_products
    def encode_images(
        self, pixels: Float[Array, "batch height width 3"]
    ) -> Float[Array, "batch dimension"]:
        """Return one unit vector per image, of float32 whatever type the weights have.

        Args:
            pixels: images of the config's size, normalised as the checkpoint's preprocessing says.

        Raises:
            InputError: the images have another size than the config's.
        """
        return _unit(_projected(self.visual_projection, self.pooled_image(pixels)))

    @float32_products
    def encode_texts(
        self,
        ids: Int[Array, "batch length"],
        mask: Bool[Array, "batch length"] | Int[Array, "batch length"] | None = None,
    ) -> Float[Array, "batch dimension"]:
        """Return one unit vector per text, of float32 whatever type the weights have.

        Args:
            ids: token ids, each row with its end-of-text token; what follows that is never read,
                so padding may be cut to the batch's longest text.
            mask: true where a token may be attended to; only padding before the text needs it.

        Raises:
            InputError: more tokens than the config has positions.
        """
        return _unit(_projected(self.text_projection, self.pooled_text(ids, mask)))


def _projected(
    projection: nnx.Linear, pooled: Float[Array, "batch features"]
) -> Float[Array, "batch dimension"]:
    """Concepts lie closer together than bfloat16's 8 bits tell apart."""
    return projection(pooled.astype(jnp.float32))


def _unit(x: Float[Array, "batch dimension"]) -> Float[Array, "batch dimension"]:
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
