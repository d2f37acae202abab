"""Config of a CLIP, read from Hugging Face's `config.json` and written back."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import jax
from jaxtyping import Array

from jaxdesc.errors import InputError
from jaxdesc.models.settings import DEPTH, INTEGER, NUMBER, POSITIVE, misfits, one_of, only

# OpenAI's weights were trained with the approximation x σ(1.702 x); Hugging Face's "gelu" is x Φ(x)
# with the exact normal distribution function.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
}
COMMON = ("projection_dim", "logit_scale_init_value")

# Entries of a config that Hugging Face's CLIP reads, or that would make it another network. All
# others (generation settings, versions, dropout, initialisation) change no output.
MODEL_SETTINGS = {
    "model_type": only("clip"),
    "architectures": only(["CLIPModel"], None),
    "projection_dim": POSITIVE,
    "logit_scale_init_value": NUMBER,
    "quantization_config": only(None),
    "auto_map": only(None),  # code in the checkpoint
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
        problems = misfits(MODEL_SETTINGS, entries)
        towers = {}
        for name, settings in (("vision", VISION_SETTINGS), ("text", TEXT_SETTINGS)):
            towers[name], where = _tower_entries(entries, name), f"{name}_config"
            if isinstance(towers[name], dict):
                problems += misfits(settings, towers[name], f"{where}.")
            else:
                shown = repr(towers[name])[:60]
                problems.append(f"{where} = {shown} (expected an object of settings)")
        _refuse(problems)

        def known(config: type, entries: dict[str, Any]) -> dict[str, Any]:
            return {f.name: entries[f.name] for f in fields(config) if f.name in entries}

        vision = VisionConfig(**known(VisionConfig, towers["vision"]))
        text = TextConfig(**known(TextConfig, towers["text"]))
        for name, tower in (("vision", vision), ("text", text)):
            if tower.hidden_size % tower.num_attention_heads:
                problems.append(
                    f"{name}_config.hidden_size = {tower.hidden_size} (expected a multiple of "
                    f"num_attention_heads = {tower.num_attention_heads})"
                )
        if vision.patch_size > vision.image_size:
            problems.append(
                f"vision_config.patch_size = {vision.patch_size} (expected at most image_size = "
                f"{vision.image_size})"
            )
        _refuse(problems)
        common = {name: entries[name] for name in COMMON if name in entries}
        return cls(vision, text, **common)

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
    described = entries.get(f"{tower}_config") if overruling is None else overruling
    return {} if described is None else described


def _refuse(problems: list[str]) -> None:
    if problems:
        raise InputError(
            f"config.json describes no CLIP that is implemented: {', '.join(problems)}; use a "
            "Hugging Face CLIP checkpoint with a ViT image tower, or correct these entries."
        )
