"""ResNet v1.5 in Flax NNX, channels last: the vision network whose neurons are described.

The network is torchvision's (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016,
with the stride of a bottleneck moved to its 3 × 3 convolution), so that torchvision's and timm's
weights give their authors' outputs. Paddings are explicit numbers: `"SAME"` would pad an even image
on one side only, and shift every feature map.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxdesc.errors import InputError, shown
from jaxdesc.models.precision import float32_products
from jaxdesc.models.settings import (
    ANY,
    LARGEST,
    MOST_LAYERS,
    POSITIVE,
    UNKNOWN,
    Setting,
    misfits,
    one_of,
    only,
    pretrained_cfg,
)
from jaxdesc.models.taps import Tap, untouched
from jaxdesc.models.winograd import WinogradConvolution
from jaxdesc.runtime.compiler import PIECE, in_pieces, materialised

EXPANSION = {"basic": 1, "bottleneck": 4}
# Channels below which a product is too small to pay for its transforms.
WINOGRAD_WIDTH = 64
STAGES = ("layer1", "layer2", "layer3", "layer4")


@dataclass(frozen=True)
class ResNetConfig:
    """The sizes of a ResNet.

    Attributes:
        block: `"basic"` (two 3 × 3 convolutions) or `"bottleneck"` (1 × 1, 3 × 3, 1 × 1).
        layers: blocks in each of the four stages.
        channels: width of each stage; a bottleneck's output has four times as many channels.
        stem_width: channels after the first 7 × 7 convolution.
        num_classes: rows of the last linear layer.

    Raises:
        InputError: a size that no network can have.
    """

    block: str
    layers: tuple[int, ...]
    channels: tuple[int, ...] = (64, 128, 256, 512)
    stem_width: int = 64
    num_classes: int = 1000

    def __post_init__(self) -> None:
        _refuse_impossible(asdict(self))

    @classmethod
    def from_entries(cls, entries: dict[str, Any]) -> "ResNetConfig":
        """Read a `config.json`: timm's, which names an architecture, or Hugging Face's.

        Raises:
            InputError: another network, or fields that are not implemented, all of them by name.
        """
        theirs = "architecture" not in entries and "model_type" in entries
        return cls.from_huggingface(entries) if theirs else cls.from_timm(entries)

    @classmethod
    def from_timm(cls, entries: dict[str, Any]) -> "ResNetConfig":
        """Read timm's `config.json`: a row of `TIMM_SIZES`, with the sizes of `model_args`.

        The other arguments must be at timm's defaults. Entries about images and labels are read
        elsewhere.
        """
        name = entries.get("architecture")
        if not isinstance(name, str) or name.partition(".")[0] not in TIMM_SIZES:
            raise InputError(
                f"config.json names the architecture {name!r}, which is not one of "
                f"{', '.join(TIMM_SIZES)}; use a checkpoint of one of these, or wrap your own "
                "network in a Target."
            )
        base = TIMM_SIZES[name.partition(".")[0]]  # the rest is a tag of its weights
        arguments = entries.get("model_args") or {}
        pretrained = pretrained_cfg(entries)
        counts = [entries, arguments if isinstance(arguments, dict) else {}, pretrained]
        classes = next((e["num_classes"] for e in counts if "num_classes" in e), base.num_classes)
        _refuse(
            misfits(TIMM_SETTINGS, entries)
            + misfits(TIMM_POOLING, entries.get("pretrained_cfg") or {}, "pretrained_cfg.")
            + _argument_misfits(arguments, classes)
        )
        given = {key: arguments[key] for key in MODEL_ARGUMENTS if key in arguments}
        sizes: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
        } | {"num_classes": classes}
        _refuse_impossible(asdict(base) | sizes)
        return replace(base, **sizes)

    @classmethod
    def from_huggingface(cls, entries: dict[str, Any]) -> "ResNetConfig":
        """Read a `ResNetForImageClassification`'s `config.json`, such as microsoft/resnet-50's."""
        _refuse(misfits(HUGGING_FACE_SETTINGS, entries))
        block = entries.get("layer_type", "bottleneck")
        widths = entries.get("hidden_sizes", [256, 512, 1024, 2048])
        return cls(
            block=block,
            layers=tuple(entries.get("depths", [3, 4, 6, 3])),
            channels=tuple(width // EXPANSION[block] for width in widths),
            stem_width=entries.get("embedding_size", 64),
            num_classes=len(entries.get("id2label") or {}) or entries.get("num_labels", 2),
        )

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, tuple[int, ...]]) -> "ResNetConfig":
        """Derive the sizes from the tensors of a torchvision state dict, which has no config.

        Other shapes are checked when the tensors are assigned. No tensor shows the stride, which
        is assumed to be torchvision's.

        Raises:
            InputError: the tensors are not a ResNet's.
        """
        blocks = {".".join(name.split(".")[:2]) for name in shapes}
        try:
            return cls(
                block="bottleneck" if "layer1.0.conv3.weight" in shapes else "basic",
                layers=tuple(sum(b.startswith(f"{stage}.") for b in blocks) for stage in STAGES),
                channels=tuple(shapes[f"{stage}.0.conv1.weight"][0] for stage in STAGES),
                stem_width=shapes["conv1.weight"][0],
                num_classes=shapes["fc.weight"][0],
            )
        except (LookupError, InputError) as error:
            raise InputError(
                f"the tensors {', '.join(sorted(shapes)[:5])} … are not a ResNet's; expected "
                "torchvision's names, conv1.weight to fc.weight; use the state dict of one of "
                f"{', '.join(TIMM_SIZES)}."
            ) from error

    def to_timm(self) -> dict[str, Any]:
        """Return the `config.json` entries from which `from_timm` reads this config back."""
        alike = [name for name, c in TIMM_SIZES.items() if c.block == self.block]
        exact = [name for name in alike if TIMM_SIZES[name].layers == self.layers]
        name = (exact or alike)[0]
        base = TIMM_SIZES[name]
        sizes = {key: getattr(self, key) for key in MODEL_ARGUMENTS}
        changed = {key: v for key, v in sizes.items() if v != getattr(base, key)}
        entries = {"architecture": name, "num_classes": self.num_classes}
        return entries | ({"model_args": changed} if changed else {})


def _refuse_impossible(sizes: dict[str, Any]) -> None:
    stages = [sizes["layers"], sizes["channels"]]
    four = all(isinstance(stage, tuple) and len(stage) == 4 for stage in stages)
    numbers = [sizes["stem_width"], sizes["num_classes"], *(chain(*stages) if four else ())]
    positive = all(type(n) is int and 0 < n <= LARGEST for n in numbers)
    if sizes["block"] in EXPANSION and four and positive and max(sizes["layers"]) <= MOST_LAYERS:
        return
    raise InputError(
        f"No ResNet has the sizes {', '.join(f'{k}={shown(v)}' for k, v in sizes.items())}; "
        f"expected block {' or '.join(EXPANSION)}, four positive integers in layers (at most "
        f"{MOST_LAYERS}) and in channels, and positive stem_width and num_classes; correct them in "
        "config.json."
    )


MODEL_ARGUMENTS = ("block", "layers", "channels", "stem_width")

TIMM_SIZES = {
    "resnet18": ResNetConfig("basic", (2, 2, 2, 2)),
    "resnet34": ResNetConfig("basic", (3, 4, 6, 3)),
    "resnet50": ResNetConfig("bottleneck", (3, 4, 6, 3)),
    "resnet101": ResNetConfig("bottleneck", (3, 4, 23, 3)),
    "resnet152": ResNetConfig("bottleneck", (3, 8, 36, 3)),
}


TIMM_POOLING = {"global_pool": only("avg")}
TIMM_SETTINGS = TIMM_POOLING | {
    "in_chans": only(3),
    # transformers' TimmWrapper writes them into the same config.
    "model_type": only("timm_wrapper"),
    "architectures": only(["TimmWrapperForImageClassification"], None),
    "quantization_config": only(None),
}


def _layer(*names: str) -> Setting:
    """A kind of layer, by any of timm's names for it."""
    return Setting(f"only {names[0]!r}", lambda v: str(v).replace("_", "").lower() in names)


