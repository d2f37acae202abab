"""Configs of CLIP and SigLIP, read from Hugging Face's `config.json`, and CLIP's written back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from jaxdesc.errors import InputError, shown
from jaxdesc.models.settings import (
    FROM_HUGGING_FACE,
    INTEGER,
    NUMBER,
    POSITIVE,
    Setting,
    misfits,
    only,
)
from jaxdesc.models.transformer import SETTINGS, TransformerConfig, head_misfits
from jaxdesc.models.vit_config import FAMILIES, READ, ViTConfig, tower_misfits, tower_sizes, within

# Entries that a network reads, or that would make it another. All others (generation settings,
# versions, dropout, initialisation) change no output.
CLIP_SETTINGS = {
    "architectures": only(["CLIPModel"], None),
    "projection_dim": POSITIVE,
    "logit_scale_init_value": NUMBER,
    **FROM_HUGGING_FACE,
}
SIGLIP_SETTINGS = {"architectures": only(["SiglipModel"], None), **FROM_HUGGING_FACE}
TEXT_SETTINGS = SETTINGS | dict.fromkeys(("vocab_size", "max_position_embeddings"), POSITIVE)
CLIP_TEXT_SETTINGS = TEXT_SETTINGS | {"is_causal": only(True), "eos_token_id": INTEGER}


@dataclass(frozen=True)
class TextConfig(TransformerConfig):
    """A text tower: `CLIPTextConfig` with its defaults."""

    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    hidden_act: str = "quick_gelu"
    vocab_size: int = 49408
    max_position_embeddings: int = 77
    eos_token_id: int = 49407


# `SiglipTextConfig`'s defaults.
SIGLIP_TEXT = TextConfig(
    hidden_size=768,
    intermediate_size=3072,
    num_attention_heads=12,
    hidden_act="gelu_pytorch_tanh",
    layer_norm_eps=1e-6,
    vocab_size=32000,
    max_position_embeddings=64,
)


@dataclass(frozen=True)
class CLIPConfig:
    """Both towers, the width of the common space, and the logarithm of the initial temperature."""

    vision: ViTConfig = FAMILIES["clip"].sizes
    text: TextConfig = TextConfig()
    projection_dim: int = 512
    logit_scale_init_value: float = 2.6592

    @classmethod
    def from_huggingface(cls, entries: dict[str, Any]) -> "CLIPConfig":
        """Read the entries of a Hugging Face CLIP `config.json`; absent ones take its defaults.

        Raises `InputError` for all entries that no CLIP has, or that are not implemented.
        """
        problems = misfits({"model_type": only("clip")} | CLIP_SETTINGS, entries)
        vision, text = _towers(entries, "CLIP", problems, CLIP_TEXT_SETTINGS, TextConfig())
        return cls(**{**_known(cls, entries), "vision": vision, "text": text})

    def to_huggingface(self) -> dict[str, Any]:
        """Return the `config.json` entries that `CLIPModel.from_pretrained` and this class read."""
        shared = {"projection_dim": self.projection_dim}
        vision = {key: value for key, value in asdict(self.vision).items() if key in READ}
        return {
            "architectures": ["CLIPModel"],
            "model_type": "clip",
            "vision_config": {"model_type": "clip_vision_model", **vision, **shared},
            "text_config": {"model_type": "clip_text_model", **asdict(self.text), **shared},
            "projection_dim": self.projection_dim,
            "logit_scale_init_value": self.logit_scale_init_value,
        }


@dataclass(frozen=True)
class SigLIPConfig:
    """Both towers of a SigLIP."""

    vision: ViTConfig
    text: TextConfig

    @classmethod
    def from_huggingface(cls, entries: dict[str, Any]) -> "SigLIPConfig":
        """Read the entries of a Hugging Face SigLIP `config.json`; absent ones take its defaults.

        Raises `InputError` for all entries that no SigLIP has, or that are not implemented.
        """
        problems = misfits({"model_type": only("siglip")} | SIGLIP_SETTINGS, entries)
        vision, text = _towers(entries, "SigLIP", problems, TEXT_SETTINGS, SIGLIP_TEXT)
        tower, width = within(entries, "text_config"), vision.hidden_size
        given = tower.get("projection_size") or text.hidden_size
        if given != width:  # features of texts and images would differ in width
            expected = f"(expected vision_config.hidden_size = {width})"
            _refuse("SigLIP", [f"text_config.projection_size = {shown(given)} {expected}"])
        head = misfits({"vision_use_head": only(True)}, within(entries, "vision_config"))
        _refuse("SigLIP", [f"vision_config.{problem}" for problem in head])
        return cls(replace(vision, attention_pool=True), text)


def _towers(
    entries: Mapping[str, Any],
    name: str,
    problems: list[str],
    settings: Mapping[str, Setting],
    usual: TextConfig,
) -> tuple[ViTConfig, TextConfig]:
    """Read the towers of the network `name`; an error lists the `problems` around them too."""
    vision, text = within(entries, "vision_config"), within(entries, "text_config")
    family = FAMILIES[name.lower()]
    problems = problems + tower_misfits(family, vision, "vision_config")
    if isinstance(text, dict):
        wrong = misfits(settings, text, "text_config.")
        sizes = asdict(usual) | _known(TextConfig, text)
        problems += wrong or head_misfits(sizes, "text_config.")
    else:
        problems.append(f"text_config = {shown(text)[:60]} (expected an object of settings)")
    _refuse(name, problems)
    return tower_sizes(family, vision), TextConfig(**sizes)


def _known(config: type[Any], entries: Mapping[str, Any]) -> dict[str, Any]:
    return {f.name: entries[f.name] for f in fields(config) if f.name in entries}


def _refuse(name: str, problems: list[str]) -> None:
    if problems:
        raise InputError(
            f"config.json describes no {name} that is implemented: {', '.join(problems)}; use a "
            f"Hugging Face {name} checkpoint with a ViT image tower, or correct these entries."
        )
