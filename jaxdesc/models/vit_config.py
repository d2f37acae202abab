"""Config of a vision transformer, read from Hugging Face's or timm's `config.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from jaxdesc.errors import InputError, shown
from jaxdesc.models.settings import (
    ANY,
    BOOLEAN,
    FROM_HUGGING_FACE,
    FROM_TIMM,
    NUMBER,
    POSITIVE,
    UNKNOWN,
    Setting,
    label_count,
    misfits,
    only,
    pretrained_cfg,
)
from jaxdesc.models.transformer import SETTINGS, TransformerConfig, head_misfits


@dataclass(frozen=True)
class ViTConfig(TransformerConfig):
    """The sizes of a vision transformer over square patches; those of ViT-B/16 by default.

    Attributes:
        image_size, patch_size: in pixels; images of other sizes get interpolated positions.
        num_classes: number of logits; 0 for a network without a head.
        head: what the head reads: the class token ("class"), it and the distillation token, each by
            a layer of its own, whose logits are averaged ("both"), or it next to the patches' mean
            ("mean").
        class_tokens: class and distillation tokens, before the registers.
        registers: further tokens before those of the patches.
        placed: how many of the class tokens have a position.
        scaled, gated: kind of `transformer.Layer`.
        antialias: positions are interpolated as by torch's antialiased resizing.
        attention_pool: if an attention pool follows, as in SigLIP's image tower.
        patch_bias, pre_norm: if patches have a bias, and a norm is in front of the first layer.
    """

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    layer_norm_eps: float = 1e-12
    image_size: int = 224
    patch_size: int = 16
    num_classes: int = 0
    head: str = "class"
    class_tokens: int = 1
    registers: int = 0
    placed: int = 1
    scaled: bool = False
    gated: bool = False
    antialias: bool = False
    attention_pool: bool = False
    patch_bias: bool = True
    pre_norm: bool = False

    @property
    def prefix(self) -> int:
        """Number of tokens before those of the patches."""
        return self.class_tokens + self.registers

    @property
    def attention(self) -> str:
        """Default layer of attention maps: after it the patches of a network may not be read."""
        return f"blocks.{self.num_hidden_layers - 1}/norm1"

    def to_huggingface(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return `config.json` of a `ViTForImageClassification` of this size, with its classes."""
        return {
            "architectures": ["ViTForImageClassification"],
            "model_type": "vit",
            **{key: getattr(self, key) for key in READ if hasattr(self, key)},
            "id2label": {str(index): label for index, label in enumerate(labels)},
            "label2id": {label: index for index, label in enumerate(labels)},
        }


class Family(NamedTuple):
    """A `model_type` of Hugging Face's.

    Attributes:
        sizes: its config's defaults, if they differ from `ViTConfig`'s.
        heads: what the head reads, by the names of its models; "" for one without a head.
        settings: its own entries, or another expectation of common ones.
        within: entry that holds those of the image tower; "" if they are at the top.
    """

    sizes: ViTConfig
    heads: Mapping[str, str]
    settings: Mapping[str, Setting] = {}
    within: str = ""


_DINO = ViTConfig(layer_norm_eps=1e-6, patch_size=14, scaled=True)
_DINO_SETTINGS = {"mlp_ratio": NUMBER, "use_swiglu_ffn": BOOLEAN, "num_register_tokens": POSITIVE}
_CLIP = ViTConfig(
    hidden_act="quick_gelu", layer_norm_eps=1e-5, patch_size=32, patch_bias=False, pre_norm=True
)
_SIGLIP = ViTConfig(hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6, class_tokens=0, placed=0)
FAMILIES = {
    "vit": Family(ViTConfig(), {"ViTForImageClassification": "class", "ViTModel": ""}),
    "deit": Family(
        ViTConfig(class_tokens=2, placed=2),
        {
            "DeiTForImageClassification": "class",
            "DeiTForImageClassificationWithTeacher": "both",
            "DeiTModel": "",
        },
    ),
    "dinov2": Family(
        _DINO, {"Dinov2Model": "", "Dinov2ForImageClassification": "mean"}, _DINO_SETTINGS
    ),
    "dinov2_with_registers": Family(
        replace(_DINO, patch_size=16, registers=4, antialias=True),
        {"Dinov2WithRegistersModel": "", "Dinov2WithRegistersForImageClassification": "mean"},
        _DINO_SETTINGS,
    ),
    "clip_vision_model": Family(
        _CLIP, {"CLIPVisionModel": "", "CLIPVisionModelWithProjection": ""}
    ),
    "clip": Family(_CLIP, {"CLIPModel": ""}, within="vision_config"),
    "siglip_vision_model": Family(_SIGLIP, {"SiglipVisionModel": ""}),
    "siglip": Family(_SIGLIP, {"SiglipModel": ""}, within="vision_config"),
}
COMMON = SETTINGS | {
    **dict.fromkeys(("image_size", "patch_size"), POSITIVE),
    **FROM_HUGGING_FACE,
    "qkv_bias": only(True),
}
READ = (*SETTINGS, "image_size", "patch_size")

# Widths, depths and heads of timm's names.
TIMM_WIDTHS = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}