# All arguments of timm's ResNet that are not sizes, at their defaults.
TIMM_ARGUMENTS = {
    "in_chans": only(3),
    "global_pool": only("avg"),
    "output_stride": only(32),
    "cardinality": only(1),
    "base_width": only(64),
    "stem_type": only(""),
    "replace_stem_pool": only(False),
    "block_reduce_first": only(1),
    "down_kernel_size": only(1),
    "avg_down": only(False),
    "act_layer": _layer("relu"),
    "norm_layer": _layer("batchnorm2d", "batchnorm"),
    "aa_layer": only(None),
    "block_args": only(None, {}),
    # Without effect in evaluation mode.
    **dict.fromkeys(("drop_rate", "drop_path_rate", "drop_block_rate"), ANY),
    **dict.fromkeys(("zero_init_last", "device", "dtype"), ANY),
}

FOUR_SIZES = Setting(
    "four positive integers",
    lambda value: isinstance(value, list) and [POSITIVE.fits(v) for v in value] == [True] * 4,
)
HUGGING_FACE_SETTINGS = {
    "model_type": only("resnet"),
    "architectures": only(["ResNetForImageClassification"], None),
    "layer_type": one_of(EXPANSION),
    "depths": FOUR_SIZES,
    "hidden_sizes": FOUR_SIZES,
    "embedding_size": POSITIVE,
    "num_channels": only(3),
    "num_labels": POSITIVE,
    "id2label": Setting("an object", lambda value: value is None or isinstance(value, dict)),
    "hidden_act": only("relu"),
    "downsample_in_first_stage": only(False),
    "downsample_in_bottleneck": only(False),  # true is v1: the stride in the first 1 × 1
    "quantization_config": only(None),
    "auto_map": only(None),
}


