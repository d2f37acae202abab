"""The formats that ResNets and CLIPs come in: which tensor of a file is which parameter.

network   format                             config                        table
ResNet    timm's folder, TimmWrapper's       `architecture`                TORCHVISION
ResNet    torchvision's .pth                 none: the tensors' own shapes TORCHVISION
ResNet    Hugging Face, microsoft/resnet-50  `model_type` "resnet"         HUGGING_FACE_RESNET
CLIP      Hugging Face, safetensors          `model_type` "clip"           HUGGING_FACE_CLIP
CLIP      Hugging Face, flax_model.msgpack   the same                      FLAX_CLIP
"""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from jaxdesc.models.checkpoint import (
    FLAX,
    PYTORCH,
    Axes,
    Framework,
    Row,
    Table,
    _abstract,
    assign,
    is_converted,
    read_orbax,
    tensors_of,
    write_folder,
)
from jaxdesc.models.clip import CLIP, CLIPConfig
from jaxdesc.models.files import parsed, read_config, read_tensors
from jaxdesc.models.resnet import STAGES, ResNet, ResNetConfig, fold_batch_norm


def _conv_norm(parameter: str, convolution: str, norm: str) -> tuple[Row, ...]:
    """PyTorch's convolution and BatchNorm as our `ConvNorm`."""
    return (
        Row(rf"{parameter}\.conv\.kernel", f"{convolution}.weight", PYTORCH.convolution),
        *PYTORCH.norm_rows(rf"{parameter}\.norm", norm),
        Row(rf"{parameter}\.norm\.mean", f"{norm}.running_mean"),
        Row(rf"{parameter}\.norm\.var", f"{norm}.running_var"),
    )


BATCH_COUNTERS = r".*\.num_batches_tracked"

TORCHVISION = Table(
    rows=(
        *_conv_norm("conv1", "conv1", "bn1"),
        *_conv_norm(r"(layer\d\.\d+)\.conv(\d)", r"\1.conv\2", r"\1.bn\2"),
        *_conv_norm(r"(layer\d\.\d+)\.downsample", r"\1.downsample.0", r"\1.downsample.1"),
        *PYTORCH.dense_rows("fc", "fc"),
    ),
    ignored=BATCH_COUNTERS,
)


def _hugging_face_stage(index: int) -> tuple[Row, ...]:
    """The rows of one stage; its convolutions are counted from 0, ours from 1."""
    ours, theirs = rf"{STAGES[index]}\.(\d+)", rf"resnet.encoder.stages.{index}.layers.\1"
    parts = [(f"conv{n + 1}", f"layer.{n}") for n in range(3)] + [("downsample", "shortcut")]
    return tuple(
        row
        for part, name in parts
        for row in _conv_norm(
            rf"{ours}\.{part}", f"{theirs}.{name}.convolution", f"{theirs}.{name}.normalization"
        )
    )


STEM = "resnet.embedder.embedder"
HUGGING_FACE_RESNET = Table(
    rows=(
        *_conv_norm("conv1", f"{STEM}.convolution", f"{STEM}.normalization"),
        *(row for index in range(len(STAGES)) for row in _hugging_face_stage(index)),
        *PYTORCH.dense_rows("fc", "classifier.1"),
    ),
    ignored=BATCH_COUNTERS,
)


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


def read_folded_resnet(source: str | PathLike[str], notes: list[str] | None = None) -> ResNet:
    """Read a ResNet without BatchNorm, from any format or from what `launch.convert` wrote.

    Args:
        source: as `load_resnet` takes it, or what `launch.convert` wrote.
        notes: as of `load_resnet`.

    Raises:
        InputError: as `load_resnet`.
    """
    if not is_converted(source):
        return fold_batch_norm(load_resnet(source, notes))
    config = parsed(ResNetConfig.from_entries, read_config(source), source)
    return read_orbax(fold_batch_norm(_abstract(ResNet, config)), source)


def load_resnet(source: str | PathLike[str], notes: list[str] | None = None) -> ResNet:
    """Read a ResNet.

    Args:
        source: a folder with timm's or Hugging Face's `config.json` and their tensors, or a file
            of tensors under torchvision's names.
        notes: gets a sentence about each thing around the tensors that was left out.

    Returns:
        The model in evaluation mode, with its BatchNorm; `fold_batch_norm` makes it faster.

    Raises:
        InputError: a missing, unreadable or unsuitable file, or tensors that do not fit.
    """
    if Path(source).is_file():
        tensors, table = read_tensors(source, notes), TORCHVISION
        config = parsed(ResNetConfig.from_shapes, _shapes(tensors), source)
    else:
        entries = read_config(source)
        config = parsed(ResNetConfig.from_entries, entries, source)
        table = TORCHVISION if "architecture" in entries else HUGGING_FACE_RESNET
        tensors = read_tensors(source, notes)
    model = assign(_abstract(ResNet, config), tensors, table, source)
    model.eval()
    return model


def save_resnet(
    model: ResNet, folder: str | PathLike[str], config_extra: Mapping[str, Any] | None = None
) -> None:
    """Write a ResNet as timm does, with torchvision's names; `load_resnet` reads it.

    Args:
        model: a model with BatchNorm.
        folder: created where it does not exist.
        config_extra: further entries of `config.json`, such as `pretrained_cfg` and label names.

    Raises:
        InputError: a folded model, which has no BatchNorm to write.
    """
    entries = {**(config_extra or {}), **model.config.to_timm()}
    write_folder(folder, entries, tensors_of(model, TORCHVISION))


def load_clip_model(folder: str | PathLike[str], notes: list[str] | None = None) -> CLIP:
    """Read a CLIP from a Hugging Face folder, or from one that `launch.convert` wrote.

    Args:
        folder: its folder.
        notes: as of `load_resnet`.

    Raises:
        InputError: a missing, unreadable or unsuitable file, or tensors that do not fit.
    """
    config = parsed(CLIPConfig.from_huggingface, read_config(folder), folder)
    if is_converted(folder):
        return read_orbax(_abstract(CLIP, config), folder)
    tensors = read_tensors(folder, notes)
    flax = any(name.endswith(".kernel") for name in tensors)
    table = FLAX_CLIP if flax else HUGGING_FACE_CLIP
    return assign(_abstract(CLIP, config), tensors, table, folder)


def save_clip_model(model: CLIP, folder: str | PathLike[str]) -> None:
    """Write a CLIP as `load_clip_model` and Hugging Face's `CLIPModel.from_pretrained` read it."""
    write_folder(folder, model.config.to_huggingface(), tensors_of(model, HUGGING_FACE_CLIP))


def _shapes(tensors: Mapping[str, np.ndarray]) -> dict[str, Axes]:
    return {name: tensor.shape for name, tensor in tensors.items()}
