"""ConvNeXt and ConvNeXt V2 in Flax NNX, channels last.

Liu et al., "A ConvNet for the 2020s", CVPR 2022; Woo et al., "ConvNeXt V2", CVPR 2023. Numbers
follow Hugging Face transformers, whose inner norms have the epsilon 1e-6 in any config.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxdesc.errors import InputError
from jaxdesc.models import checkpoint
from jaxdesc.models.depthwise import conv_general_dilated
from jaxdesc.models.precision import float32_products
from jaxdesc.models.settings import (
    DEPTH,
    FROM_HUGGING_FACE,
    FROM_TIMM,
    NUMBER,
    POSITIVE,
    Setting,
    label_count,
    misfits,
    one_of,
    only,
    parsed,
    pretrained_cfg,
    read_config,
)
from jaxdesc.models.source import is_converted
from jaxdesc.models.taps import Tap, untouched
from jaxdesc.models.tensors import Tensors, read_tensors
from jaxdesc.models.transformer import ACTIVATIONS

Grid = Float[Array, "batch row column channel"]

MODEL_TYPES = {"convnext": "ConvNext", "convnextv2": "ConvNextV2"}
INNER_EPSILON = 1e-6


@dataclass(frozen=True)
class ConvNextConfig:
    """The sizes of a ConvNeXt; those of ConvNeXt-T by default."""

    hidden_sizes: tuple[int, ...] = (96, 192, 384, 768)
    depths: tuple[int, ...] = (3, 3, 9, 3)
    patch_size: int = 4
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12  # of the norm in front of the head alone
    scaled: bool = True  # LayerScale, in V1
    responses: bool = False  # global response normalisation, in V2
    num_classes: int = 0  # 0 without a head

    @classmethod
    def from_entries(cls, entries: dict[str, Any]) -> "ConvNextConfig":
        """Read a `config.json`: timm's, which names an architecture, or Hugging Face's.

        Raises `InputError` for all entries that are not implemented.
        """
        timm = "architecture" in entries
        problems = misfits(TIMM_SETTINGS if timm else SETTINGS, _untagged(entries))
        given = {f.name: entries[f.name] for f in fields(cls) if f.name in entries and not timm}
        sizes: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in given.items()
        }
        config = TIMM_SIZES.get(_untagged(entries).get("architecture", ""), cls())
        if not problems:
            config = replace(config, **sizes)
            if len(config.depths) != len(config.hidden_sizes):
                problems = [f"depths = {list(config.depths)} (expected one per hidden_sizes)"]
        if problems:
            raise InputError(
                f"config.json describes no ConvNeXt that is implemented: {', '.join(problems)}; "
                "use another checkpoint, or wrap your own network in a Target."
            )
        if timm:
            given = pretrained_cfg(entries) | entries
            return replace(config, num_classes=given.get("num_classes", 1000))
        named = entries.get("architectures") or ["ForImageClassification"]
        classes = label_count(entries)
        second = entries["model_type"] == "convnextv2"
        return replace(
            config,
            scaled=not second and entries.get("layer_scale_init_value", 1e-6) > 0,
            responses=second,
            num_classes=classes if named[0].endswith("ForImageClassification") else 0,
        )


def _untagged(entries: dict[str, Any]) -> dict[str, Any]:
    """Entries without the tag of the weights in timm's architecture."""
    name = entries.get("architecture")
    return entries | ({"architecture": name.partition(".")[0]} if isinstance(name, str) else {})


_WIDTHS = {
    "tiny": ((96, 192, 384, 768), (3, 3, 9, 3)),
    "small": ((96, 192, 384, 768), (3, 3, 27, 3)),
    "base": ((128, 256, 512, 1024), (3, 3, 27, 3)),
    "large": ((192, 384, 768, 1536), (3, 3, 27, 3)),
}
TIMM_SIZES = {
    f"{kind}_{size}": ConvNextConfig(
        widths, depths, layer_norm_eps=1e-6, scaled=not second, responses=second
    )
    for size, (widths, depths) in _WIDTHS.items()
    for kind, second in (("convnext", False), ("convnextv2", True))
}
TIMM_SETTINGS = {
    "architecture": one_of(TIMM_SIZES),
    **FROM_TIMM,
    "global_pool": only("avg"),
    "model_args": only(None, {}),
}