def _argument_misfits(arguments: Any, classes: Any) -> list[str]:
    if not isinstance(arguments, dict):
        return [f"model_args = {repr(arguments)[:60]} (expected an object)"]
    known = TIMM_ARGUMENTS | {"num_classes": only(classes)}
    unknown = dict.fromkeys(set(arguments) - set(known) - set(MODEL_ARGUMENTS), UNKNOWN)
    return misfits(dict(sorted((known | unknown).items())), arguments, "model_args.")


def _refuse(problems: list[str]) -> None:
    if problems:
        raise InputError(
            f"config.json describes no ResNet that is implemented: {', '.join(problems)}; use a "
            "plain ResNet v1.5 checkpoint, or wrap your own network in a Target."
        )


class ConvNorm(nnx.Module):
    """A convolution and its batch normalisation; folded, a convolution with a bias alone."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        stride: int = 1,
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


class BasicBlock(nnx.Module):
    """Two 3 × 3 convolutions around a shortcut; the first carries the stride."""

    def __init__(self, inputs: int, width: int, stride: int, *, rngs: nnx.Rngs):
        self.conv1 = ConvNorm(inputs, width, 3, stride, rngs=rngs)
        self.conv2 = ConvNorm(width, width, 3, rngs=rngs)
        self.downsample = _shortcut(inputs, width, stride, rngs=rngs)

    def __call__(self, x: Float[Array, "batch h w inputs"]) -> Float[Array, "batch p q outputs"]:
        """Return the block's output after its last ReLU."""
        y = self.conv2(jax.nn.relu(self.conv1(x)))
        y += x if self.downsample is None else self.downsample(x)
        return materialised(jax.nn.relu(y))


class Bottleneck(nnx.Module):
    """1 × 1, 3 × 3, 1 × 1 convolutions around a shortcut; the 3 × 3 carries the stride (v1.5)."""

    def __init__(self, inputs: int, width: int, stride: int, *, rngs: nnx.Rngs):
        outputs = width * EXPANSION["bottleneck"]
        self.conv1 = ConvNorm(inputs, width, 1, rngs=rngs)
        self.conv2 = ConvNorm(width, width, 3, stride, rngs=rngs)
        self.conv3 = ConvNorm(width, outputs, 1, rngs=rngs)
        self.downsample = _shortcut(inputs, outputs, stride, rngs=rngs)

    def __call__(self, x: Float[Array, "batch h w inputs"]) -> Float[Array, "batch p q outputs"]:
        """Return the block's output after its last ReLU."""
        y = self.conv3(jax.nn.relu(self.conv2(jax.nn.relu(self.conv1(x)))))
        y += x if self.downsample is None else self.downsample(x)
        return materialised(jax.nn.relu(y))