def _timm_sizes() -> dict[str, ViTConfig]:
    """Sizes by timm's architecture; the last part of most names is the image's side."""
    found = {}
    for size, (width, depth, heads) in TIMM_WIDTHS.items():
        plain = ViTConfig(width, 4 * width, depth, heads, layer_norm_eps=1e-6, antialias=True)
        for patch in (8, 16, 32):
            for side in (224, 384):
                sizes = replace(plain, patch_size=patch, image_size=side, num_classes=1000)
                found[f"vit_{size}_patch{patch}_{side}"] = sizes
                found[f"deit_{size}_patch{patch}_{side}"] = sizes
                found[f"deit_{size}_distilled_patch{patch}_{side}"] = replace(
                    sizes, class_tokens=2, placed=2, head="both"
                )
        dino = replace(plain, patch_size=14, image_size=518, scaled=True)
        found[f"vit_{size}_patch14_dinov2"] = dino
        found[f"vit_{size}_patch14_reg4_dinov2"] = replace(dino, registers=4, placed=0)
    return found


TIMM_SIZES = _timm_sizes()
TIMM_SETTINGS = FROM_TIMM | {"global_pool": only("token")}
# Without effect in evaluation mode.
TIMM_ARGUMENTS = {"img_size": POSITIVE, **dict.fromkeys(("drop_rate", "drop_path_rate"), ANY)}


def from_entries(entries: dict[str, Any]) -> ViTConfig:
    """Read a `config.json`: timm's, which names an architecture, or Hugging Face's.

    Raises `InputError` for all entries that no vision transformer has, or that are not implemented.
    """
    theirs = "architecture" not in entries and "model_type" in entries
    return _from_huggingface(entries) if theirs else _from_timm(entries)


def _from_huggingface(entries: dict[str, Any]) -> ViTConfig:
    family = FAMILIES[entries["model_type"]]
    named = entries.get("architectures") or [next(iter(family.heads))]
    problems = misfits({"architectures": _one_of_these(family.heads)}, {"architectures": named})
    tower = within(entries, family.within) if family.within else entries
    _refuse(problems + tower_misfits(family, tower, family.within))
    sizes = tower_sizes(family, tower)
    if head := family.heads[named[0]]:
        sizes = replace(sizes, head=head, num_classes=label_count(entries))
    return sizes


def within(entries: Mapping[str, Any], name: str) -> Any:
    """Return the entries of one tower of a config; those of an old `NAME_dict` overrule."""
    return next((entries[k] for k in (f"{name}_dict", name) if entries.get(k) is not None), {})


def tower_misfits(family: Family, tower: Any, name: str = "") -> list[str]:
    """List what is not implemented among an image tower's entries, which `name` holds."""
    if not isinstance(tower, dict):
        return [f"{name} = {shown(tower)[:60]} (expected an object of settings)"]
    where = f"{name}." if name else ""
    problems = misfits({**COMMON, **family.settings}, tower, where)
    if problems:
        return problems
    return size_misfits(tower_sizes(family, tower), where)


def size_misfits(sizes: ViTConfig, where: str = "") -> list[str]:
    """List the sizes that do not go together; all entries fit `COMMON`."""
    problems = head_misfits(vars(sizes), where)
    if sizes.patch_size > sizes.image_size:
        most = f"(expected at most image_size = {sizes.image_size})"
        problems.append(f"{where}patch_size = {sizes.patch_size} {most}")
    return problems


def tower_sizes(family: Family, tower: Mapping[str, Any]) -> ViTConfig:
    """Read the entries of an image tower that fit; absent ones take the family's defaults."""
    sizes = {key: tower[key] for key in READ if key in tower and hasattr(family.sizes, key)}
    width = sizes.get("hidden_size", family.sizes.hidden_size)
    if "mlp_ratio" in family.settings:  # its width replaces intermediate_size
        inner, gated = int(width * tower.get("mlp_ratio", 4)), tower.get("use_swiglu_ffn", False)
        # SwiGLU keeps two thirds of the units, rounded up to a multiple of 8.
        inner = (int(inner * 2 / 3) + 7) // 8 * 8 if gated else inner
        sizes |= {"intermediate_size": inner, "gated": gated}
    if family.sizes.registers:
        sizes["registers"] = tower.get("num_register_tokens", family.sizes.registers)
    return replace(family.sizes, **sizes)


def _from_timm(entries: dict[str, Any]) -> ViTConfig:
    name = str(entries.get("architecture")).partition(".")[0]
    known_name = Setting("a name such as vit_base_patch16_224", lambda value: value in TIMM_SIZES)
    _refuse(misfits({"architecture": known_name}, {"architecture": name}))
    base = TIMM_SIZES[name]
    arguments = entries.get("model_args") or {}
    known = TIMM_ARGUMENTS | dict.fromkeys(set(arguments) - set(TIMM_ARGUMENTS), UNKNOWN)
    _refuse(misfits(TIMM_SETTINGS, entries) + misfits(known, arguments, "model_args."))
    given = entries, pretrained_cfg(entries)
    classes = next((e["num_classes"] for e in given if "num_classes" in e), base.num_classes)
    side = arguments.get("img_size", base.image_size)
    sizes = replace(base, num_classes=classes, image_size=side)
    _refuse(size_misfits(sizes))
    return sizes


def _one_of_these(heads: Mapping[str, str]) -> Setting:
    return Setting(
        f"only {' or '.join(repr([name]) for name in heads)}",
        lambda value: isinstance(value, list) and len(value) == 1 and value[0] in heads,
    )


def _refuse(problems: list[str]) -> None:
    if problems:
        raise InputError(
            "config.json describes no vision transformer that is implemented: "
            f"{', '.join(problems)}; use another checkpoint, or wrap your own network in a Target."
        )
