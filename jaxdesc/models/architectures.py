"""Architectures of targets, and how a target is read from a checkpoint."""

from collections.abc import Callable, Collection
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import nnx

from jaxdesc.errors import InputError, shown
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.models.convnext import MODEL_TYPES, read_convnext
from jaxdesc.models.convnext import TIMM_SIZES as CONVNEXTS
from jaxdesc.models.encoder import Tower
from jaxdesc.models.packaging import read_labels, target_preprocess
from jaxdesc.models.precision import cast, check_precision
from jaxdesc.models.resnet import read_folded_resnet, with_winograd
from jaxdesc.models.resnet_config import STAGES, TIMM_SIZES
from jaxdesc.models.settings import read_config
from jaxdesc.models.source import TARGET, open_network
from jaxdesc.models.target import Target
from jaxdesc.models.vit import read_vit
from jaxdesc.models.vit_config import FAMILIES
from jaxdesc.models.vit_config import TIMM_SIZES as VITS


class Architecture(NamedTuple):
    """One kind of network that `load_target` reads.

    `read` takes a folder or file and a list for notes, and returns an NNX module in evaluation
    mode. That is called as `module(pixels, tap)`; its `config.num_classes` counts its logits, and
    its `config.prefix`, if it has one, the tokens before those of the patches.
    """

    # The `architecture` (timm's) or `model_type` (Hugging Face's) in its config.json.
    names: Collection[str]
    read: Callable[[Path, list[str]], Any]
    # Default layer of attention maps, in which {config} is the module's; the last one if empty.
    attention: str = ""
    on_cpu: Callable[[Any], Any] = lambda module: module  # the same, faster on a CPU in float32


ARCHITECTURES = {
    "resnet": Architecture(
        names=("resnet", *TIMM_SIZES),
        read=read_folded_resnet,
        attention=STAGES[-1],
        on_cpu=with_winograd,
    ),
    "vit": Architecture(
        names=(*FAMILIES, *VITS),
        read=read_vit,
        # After it a network that reads its class token has no gradient at the patches.
        attention="{config.attention}",
    ),
    "convnext": Architecture(names=(*MODEL_TYPES, *CONVNEXTS), read=read_convnext),
}


def load_target(
    source: str | PathLike[str],
    *,
    revision: str | None = None,
    precision: str = "float32",
    preprocess: str | Preprocess = "",
    platform: str = "",
) -> Target:
    """Read a target network of any architecture in `ARCHITECTURES`, its BatchNorm folded.

    Its notes say what was assumed or left out. `packaging.read_labels` reads its classes.

    Args:
        source: one of
            a local folder with timm's `config.json` and torchvision's tensors, with a Hugging Face
            `ResNetForImageClassification` or `TimmWrapperForImageClassification`, or with what
            `launch.convert` wrote; or with a vision transformer or a ConvNeXt, Hugging Face's or
            timm's; or with a whole CLIP or SigLIP, whose image tower is the target;
            a file of torchvision's tensors, such as `resnet50-11ad3fa6.pth`, or a training
            checkpoint that holds them;
            a Hugging Face id, such as timm/resnet50.tv_in1k (torchvision's V1 weights) or
            timm/resnet50.tv2_in1k (V2);
            "scenes", the embedded world's classifier, "scenes:vit", its vision transformer, or
            "scenes:attributes", its network of attributes.
        revision: branch, tag or commit of a Hugging Face id; its main branch by default. The
            target's name gives the commit.
        precision: "float32", or "bfloat16" for weights and feature maps; logits, pooled activations
            and Grad-CAM's weights are float32 in both.
        preprocess: a name in `jaxdesc.images.preprocess.PRESETS` or a `Preprocess`, which replaces
            the checkpoint's own; by default that one, the one for evaluation, or ImageNet's usual
            one if there is none.
        platform: what it will run on, "cpu", "gpu" or "tpu"; JAX's default backend by default. On
            a CPU a network of float32 may take other parameters, such as Winograd's kernels.

    Raises:
        InputError: a missing source, a config that is not understood, tensors that do not fit, or
            another precision or preprocessing.
    """
    check_precision(precision)
    path, name, notes = open_network(source, TARGET, revision)
    architecture = architecture_of(path)
    model = architecture.read(path, notes)
    labels = read_labels(path, model.config.num_classes, notes)
    wanted = target_preprocess(path, preprocess, notes)
    if (platform or jax.default_backend()) == "cpu" and precision == "float32":
        model = architecture.on_cpu(model)
    graph, params = nnx.split(model)
    return Target(
        params=cast(params, precision),
        apply=Tower(graph),
        preprocess=wanted,
        classes=labels.names,
        name=name,
        attention=architecture.attention.format(config=model.config),
        prefix=getattr(model.config, "prefix", 0),
        wnids=labels.wnids,
        notes=tuple(notes),
    )


def architecture_of(path: Path) -> Architecture:
    """Return the entry for a folder's config; a file holds a ResNet, by torchvision's names."""
    if path.is_file():
        return ARCHITECTURES["resnet"]
    entries = read_config(path)
    name = entries.get("architecture", entries.get("model_type"))
    base = name.partition(".")[0] if isinstance(name, str) else ""  # the rest is the weights' tag
    for architecture in ARCHITECTURES.values():
        if base in architecture.names:
            return architecture
    known = "; ".join(", ".join([*each.names][:4]) for each in ARCHITECTURES.values())
    raise InputError(
        f"{path}: config.json names the architecture {shown(name)}, which is not one of {known} or "
        "their relatives; use a checkpoint of one of these, or wrap your own network in a Target."
    )