def _each(setting: Setting) -> Setting:
    return Setting(
        f"a list, each {setting.expected}",
        lambda value: isinstance(value, list) and value != [] and all(map(setting.fits, value)),
    )


SETTINGS = {
    "model_type": one_of(MODEL_TYPES),
    "architectures": only(
        *(
            [f"{name}{kind}"]
            for name in MODEL_TYPES.values()
            for kind in ("ForImageClassification", "Model")
        ),
        None,
    ),
    "hidden_sizes": _each(POSITIVE),
    "depths": _each(DEPTH),
    "hidden_act": one_of(ACTIVATIONS),
    **dict.fromkeys(("layer_norm_eps", "layer_scale_init_value"), NUMBER),
    "patch_size": POSITIVE,
    **FROM_HUGGING_FACE,
}


def _norm(width: int, epsilon: float, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=epsilon, use_fast_variance=False, rngs=rngs)


def _patches(inputs: int, outputs: int, side: int, rngs: nnx.Rngs) -> nnx.Conv:
    """A convolution of cells that do not overlap."""
    return nnx.Conv(inputs, outputs, (side, side), (side, side), padding="VALID", rngs=rngs)


class Block(nnx.Module):
    """A depthwise 7 × 7 convolution, a norm and a two-layer perceptron around a shortcut."""

    def __init__(self, config: ConvNextConfig, width: int, *, rngs: nnx.Rngs):
        self.activation = ACTIVATIONS[config.hidden_act]
        self.depthwise = nnx.Conv(
            width,
            width,
            (7, 7),
            padding=((3, 3), (3, 3)),
            feature_group_count=width,
            conv_general_dilated=conv_general_dilated,
            rngs=rngs,
        )
        self.norm = _norm(width, INNER_EPSILON, rngs)
        self.fc1 = nnx.Linear(width, 4 * width, rngs=rngs)
        self.fc2 = nnx.Linear(4 * width, width, rngs=rngs)
        self.scale = nnx.Param(jnp.ones(width)) if config.scaled else None
        self.response_scale = nnx.Param(jnp.zeros(4 * width)) if config.responses else None
        self.response_bias = nnx.Param(jnp.zeros(4 * width)) if config.responses else None

    def __call__(self, x: Grid, tap: Tap, name: str) -> Grid:
        """Return the grid after this block; the tap gets it, and its hidden units `name/mlp`."""
        hidden = self.activation(self.fc1(self.norm(self.depthwise(x))))
        if self.response_scale is not None and self.response_bias is not None:
            # Each channel by its share in the whole grid's response (V2, section 3.2).
            response = jnp.sqrt((hidden**2).sum(axis=(1, 2), keepdims=True))
            share = response / (response.mean(axis=3, keepdims=True) + 1e-6)
            scale, bias = (
                p[...][None, None, None] for p in (self.response_scale, self.response_bias)
            )
            hidden = scale * (hidden * share) + bias + hidden
        added = self.fc2(tap(f"{name}/mlp", hidden))
        return tap(
            name, x + (added if self.scale is None else added * self.scale[...][None, None, None])
        )


class Stage(nnx.Module):
    """Blocks of one width; all stages but the first halve the grid before."""

    def __init__(
        self, config: ConvNextConfig, inputs: int, width: int, depth: int, *, rngs: nnx.Rngs
    ):
        first = inputs == 0
        self.norm = None if first else _norm(inputs, INNER_EPSILON, rngs)
        self.downsample = None if first else _patches(inputs, width, 2, rngs)
        self.blocks = nnx.List([Block(config, width, rngs=rngs) for _ in range(depth)])

    def __call__(self, x: Grid, tap: Tap, name: str) -> Float[Array, "batch h w width"]:
        """Return the grid after this stage, which the tap gets too."""
        if self.norm is not None and self.downsample is not None:
            x = self.downsample(self.norm(x))
        for index, block in enumerate(self.blocks):
            x = block(x, tap, f"{name}.blocks.{index}")
        return tap(name, x)


