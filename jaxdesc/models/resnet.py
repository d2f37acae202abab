"""ResNet v1.5 in Flax NNX, channels last, and its relatives ResNet-C and -D, ResNeXt, Wide ResNet.

The network is torchvision's (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016,
with the stride of a bottleneck moved to its 3 × 3 convolution), so that torchvision's and timm's
weights give their authors' outputs. ResNet-C and -D are those of He et al., "Bag of Tricks for
Image Classification with Convolutional Neural Networks", CVPR 2019; ResNeXt is by Xie et al.,
"Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017; Wide ResNet by Zagoruyko
and Komodakis, BMVC 2016. Paddings are explicit numbers: `"SAME"` would pad an even image on one
side only, and shift every feature map.
"""

from collections.abc import Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxdesc.models import checkpoint
from jaxdesc.models.precision import float32_products
from jaxdesc.models.resnet_config import EXPANSION, STAGES, ResNetConfig
from jaxdesc.models.settings import parsed, read_config
from jaxdesc.models.source import is_converted
from jaxdesc.models.taps import Tap, untouched
from jaxdesc.models.tensors import read_tensors
from jaxdesc.models.winograd import WinogradConvolution
from jaxdesc.runtime.compiler import PIECES, in_pieces, materialised

# With fewer channels a product is too small to pay for the transforms.
WINOGRAD_WIDTH = 64


class ConvNorm(nnx.Module):
    """A convolution and its batch normalisation; folded, a convolution with a bias alone."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        stride: int = 1,
        groups: int = 1,
        *,
        rngs: nnx.Rngs,
    ):
        side = (size // 2, size // 2)
        self.conv: Any = nnx.Conv(  # or a `WinogradConvolution`
            inputs,
            outputs,
            (size, size),
            strides=(stride, stride),
            padding=(side, side),
            feature_group_count=groups,
            use_bias=False,
            kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
            rngs=rngs,
        )
        self.norm: nnx.BatchNorm | None = nnx.BatchNorm(
            outputs, momentum=0.9, epsilon=1e-5, rngs=rngs
        )

    def __call__(self, x: Float[Array, "batch h w inputs"]) -> Float[Array, "batch p q outputs"]:
        """Return the normalised convolution."""
        x = self.conv(x)
        return x if self.norm is None else self.norm(x)


class Block(nnx.Module):
    """Convolutions around a shortcut; the first 3 × 3 one carries the stride (v1.5).

    They are two of 3 × 3 (basic), or 1 × 1, 3 × 3 in groups, and 1 × 1 (bottleneck).
    """

    def __init__(
        self, config: ResNetConfig, inputs: int, channels: int, stride: int, *, rngs: nnx.Rngs
    ):
        width, outputs = config.inner(channels), channels * EXPANSION[config.block]
        self.is_deep = config.block == "bottleneck"
        if self.is_deep:
            self.conv1 = ConvNorm(inputs, width, 1, rngs=rngs)
            self.conv2 = ConvNorm(width, width, 3, stride, config.cardinality, rngs=rngs)
            self.conv3 = ConvNorm(width, outputs, 1, rngs=rngs)
        else:
            self.conv1 = ConvNorm(inputs, width, 3, stride, rngs=rngs)
            self.conv2 = ConvNorm(width, width, 3, rngs=rngs)
        # A projection if the block changes its input's shape, else the identity.
        same = stride == 1 and inputs == outputs
        self.halves = config.avg_down and stride == 2
        skipped = 1 if self.halves else stride
        self.downsample = None if same else ConvNorm(inputs, outputs, 1, skipped, rngs=rngs)

    def __call__(self, x: Float[Array, "batch h w inputs"]) -> Float[Array, "batch p q outputs"]:
        """Return the block's output after its last ReLU."""
        y = self.conv2(jax.nn.relu(self.conv1(x)))
        if self.is_deep:
            y = self.conv3(jax.nn.relu(y))
        if self.halves:
            x = _halved(x)
        y += x if self.downsample is None else self.downsample(x)
        return materialised(jax.nn.relu(y))


def _halved(x: Float[Array, "batch h w channels"]) -> Float[Array, "batch p q channels"]:
    """Return means of 2 × 2 pixels; those at the end of an odd side are of the pixels there are."""
    ends = [(0, side % 2) for side in x.shape[1:3]]
    means = nnx.avg_pool(x, (2, 2), strides=(2, 2), padding=ends, count_include_pad=False)
    return means.astype(x.dtype)  # Flax divides by float32 numbers


