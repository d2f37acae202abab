"""Sizes of a ResNet, read from a checkpoint's config or tensors and written back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

from jaxdesc.errors import InputError, shown
from jaxdesc.models.settings import (
    ANY,
    BOOLEAN,
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

EXPANSION = {"basic": 1, "bottleneck": 4}
STAGES = ("layer1", "layer2", "layer3", "layer4")
MODEL_ARGUMENTS = (
    *("block", "layers", "channels", "stem_width"),
    *("cardinality", "base_width", "stem_type", "avg_down"),
)
STEM = Setting("'' or 'deep'", lambda value: value in ("", "deep"))


@dataclass(frozen=True)
class ResNetConfig:
    """The sizes of a ResNet, under timm's names; `InputError` for one that no network can have.

    Attributes:
        block: "basic" (two 3 × 3 convolutions) or "bottleneck" (1 × 1, 3 × 3, 1 × 1).
        layers: blocks in each of the four stages.
        channels: width of each stage; a bottleneck's output has four times as many channels.
        stem_width: channels after the first convolution.
        num_classes: number of logits.
        cardinality: groups of a bottleneck's 3 × 3 convolution (ResNeXt).
        base_width: width of a group in a stage of 64 channels (ResNeXt, Wide ResNet).
        stem_type: "" for one 7 × 7 convolution, "deep" for three of 3 × 3, whose last one doubles
            the width (ResNet-C and -D).
        avg_down: shortcuts that halve the map average its pixels (ResNet-D).
    """

    block: str
    layers: tuple[int, ...]
    channels: tuple[int, ...] = (64, 128, 256, 512)
    stem_width: int = 64
    num_classes: int = 1000
    cardinality: int = 1
    base_width: int = 64
    stem_type: str = ""
    avg_down: bool = False

    def __post_init__(self) -> None:
        _refuse_impossible(asdict(self))

    def inner(self, channels: int) -> int:
        """Return the width within a block of a stage of so many channels, of all groups."""
        return _inner(channels, self.base_width, self.cardinality)

    @classmethod
    def from_entries(cls, entries: dict[str, Any]) -> "ResNetConfig":
        """Read a `config.json`: timm's, which names an architecture, or Hugging Face's.

        Raises `InputError` for another network, or all fields that are not implemented.
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
        given = arguments if isinstance(arguments, dict) else {}
        counts = entries, given, pretrained_cfg(entries)
        classes = next((e["num_classes"] for e in counts if "num_classes" in e), base.num_classes)
        _refuse(
            misfits(TIMM_SETTINGS, entries)
            + misfits(TIMM_POOLING, entries.get("pretrained_cfg") or {}, "pretrained_cfg.")
            + _argument_misfits(arguments, classes)
        )
        sizes: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in given.items()
            if key in MODEL_ARGUMENTS
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
        is assumed to be torchvision's. `InputError` if the tensors are not a ResNet's.
        """
        names = {".".join(name.split(".")[:2]) for name in shapes}
        block = "bottleneck" if "layer1.0.conv3.weight" in shapes else "basic"
        last = {"basic": "conv2", "bottleneck": "conv3"}[block]
        deep = "conv1.0.weight" in shapes
        try:
            channels = tuple(
                shapes[f"{stage}.0.{last}.weight"][0] // EXPANSION[block] for stage in STAGES
            )
            cardinality, base_width = 1, 64
            if block == "bottleneck":
                width, of_group = shapes["layer1.0.conv2.weight"][:2]
                cardinality, base_width = width // of_group, -(-64 * of_group // channels[0])
            return cls(
                block=block,
                layers=tuple(sum(n.startswith(f"{stage}.") for n in names) for stage in STAGES),
                channels=channels,
                stem_width=shapes["conv1.0.weight" if deep else "conv1.weight"][0],
                num_classes=shapes["fc.weight"][0],
                cardinality=cardinality,
                base_width=base_width,
                stem_type="deep" if deep else "",
                # A pool comes before the convolution, and not a norm behind it.
                avg_down=len(shapes["layer2.0.downsample.1.weight"]) == 4,
            )
        except (LookupError, ArithmeticError, ValueError) as error:
            raise InputError(
                f"the tensors {', '.join(sorted(shapes)[:5])} … are not a ResNet's; expected "
                "torchvision's names, conv1.weight to fc.weight; use the state dict of one of "
                f"{', '.join(TIMM_SIZES)}."
            ) from error

    def to_timm(self) -> dict[str, Any]:
        """Return the `config.json` entries from which `from_timm` reads this config back."""
        ours = {key: getattr(self, key) for key in MODEL_ARGUMENTS}
        changes = {
            name: {key: size for key, size in ours.items() if size != getattr(sizes, key)}
            for name, sizes in TIMM_SIZES.items()
            if sizes.block == self.block
        }
        name = min(changes, key=lambda name: len(changes[name]))
        entries = {"architecture": name, "num_classes": self.num_classes}
        return entries | ({"model_args": changes[name]} if changes[name] else {})


def _inner(channels: int, base_width: int, cardinality: int) -> int:
    return channels * base_width // 64 * cardinality


def _refuse_impossible(sizes: dict[str, Any]) -> None:
    stages = [sizes["layers"], sizes["channels"]]
    four = all(isinstance(stage, tuple) and len(stage) == 4 for stage in stages)
    groups = sizes["base_width"], sizes["cardinality"]
    numbers = [
        sizes["stem_width"],
        sizes["num_classes"],
        *groups,
        *(chain(*stages) if four else ()),
    ]
    positive = all(type(n) is int and 0 < n <= LARGEST for n in numbers)
    known = STEM.fits(sizes["stem_type"]) and BOOLEAN.fits(sizes["avg_down"])
    if known and four and positive and max(sizes["layers"]) <= MOST_LAYERS:
        widths = [_inner(channels, *groups) for channels in sizes["channels"]]
        grouped = sizes["block"] == "bottleneck" and all(0 < width <= LARGEST for width in widths)
        if grouped or (sizes["block"] == "basic" and groups == (64, 1)):
            return
    raise InputError(
        f"No ResNet has the sizes {', '.join(f'{k}={shown(v)}' for k, v in sizes.items())}; "
        f"expected block {' or '.join(EXPANSION)}, four positive integers in layers (at most "
        f"{MOST_LAYERS}) and in channels, positive stem_width and num_classes, and in basic blocks "
        "cardinality 1 and base_width 64; correct them in config.json."
    )


_DEPTHS = {
    18: ResNetConfig("basic", (2, 2, 2, 2)),
    26: ResNetConfig("bottleneck", (2, 2, 2, 2)),
    34: ResNetConfig("basic", (3, 4, 6, 3)),
    50: ResNetConfig("bottleneck", (3, 4, 6, 3)),
    101: ResNetConfig("bottleneck", (3, 4, 23, 3)),
    152: ResNetConfig("bottleneck", (3, 8, 36, 3)),
    200: ResNetConfig("bottleneck", (3, 24, 36, 3)),
}
_C: dict[str, Any] = {"stem_type": "deep", "stem_width": 32}
_D = _C | {"avg_down": True}
# Every network that is read by its name, which is timm's, and torchvision's if that has it.
TIMM_SIZES = {
    **{f"resnet{depth}": sizes for depth, sizes in _DEPTHS.items()},
    **{f"resnet{depth}c": replace(_DEPTHS[depth], **_C) for depth in (50, 101, 152)},
    **{f"resnet{depth}d": replace(sizes, **_D) for depth, sizes in _DEPTHS.items()},
    **{f"resnet{depth}s": replace(_DEPTHS[depth], stem_type="deep") for depth in (50, 101, 152)},
    **{
        f"resnext{depth}_{groups}x{width}d": replace(
            _DEPTHS[depth], cardinality=groups, base_width=width
        )
        for depth, groups, width in (
            *((50, 32, 4), (101, 32, 4), (101, 32, 8)),
            *((101, 32, 16), (101, 32, 32), (101, 64, 4)),
        )
    },
    "resnext50d_32x4d": replace(_DEPTHS[50], cardinality=32, base_width=4, **_D),
    **{f"wide_resnet{depth}_2": replace(_DEPTHS[depth], base_width=128) for depth in (50, 101)},
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
    "stem_type": STEM,
    "replace_stem_pool": only(False),
    "block_reduce_first": only(1),
    "down_kernel_size": only(1),
    "avg_down": BOOLEAN,
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
    **dict.fromkeys(("depths", "hidden_sizes"), FOUR_SIZES),
    "embedding_size": POSITIVE,
    "num_channels": only(3),
    "num_labels": POSITIVE,
    "id2label": Setting("an object", lambda value: value is None or isinstance(value, dict)),
    "hidden_act": only("relu"),
    "downsample_in_first_stage": only(False),
    "downsample_in_bottleneck": only(False),  # true is v1: the stride in the first 1 × 1
    **dict.fromkeys(("quantization_config", "auto_map"), only(None)),
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