class ConvNext(nnx.Module):
    """A ConvNeXt, V1 or V2, with a head or without."""

    def __init__(self, config: ConvNextConfig, *, rngs: nnx.Rngs):
        widths = config.hidden_sizes
        self.config = config
        self.patches = _patches(3, widths[0], config.patch_size, rngs)
        self.patches_norm = _norm(widths[0], INNER_EPSILON, rngs)
        sizes = zip((0, *widths[:-1]), widths, config.depths, strict=True)
        self.stages = nnx.List([Stage(config, *size, rngs=rngs) for size in sizes])
        self.norm = _norm(widths[-1], config.layer_norm_eps, rngs)
        classes = config.num_classes
        self.head = nnx.Linear(widths[-1], classes, rngs=rngs) if classes else None

    @float32_products
    def __call__(
        self, pixels: Float[Array, "batch height width 3"], tap: Tap = untouched
    ) -> Float[Array, "batch classes"] | None:
        """Return the class logits, float32, of normalised images; None without a head.

        The tap gets each stage's output `stages.i`, each block's `stages.i.blocks.j`, and the
        block's hidden units `stages.i.blocks.j/mlp`.
        """
        x = self.patches_norm(self.patches(jnp.asarray(pixels, self.patches.kernel.dtype)))
        for index, stage in enumerate(self.stages):
            x = stage(x, tap, f"stages.{index}")
        if self.head is None:
            return None
        return self.head(self.norm(x.mean(axis=(1, 2), dtype=jnp.float32)))


_OURS = r"stages\.(\d+)\.blocks\.(\d+)"


def _table(
    patches: tuple[str, str],
    stage: str,
    block: str,
    parts: Mapping[str, str],
    head: Mapping[str, str],
) -> checkpoint.Table:
    rows = {"patches": patches[0], "patches_norm": patches[1], **head}
    rows |= {rf"stages\.(\d+)\.{n}": f"{stage}.{i}" for i, n in enumerate(("norm", "downsample"))}
    rows |= {rf"{_OURS}\.{ours}": f"{block}.{name}" for ours, name in parts.items()}
    return checkpoint.pytorch_table(rows, "")


HUGGING_FACE = _table(
    ("embeddings.patch_embeddings", "embeddings.layernorm"),
    r"encoder.stages.\1.downsampling_layer",
    r"encoder.stages.\1.layers.\2",
    {
        "depthwise": "dwconv", "norm": "layernorm", "fc([12])": r"pwconv\3",
        "scale": "layer_scale_parameter",
        "response_scale": "grn.weight", "response_bias": "grn.bias",
    },
    {"norm": "layernorm", "head": "classifier"},
)  # fmt: skip
TIMM = _table(
    ("stem.0", "stem.1"),
    r"stages.\1.downsample",
    r"stages.\1.blocks.\2",
    {
        "depthwise": "conv_dw", "norm": "norm", "fc([12])": r"mlp.fc\3",
        "scale": "gamma", "response_scale": "mlp.grn.weight", "response_bias": "mlp.grn.bias",
    },
    {"norm": "head.norm", "head": "head.fc"},
)  # fmt: skip


def read_convnext(source: Path, notes: list[str]) -> ConvNext:
    """Read a ConvNeXt from a folder of Hugging Face's or timm's, in evaluation mode.

    Raises `InputError` for a config that is not understood, or tensors that do not fit.
    """
    entries = read_config(source)
    shapes = checkpoint.abstract(ConvNext, parsed(ConvNextConfig.from_entries, entries, source))
    if is_converted(source):
        return checkpoint.read_orbax(shapes, source)
    tensors = read_tensors(source, notes)

    def read(name: str) -> np.ndarray:
        return tensors[name].reshape(-1) if ".grn." in name else tensors[name]

    # The network without its head has no such prefix.
    wrapper = f"{entries.get('model_type')}."
    unwrapped = Tensors({name.removeprefix(wrapper): partial(read, name) for name in tensors})
    table = TIMM if "architecture" in entries else HUGGING_FACE
    return checkpoint.assign(shapes, unwrapped, table, source)