BLOCKS: dict[str, Callable[..., nnx.Module]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


def _shortcut(inputs: int, outputs: int, stride: int, *, rngs: nnx.Rngs) -> ConvNorm | None:
    """A projection if the block changes its input's shape; else None, for the identity."""
    if stride == 1 and inputs == outputs:
        return None
    return ConvNorm(inputs, outputs, 1, stride, rngs=rngs)


class ResNet(nnx.Module):
    """A ResNet v1.5 classifier, at first in training mode.

    Args:
        config: the sizes.
        rngs: the source of the initial weights (Kaiming normal, fan-out).
    """

    def __init__(self, config: ResNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.conv1 = ConvNorm(3, config.stem_width, 7, 2, rngs=rngs)
        inputs = config.stem_width
        for index, stage in enumerate(STAGES):
            blocks = _stage(inputs, config, index, rngs=rngs)
            setattr(self, stage, nnx.List(blocks))
            inputs = config.channels[index] * EXPANSION[config.block]
        uniform = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        self.fc = nnx.Linear(inputs, config.num_classes, kernel_init=uniform, rngs=rngs)

    @float32_products
    def __call__(
        self, pixels: Float[Array, "batch height width 3"], tap: Tap = untouched
    ) -> Float[Array, "batch classes"]:
        """Return the class logits of normalised images.

        Args:
            pixels: images normalised as the checkpoint's preprocessing says; any height and width.
                They take the weights' type, and so do all maps; the logits are float32.
            tap: gets `layer1` … `layer4`, each stage's output after its last ReLU; the last is at
                1/32 of the image's resolution (rounded up).
        """
        x = jnp.asarray(pixels, self.conv1.conv.kernel.dtype)
        for index, stage in enumerate(STAGES):
            # Without BatchNorm images are independent. A stage halves their maps, so that twice as
            # many fill a CPU's caches alike.
            size = max(1, PIECE >> (len(STAGES) - 1 - index)) if self.is_folded else len(x)
            x = tap(stage, in_pieces(partial(_run_stage, index), self, x, size))
        return self.fc(x.mean(axis=(1, 2), dtype=jnp.float32))

    @property
    def is_folded(self) -> bool:
        """True once BatchNorm is folded into the convolutions."""
        return self.conv1.norm is None


def _run_stage(index: int, model: ResNet, x: Float[Array, "batch h w inputs"]) -> Array:
    if index == 0:
        x = jax.nn.relu(model.conv1(x))
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
    for block in getattr(model, STAGES[index]):
        x = block(x)
    return x


def _stage(inputs: int, config: ResNetConfig, index: int, *, rngs: nnx.Rngs) -> list[nnx.Module]:
    block, width = BLOCKS[config.block], config.channels[index]
    outputs = width * EXPANSION[config.block]
    first = block(inputs, width, 1 if index == 0 else 2, rngs=rngs)
    others = range(config.layers[index] - 1)
    return [first, *(block(outputs, width, 1, rngs=rngs) for _ in others)]


def fold_batch_norm(model: ResNet) -> ResNet:
    """Return the network equal to `model` in evaluation mode, without BatchNorm.

    With running mean μ and variance σ², scale γ and shift β, each convolution `W` becomes
    `W γ / √(σ² + ε)` with the bias `β − μ γ / √(σ² + ε)`. The result can't be trained or saved.

    Args:
        model: with BatchNorm, or folded already; or its shapes, as `nnx.eval_shape` returns them.
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

    Those are faster on a CPU; their kernels take 16/9 of the memory.
    """
    quick = nnx.merge(*nnx.split(model))
    for _, unit in list(nnx.iter_modules(quick)):
        if isinstance(unit, ConvNorm) and unit.conv.strides == (1, 1):
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