class ResNet(nnx.Module):
    """A ResNet v1.5 classifier, at first in training mode, of Kaiming-normal weights (fan-out).

    A deep stem has two convolutions before `conv1`.
    """

    def __init__(self, config: ResNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        width = inputs = config.stem_width
        self.stem: nnx.List[ConvNorm] = nnx.List()
        if config.stem_type == "deep":
            self.stem.append(ConvNorm(3, width, 3, 2, rngs=rngs))
            self.stem.append(ConvNorm(width, width, 3, rngs=rngs))
            inputs = 2 * width
            self.conv1 = ConvNorm(width, inputs, 3, rngs=rngs)
        else:
            self.conv1 = ConvNorm(3, width, 7, 2, rngs=rngs)
        for stage, depth, channels in zip(STAGES, config.layers, config.channels, strict=True):
            blocks = []
            for index in range(depth):
                stride = 2 if index == 0 and stage != STAGES[0] else 1
                blocks.append(Block(config, inputs, channels, stride, rngs=rngs))
                inputs = channels * EXPANSION[config.block]
            setattr(self, stage, nnx.List(blocks))
        uniform = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        self.fc = nnx.Linear(inputs, config.num_classes, kernel_init=uniform, rngs=rngs)

    @float32_products
    def __call__(
        self, pixels: Float[Array, "batch height width 3"], tap: Tap = untouched
    ) -> Float[Array, "batch classes"]:
        """Return the class logits of normalised images of any height and width.

        They take the weights' type, and so do all maps; the logits are float32. The tap gets
        `layer1` … `layer4`, each stage's output after its last ReLU; the last is at 1/32 of the
        image's resolution (rounded up).
        """
        x = jnp.asarray(pixels, self.conv1.conv.kernel.dtype)
        for index, stage in enumerate(STAGES):
            # Once BatchNorm is folded, images are independent. Each stage halves their maps, so
            # twice as many images fit a CPU's caches.
            size = max(1, PIECES["cpu"] >> (len(STAGES) - 1 - index)) if self.is_folded else len(x)
            x = tap(stage, in_pieces(partial(_run_stage, index), self, x, {"cpu": size}))
        return self.fc(x.mean(axis=(1, 2), dtype=jnp.float32))

    @property
    def is_folded(self) -> bool:
        """True once BatchNorm is folded into the convolutions."""
        return self.conv1.norm is None


def _run_stage(index: int, model: ResNet, x: Float[Array, "batch h w inputs"]) -> Array:
    if index == 0:
        for convolution in (*model.stem, model.conv1):
            x = jax.nn.relu(convolution(x))
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
    for block in getattr(model, STAGES[index]):
        x = block(x)
    return x


def fold_batch_norm(model: ResNet) -> ResNet:
    """Return the network equal to `model` in evaluation mode, without BatchNorm.

    With running mean μ and variance σ², scale γ and shift β, each convolution `W` becomes
    `W γ / √(σ² + ε)` with the bias `β − μ γ / √(σ² + ε)`. The result can't be trained or saved.
    The model may be folded already, or its shapes, as `nnx.eval_shape` returns them.
    """
    folded = nnx.merge(*nnx.split(model))
    for _, unit in nnx.iter_modules(folded):
        if isinstance(unit, ConvNorm) and unit.norm is not None:
            kernel, bias = _folded_weights(unit.conv.kernel.get_value(), unit.norm)
            unit.conv.kernel, unit.conv.bias = nnx.Param(kernel), nnx.Param(bias)
            unit.conv.use_bias, unit.norm = True, None
    folded.eval()
    return folded


def with_winograd(model: ResNet) -> ResNet:
    """Return a folded network with Winograd's convolutions for wide 3 × 3 ones of stride 1.

    Those are faster on a CPU; their kernels take 16/9 of the memory. Convolutions in groups, whose
    kernels join a few channels each, stay as they are.
    """
    quick = nnx.merge(*nnx.split(model))
    for _, unit in list(nnx.iter_modules(quick)):
        if not isinstance(unit, ConvNorm):
            continue
        if unit.conv.strides == (1, 1) and unit.conv.feature_group_count == 1:
            *size, inputs, outputs = unit.conv.kernel.shape
            if size == [3, 3] and min(inputs, outputs) >= WINOGRAD_WIDTH:
                unit.conv = WinogradConvolution(unit.conv.kernel[...], unit.conv.bias[...])
    return quick


def _folded_weights(kernel: Any, norm: Any) -> tuple[Any, Any]:
    """Fold in NumPy: XLA would take seconds to compile a program per shape."""
    if isinstance(kernel, jax.ShapeDtypeStruct):
        return kernel, jax.ShapeDtypeStruct(kernel.shape[-1:], kernel.dtype)
    vectors = (norm.mean, norm.var, norm.scale, norm.bias)
    mean, var, scale, bias = (np.asarray(vector[...], np.float64) for vector in vectors)
    multiplier = scale / np.sqrt(var + norm.epsilon)
    weights = np.asarray(kernel) * multiplier.astype(np.float32)
    return jnp.asarray(weights), jnp.asarray(bias - mean * multiplier, jnp.float32)


def _conv_norm(ours: str, convolution: str, norm: str) -> dict[str, str]:
    """A convolution and BatchNorm as our `ConvNorm`; a bias would be a folded network's."""
    return {rf"{ours}\.conv\.kernel": f"{convolution}.kernel", rf"{ours}\.norm": norm}


def _hugging_face(ours: str, theirs: str) -> dict[str, str]:
    return _conv_norm(ours, f"{theirs}.convolution", f"{theirs}.normalization")


_COUNTERS = r".*\.num_batches_tracked"
_STEMS = {
    "": _conv_norm("conv1", "conv1", "bn1"),
    "deep": _conv_norm(r"stem\.0", "conv1.0", "conv1.1")
    | _conv_norm(r"stem\.1", "conv1.3", "conv1.4")
    | _conv_norm("conv1", "conv1.6", "bn1"),
}


def torchvision_table(config: ResNetConfig) -> checkpoint.Table:
    """Return the table of torchvision's names, which timm's and TimmWrapper's continue."""
    first = int(config.avg_down)  # a pool is number 0 of its shortcut
    shortcut = rf"\1.downsample.{first}", rf"\1.downsample.{first + 1}"
    return checkpoint.pytorch_table(
        _STEMS[config.stem_type]
        | _conv_norm(r"(layer\d\.\d+)\.conv(\d)", r"\1.conv\2", r"\1.bn\2")
        | _conv_norm(r"(layer\d\.\d+)\.downsample", *shortcut)
        | {"fc": "fc"},
        _COUNTERS,
    )


# Stages and convolutions are counted from 0, ours from 1.
_PARTS = {"conv1": "layer.0", "conv2": "layer.1", "conv3": "layer.2", "downsample": "shortcut"}
HUGGING_FACE_RESNET = checkpoint.pytorch_table(
    _hugging_face("conv1", "resnet.embedder.embedder")
    | {
        row: tensor
        for index, stage in enumerate(STAGES)
        for part, name in _PARTS.items()
        for row, tensor in _hugging_face(
            rf"{stage}\.(\d+)\.{part}", rf"resnet.encoder.stages.{index}.layers.\1.{name}"
        ).items()
    }
    | {"fc": "classifier.1"},
    _COUNTERS,
)


def read_folded_resnet(source: str | PathLike[str], notes: list[str] | None = None) -> ResNet:
    """Read a ResNet without BatchNorm, as `load_resnet` or from what `launch.convert` wrote."""
    if not is_converted(source):
        return fold_batch_norm(load_resnet(source, notes))
    config = parsed(ResNetConfig.from_entries, read_config(source), source)
    return checkpoint.read_orbax(fold_batch_norm(checkpoint.abstract(ResNet, config)), source)


def load_resnet(source: str | PathLike[str], notes: list[str] | None = None) -> ResNet:
    """Read a ResNet in evaluation mode, with its BatchNorm; `fold_batch_norm` makes it faster.

    The source is a folder with timm's or Hugging Face's `config.json` and their tensors, or a file
    of tensors under torchvision's or timm's names. Notes get a sentence about each thing around the
    tensors that was left out. Raises `InputError` for a missing, unreadable or unsuitable file, or
    tensors that do not fit.
    """
    if Path(source).is_file():
        tensors = read_tensors(source, notes)
        shapes = {name: t.shape for name, t in tensors.items()}
        config = parsed(ResNetConfig.from_shapes, shapes, source)
        table = torchvision_table(config)
    else:
        entries = read_config(source)
        config = parsed(ResNetConfig.from_entries, entries, source)
        table = torchvision_table(config) if "architecture" in entries else HUGGING_FACE_RESNET
        tensors = read_tensors(source, notes)
    model = checkpoint.assign(checkpoint.abstract(ResNet, config), tensors, table, source)
    model.eval()
    return model


def save_resnet(
    model: ResNet, folder: str | PathLike[str], config_extra: Mapping[str, Any] | None = None
) -> None:
    """Write a ResNet with BatchNorm as timm does, with torchvision's names.

    `config_extra` is further entries of `config.json`, such as `pretrained_cfg` and label names.
    Raises `InputError` for a folded model, which has no BatchNorm to write.
    """
    entries = {**(config_extra or {}), **model.config.to_timm()}
    checkpoint.write_folder(
        folder, entries, checkpoint.tensors_of(model, torchvision_table(model.config))
    )
