"""CLIPs in the packaging of open_clip: `open_clip_config.json` and its own tensor names.

Ilharco et al., OpenCLIP, 2021. Numbers follow its `CLIP` with a `VisionTransformer` and a causal
text tower, which compute what Hugging Face's `CLIPModel` does.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxdesc.errors import InputError, shown
from jaxdesc.images.preprocess import OPENAI, Preprocess
from jaxdesc.models import checkpoint
from jaxdesc.models.clip import CLIP, HUGGING_FACE_CLIP, LEGACY_EOS_TOKEN_ID, clip_namer
from jaxdesc.models.clip_config import CLIPConfig, TextConfig
from jaxdesc.models.encoder import Namer
from jaxdesc.models.packaging import squashes, stated_preprocess
from jaxdesc.models.settings import (
    ANY,
    BOOLEAN,
    DEPTH,
    NUMBER,
    POSITIVE,
    UNKNOWN,
    Setting,
    misfits,
    only,
    parsed,
    read_object,
)
from jaxdesc.models.source import OPEN_CLIP, is_converted
from jaxdesc.models.tensors import Tensors, read_tensors, renamed
from jaxdesc.models.transformer import head_misfits
from jaxdesc.models.vit_config import FAMILIES, ViTConfig, size_misfits

POSITIVE_NUMBER = Setting("a positive number", lambda value: NUMBER.fits(value) and value > 0)
LIST = Setting("a list", lambda value: isinstance(value, list))
# Entries that are read, and others at the values that are implemented; those are the defaults.
MODEL = {
    "embed_dim": POSITIVE,
    "quick_gelu": BOOLEAN,
    "vision_cfg": ANY,
    "text_cfg": ANY,
    "custom_text": only(False),
    **dict.fromkeys(("init_logit_scale", "init_logit_bias", "nonscalar_logit_scale"), ANY),
    "cast_dtype": ANY,
}
SIZES = {"width": POSITIVE, "layers": DEPTH, "mlp_ratio": POSITIVE_NUMBER}
PLAIN = {
    "ls_init_value": only(None),
    "output_tokens": only(False),
    "final_ln_after_pool": only(False),
    "act_kwargs": only({}, None),
    "norm_kwargs": only({}, None),
}
VISION = SIZES | {
    "head_width": POSITIVE,
    "patch_size": POSITIVE,
    "image_size": POSITIVE,
    **PLAIN,
    "patch_dropout": ANY,  # of training
    "attentional_pool": only(False),
    **dict.fromkeys(("attn_pooler_queries", "attn_pooler_heads"), ANY),
    "no_ln_pre": only(False),
    "pos_embed_type": only("learnable"),
    "pool_type": only("tok"),
    "timm_model_name": only(None),
    **dict.fromkeys(("timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias"), ANY),
    **dict.fromkeys(("timm_drop", "timm_drop_path"), ANY),
}
TEXT = SIZES | {
    "heads": POSITIVE,
    "context_length": POSITIVE,
    "vocab_size": POSITIVE,
    **PLAIN,
    **dict.fromkeys(("tokenizer_kwargs", "pad_id", "eos_id"), ANY),
    "embed_cls": only(False),
    "no_causal_mask": only(False),
    "pool_type": only("argmax"),
    "proj_type": only("linear"),
    "proj_bias": only(False),
    **dict.fromkeys(("hf_tokenizer_name", "hf_model_name", "hf_model_config"), only(None)),
    **dict.fromkeys(("hf_model_pretrained", "hf_proj_type", "hf_pooler_type"), ANY),
}
PREPROCESSING = {
    "mode": only("RGB"),
    "interpolation": only("bicubic", "bilinear"),
    "resize_mode": only("shortest", "squash"),
    **dict.fromkeys(("mean", "std"), LIST),
    **dict.fromkeys(("size", "fill_color"), ANY),
}


def _names() -> dict[str, str | list[str]]:
    """Names that Hugging Face's CLIP has for open_clip's tensors."""
    names: dict[str, str | list[str]] = {
        r"visual\.class_embedding": "vision_model.embeddings.class_embedding",
        r"visual\.conv1\.weight": "vision_model.embeddings.patch_embedding.weight",
        r"visual\.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        r"visual\.ln_pre\.(.*)": r"vision_model.pre_layrnorm.\1",
        r"visual\.ln_post\.(.*)": r"vision_model.post_layernorm.\1",
        r"visual\.proj": "visual_projection.weight",
        r"token_embedding\.weight": "text_model.embeddings.token_embedding.weight",
        r"positional_embedding": "text_model.embeddings.position_embedding.weight",
        r"ln_final\.(.*)": r"text_model.final_layer_norm.\1",
        r"text_projection": "text_projection.weight",
    }
    for start, tower in ((r"visual\.", "vision_model"), ("", "text_model")):
        block, layer = rf"{start}transformer\.resblocks\.(\d+)", rf"{tower}.encoder.layers.\1"
        names |= {
            rf"{block}\.ln_([12])\.(.*)": rf"{layer}.layer_norm\2.\3",
            rf"{block}\.attn\.in_proj_(.*)": [rf"{layer}.self_attn.{x}_proj.\2" for x in "qkv"],
            rf"{block}\.attn\.out_proj\.(.*)": rf"{layer}.self_attn.out_proj.\2",
            rf"{block}\.mlp\.c_fc\.(.*)": rf"{layer}.mlp.fc1.\2",
            rf"{block}\.mlp\.c_proj\.(.*)": rf"{layer}.mlp.fc2.\2",
        }
    return names


NAMES = _names()
PROJECTIONS = "visual_projection.weight", "text_projection.weight"  # transposed in open_clip
# Older files hold the causal mask and sizes too.
TABLE = HUGGING_FACE_CLIP._replace(ignored="attn_mask|input_resolution|context_length|vocab_size")


def from_open_clip(entries: Mapping[str, Any]) -> CLIPConfig:
    """Read the entries of an `open_clip_config.json`; absent ones take open_clip's defaults.

    Raises `InputError` for all entries that are not implemented.
    """
    model: Any = entries.get("model_cfg")
    if not isinstance(model, dict):
        _refuse([f"model_cfg = {shown(model)[:60]} (expected an object of settings)"])
    vision, text = model.get("vision_cfg", {}), model.get("text_cfg", {})
    problems = _misfits(MODEL, model, "model_cfg")
    problems += _misfits(VISION, vision, "vision_cfg") + _misfits(TEXT, text, "text_cfg")
    kwargs = text.get("tokenizer_kwargs") if isinstance(text, dict) else None
    if isinstance(kwargs, dict) and kwargs.get("clean", "lower") != "lower":
        problems.append(f"text_cfg.tokenizer_kwargs = {shown(kwargs)[:60]} (expected clean lower)")
    _refuse(problems)
    shared = {"hidden_act": "quick_gelu" if model.get("quick_gelu", False) else "gelu"}
    towers = CLIPConfig(
        vision=_sized(FAMILIES["clip"].sizes, vision, shared, patch_size=16),
        text=_sized(TextConfig(), text, shared, eos_token_id=LEGACY_EOS_TOKEN_ID),
        projection_dim=model.get("embed_dim", 512),
    )
    problems = size_misfits(towers.vision, "vision_cfg.")
    _refuse(problems + head_misfits(vars(towers.text), "text_cfg."))
    return towers


# Our names of open_clip's sizes.
SIZED = {
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "patch_size": "patch_size",
    "image_size": "image_size",
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
}


def _sized(usual: Any, entries: Mapping[str, Any], shared: Mapping[str, Any], **others: Any) -> Any:
    """Return a tower's config: `usual` with the entries of open_clip's."""
    sizes = {ours: entries[key] for key, ours in SIZED.items() if key in entries}
    sized = replace(usual, **{**others, **shared, **sizes})
    inner = int(sized.hidden_size * entries.get("mlp_ratio", 4))
    heads = sized.num_attention_heads
    if isinstance(usual, ViTConfig):
        heads = max(1, sized.hidden_size // entries.get("head_width", 64))
    return replace(sized, intermediate_size=inner, num_attention_heads=heads)


def _misfits(settings: Mapping[str, Setting], entries: Any, where: str) -> list[str]:
    if not isinstance(entries, dict):
        return [f"{where} = {shown(entries)[:60]} (expected an object of settings)"]
    unknown = dict.fromkeys(set(entries) - set(settings), UNKNOWN)
    return misfits({**settings, **dict(sorted(unknown.items()))}, entries, f"{where}.")


def _refuse(problems: list[str]) -> None:
    if problems:
        raise InputError(
            f"{OPEN_CLIP} describes no CLIP that is implemented: {', '.join(problems)}; use a CLIP "
            "with a ViT image tower, or give the same network in Hugging Face's form."
        )


def _preprocess(
    folder: Path, size: int, stated: str | Preprocess, entries: Any, notes: list[str]
) -> Preprocess:
    """Return the preprocessing of `preprocess_cfg`, or a stated one."""
    if stated:
        return stated_preprocess(folder, size, stated)
    problems = _misfits(PREPROCESSING, entries, "preprocess_cfg")
    if problems:
        raise InputError(f"{folder / OPEN_CLIP}: {', '.join(problems)}; correct these entries.")
    file = folder / OPEN_CLIP
    if not {"mean", "std"} <= set(entries):
        notes.append(f"{file} gives no mean or std of its preprocessing: openai's were assumed.")
    if entries.get("resize_mode") == "squash":
        notes.append(squashes(file))

    def read(entries: dict[str, Any]) -> Preprocess:
        mean, std = entries.get("mean", OPENAI[0]), entries.get("std", OPENAI[1])
        interpolation = entries.get("interpolation", "bicubic")
        return Preprocess(size, 1.0, interpolation, tuple(mean), tuple(std))

    return parsed(read, entries, file)


def load(folder: Path, preprocess: str | Preprocess, notes: list[str]) -> Namer:
    """Load a folder's CLIP as a name encoder: the entry "open_clip" of `NAMERS`."""
    entries = read_object(folder / OPEN_CLIP, "the config of an open_clip checkpoint")
    config = parsed(from_open_clip, entries, folder)
    shapes = checkpoint.abstract(CLIP, config)
    if is_converted(folder):
        model = checkpoint.read_orbax(shapes, folder)
    else:
        tensors = respelled(read_tensors(folder, notes))
        model = checkpoint.assign(shapes, tensors, TABLE, folder)
    size, cfg = config.vision.image_size, entries.get("preprocess_cfg") or {}
    return clip_namer(model, folder, _preprocess(folder, size, preprocess, cfg, notes))


def respelled(tensors: Mapping[str, np.ndarray]) -> Tensors:
    """Return open_clip's tensors under the names, and in the layout, of Hugging Face's CLIP."""
    found = renamed(tensors, NAMES)

    def read(name: str) -> np.ndarray:
        return found[name].T if name in PROJECTIONS else found[name]

    return Tensors({name: partial(read, name) for name in found})
