"""ResNets' checkpoints: which tensor of a file is which parameter.

format                             config                        table
timm's folder, TimmWrapper's       `architecture`                TORCHVISION
torchvision's .pth                 none: the tensors' own shapes TORCHVISION
Hugging Face, microsoft/resnet-50  `model_type` "resnet"         HUGGING_FACE_RESNET
"""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from jaxdesc.models.checkpoint import (
    PYTORCH,
    Row,
    Table,
    abstract,
    assign,
    read_orbax,
    tensors_of,
    write_folder,
)
from jaxdesc.models.resnet import STAGES, ResNet, ResNetConfig, fold_batch_norm
from jaxdesc.models.settings import parsed, read_config
from jaxdesc.models.source import is_converted
from jaxdesc.models.tensors import read_tensors


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
    return read_orbax(fold_batch_norm(abstract(ResNet, config)), source)


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
        config = parsed(
            ResNetConfig.from_shapes, {name: t.shape for name, t in tensors.items()}, source
        )
    else:
        entries = read_config(source)
        config = parsed(ResNetConfig.from_entries, entries, source)
        table = TORCHVISION if "architecture" in entries else HUGGING_FACE_RESNET
        tensors = read_tensors(source, notes)
    model = assign(abstract(ResNet, config), tensors, table, source)
    model.eval()
    return model


def save_resnet(
    model: ResNet, folder: str | PathLike[str], config_extra: Mapping[str, Any] | None = None
) -> None:
    """Write a ResNet as timm does, with torchvision's names; `load_resnet` reads it.

    Args:
        model: a model with BatchNorm.
        folder: created if it does not exist.
        config_extra: further entries of `config.json`, such as `pretrained_cfg` and label names.

    Raises:
        InputError: a folded model, which has no BatchNorm to write.
    """
    entries = {**(config_extra or {}), **model.config.to_timm()}
    write_folder(folder, entries, tensors_of(model, TORCHVISION))
