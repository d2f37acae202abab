"""Config of a CLIP, read from Hugging Face's `config.json` and written back."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from jaxdesc.errors import InputError
from jaxdesc.models.settings import INTEGER, NUMBER, POSITIVE, misfits, only
from jaxdesc.models.transformer import SETTINGS, TransformerConfig, head_misfits

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
TOWER_SETTINGS = SETTINGS | {"is_causal": only(True)}
VISION_SETTINGS = TOWER_SETTINGS | {
    **dict.fromkeys(("image_size", "patch_size"), POSITIVE),
    "num_channels": only(3),
}
TEXT_SETTINGS = TOWER_SETTINGS | {
    **dict.fromkeys(("vocab_size", "max_position_embeddings"), POSITIVE),
    "eos_token_id": INTEGER,
}


@dataclass(frozen=True)
class VisionConfig(TransformerConfig):
    """The image tower: `CLIPVisionConfig` with its defaults (ViT-B/32). Sizes are in pixels."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    hidden_act: str = "quick_gelu"
    image_size: int = 224
    patch_size: int = 32


@dataclass(frozen=True)
class TextConfig(TransformerConfig):
    """The text tower: `CLIPTextConfig` with its defaults."""

    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    hidden_act: str = "quick_gelu"
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

        Raises `InputError` for all entries that no CLIP has, or that are not implemented.
        """
        problems = misfits(MODEL_SETTINGS, entries)
        towers = {}
        for name, settings in (("vision", VISION_SETTINGS), ("text", TEXT_SETTINGS)):
            # Old configs hold a `*_config_dict` too; filled up with defaults, it overrules.
            keys = f"{name}_config_dict", f"{name}_config"
            tower: Any = next((entries[key] for key in keys if entries.get(key) is not None), {})
            if isinstance(tower, dict):
                problems += misfits(settings, tower, f"{name}_config.")
            else:
                shown = repr(tower)[:60]
                problems.append(f"{name}_config = {shown} (expected an object of settings)")
            towers[name] = tower
        _refuse(problems)
        vision = VisionConfig(**_known(VisionConfig, towers["vision"]))
        text = TextConfig(**_known(TextConfig, towers["text"]))
        problems += head_misfits(asdict(vision), "vision_config.")
        problems += head_misfits(asdict(text), "text_config.")
        if vision.patch_size > vision.image_size:
            problems.append(
                f"vision_config.patch_size = {vision.patch_size} (expected at most image_size = "
                f"{vision.image_size})"
            )
        _refuse(problems)
        return cls(**{**_known(cls, entries), "vision": vision, "text": text})

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


def _known(config: type[Any], entries: dict[str, Any]) -> dict[str, Any]:
    return {f.name: entries[f.name] for f in fields(config) if f.name in entries}


def _refuse(problems: list[str]) -> None:
    if problems:
        raise InputError(
            f"config.json describes no CLIP that is implemented: {', '.join(problems)}; use a "
            "Hugging Face CLIP checkpoint with a ViT image tower, or correct these entries."
        )
