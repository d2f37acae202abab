"""Every choice of a run, as frozen dataclasses: the one place where defaults are."""

import difflib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from numbers import Integral, Real
from typing import Any

from jaxdesc.errors import SHOWN, InputError, is_text, shown

LARGEST_KAPPA = 1e6  # float32 holds the scores up to there
KAPPAS = f"a number in [0, {LARGEST_KAPPA:g}]"
TEMPLATE = "A photo of a {concept}"


def _setting(default: Any, accepts: Callable[[Any], bool], expected: str) -> Any:
    """A field that takes only some values of its type."""
    return field(default=default, metadata={"accepts": accepts, "expected": expected})


def _choice(*values: str) -> Any:
    return _setting(values[0], values.__contains__, f"one of {values}")


def _count(default: int, most: float = float("inf")) -> Any:
    """A field for a number of things that are held at once; larger values would exhaust memory."""
    expected = "at least 1" if most == float("inf") else f"an integer in [1, {most}]"
    return _setting(default, lambda value: 1 <= value <= most, expected)


AUTO = 0  # a batch that `stages.batches` finds


def _batch(default: int, most: int = 2**16) -> Any:
    """A field for images at a time, or `AUTO`, which mappings and flags call auto."""
    expected = f"an integer in [1, {most}], or auto"
    metadata = {"accepts": lambda value: 0 <= value <= most, "expected": expected, "auto": True}
    return field(default=default, metadata=metadata)


def _names(what: str) -> Any:
    """A field for distinct names, which flags separate by commas."""

    def accepts(names: tuple[str, ...]) -> bool:
        # Some disks take names that differ in case alone for the same.
        return all(names) and len({name.casefold() for name in names}) == len(names)

    expected = f"names of {what}, each once, which differ in more than case"
    return field(default=(), metadata={"accepts": accepts, "expected": expected, "listed": True})


@dataclass(frozen=True)
class _Group:
    """Settings, converted to the Python types of their fields.

    config.json holds them, and fingerprints contain their text. A wrong type or a value out of its
    range is an `InputError`; names of registry entries are checked with the run, in `stages.check`.
    """

    def __post_init__(self) -> None:
        section = type(self).__name__.removesuffix("Config").lower()
        kinds = typing.get_type_hints(type(self))
        for setting in fields(self):
            where = ".".join(filter(None, ("config", section, setting.name)))
            value = converted(kinds[setting.name], getattr(self, setting.name), where)
            object.__setattr__(self, setting.name, value)
            if setting.metadata and not setting.metadata["accepts"](value):
                raise InputError(
                    f"{where} is {shown(value)}: expected {setting.metadata['expected']}."
                )


@dataclass(frozen=True)
class TargetConfig(_Group):
    """The network whose neurons are described.

    Attributes:
        source: checkpoint folder, `.pth` file, Hugging Face id, or "scenes". WWW describes
            torchvision's V2 weights (tv2_in1k), CLIP-Dissect the V1 weights (tv_in1k).
        revision: branch, tag or commit of a Hugging Face id; the main branch if empty.
        preprocess: a name in `images.preprocess.PRESETS`, or empty for what the checkpoint says.
        classes: names of its classes: "imagenet", `file:PATH` (one class per line, its names
            separated by ", "), or empty for those in the checkpoint.
        layer: "fc", the logits, or another layer that the target offers, such as layer4.
        layers: several layers instead of that one, such as blocks.3,blocks.3/mlp: one pass over the
            images for all, and a folder of results for each.
        pooling: how such a layer is pooled over its positions, "mean" or "max"; "class" reads its
            class token instead. Empty: "max" for latents of a dictionary, and else "mean".
        dictionary: file or folder of a sparse autoencoder that says all about itself, whose latents
            are the layer `LAYER/sae` (`load_dictionary`). The layer is that of `layer` or `layers`.
        kept: latents of a dictionary that are kept per image, the largest; 0 keeps all above zero.
    """

    source: str = "timm/resnet50.tv2_in1k"
    revision: str = ""
    preprocess: str = ""
    classes: str = ""
    layer: str = "fc"
    layers: tuple[str, ...] = _names("layers")
    pooling: str = _choice("", "mean", "max", "class")
    dictionary: str = ""
    kept: int = _setting(0, lambda count: count >= 0, "at least 0")

    @property
    def described(self) -> tuple[str, ...]:
        """All layers that are described."""
        return self.layers or (self.layer,)


@dataclass(frozen=True)
class ClipConfig(_Group):
    """The name encoder that compares views with concepts, such as CLIP.

    Attributes:
        source: folder or Hugging Face id of a CLIP or SigLIP, or "scenes".
        revision: branch, tag or commit of a Hugging Face id; the main branch if empty.
        preprocess: a name in `images.preprocess.PRESETS`, or empty for what the checkpoint says.
        input: what CLIP sees of an exemplar: "view", the window that the target saw (the paper);
            "image", CLIP's preprocessing of the whole image (WWW); "both", whose features are
            averaged; or "method", for a table of methods: the image for centre views and the view
            for all others.
        batch: images per forward pass and device; auto for what fits, 256 at most.
    """

    source: str = "openai/clip-vit-base-patch32"
    revision: str = ""
    preprocess: str = ""
    input: str = _choice("view", "image", "both", "method")
    batch: int = _batch(64)


@dataclass(frozen=True)
class ImagesConfig(_Group):
    """The probe images.

    Attributes:
        source: kind and rest, as `images.sources.SOURCES` knows them: `folder:PATH`,
            `folder:gs://BUCKET/PATH`, `tfds:NAME/SPLIT`, `hf:NAME/SPLIT`, `scenes:OPTIONS`.
        batch: images per forward pass of the target and device; auto for what fits, 256 at most.
        max_skipped: largest share of unusable images, which are left out; more stop the run.
        workers: processes that decode and cut images for this one; 0 uses threads of this one,
            which some eight cores keep up with. It changes no result.
        split: share of the images that no label is found on, drawn at random, so that labels can
            be judged on them; 0 uses all.
        split_seed: seed of that draw.
    """

    source: str = ""
    batch: int = _batch(64)
    max_skipped: float = _setting(0.01, lambda share: 0 <= share < 1, "a share in [0, 1)")
    workers: int = _setting(0, lambda count: 0 <= count <= 256, "an integer in [0, 256]")
    split: float = _setting(0.0, lambda share: 0 <= share < 1, "a share in [0, 1)")
    split_seed: int = _setting(0, lambda seed: 0 <= seed < 2**32, "an integer in [0, 2**32)")


@dataclass(frozen=True)
class VocabularyConfig(_Group):
    """The concepts.

    Attributes:
        source: kind and rest, as `vocabulary.vocabulary.VOCABULARIES` knows them: "imagenet",
            "wordnet", `broden:PATH`, `file:PATH` (one concept per line), "scenes".
        template: prompt around a concept.
        compat: "www" keeps duplicates as WWW does; empty keeps one of each, regardless of case.
    """

    source: str = ""
    template: str = _setting(
        TEMPLATE,
        lambda text: "{concept}" in text and text.replace("{concept}", "").strip(),
        "words with '{concept}' among them",
    )
    compat: str = _choice("", "www")


@dataclass(frozen=True)
class CropConfig(_Group):
    """Views: the part of each probe image that the target sees.

    Attributes:
        view: "attention" (the paper), "centre" (WWW), or a control: "random", "box", "full".
        field: side of the window as a share of the image's shorter side; at 224/256 a window
            shows as much as WWW's.
        cam: attention map around whose peak the attention window is cut: "grad_cam", "cam" (for a
            mean over positions and one linear layer), "grad_cam_pp", "layer_cam", "score_cam"
            (one forward pass per channel of the feature maps), or, for vision transformers,
            "legrad" or "class_attention". Empty: what suits the network, "layer_cam" for a vision
            transformer and else "grad_cam".
        cam_input: input of the map: "whole", the image squashed to a square, or "centre".
        cam_class: class that the map explains: "predicted" or "label".
        of: whose attention windows are cut: "class", one window per image for all units (the
            paper), or "unit", each unit's own on each of its exemplars. Empty: "unit" for latents
            of a dictionary, and else "class".
        rank: order of the exemplars of units with their own windows: by the activation on the
            "window", which the network then sees too, or on the whole "image". Empty: "image" for
            latents of a dictionary, and else "window".
        candidates: images whose windows compete for each exemplar of such a unit, if ranked by
            window: the most active ones.
        seed: seed of the random windows.
    """

    view: str = "attention"
    field: float = _setting(224 / 256, lambda share: 0 < share <= 1, "a share in (0, 1]")
    cam: str = ""
    cam_input: str = _choice("whole", "centre")
    cam_class: str = _choice("predicted", "label")
    of: str = _choice("", "class", "unit")
    rank: str = _choice("", "window", "image")
    candidates: int = _count(2, 64)
    seed: int = _setting(0, lambda seed: 0 <= seed < 2**32, "an integer in [0, 2**32)")

    @property
    def units(self) -> bool:
        """True if windows are each unit's."""
        return self.view == "attention" and self.of == "unit"

    @property
    def first(self) -> str:
        """View of every image that the network sees first: the whole one for units' windows."""
        return "full" if self.units else self.view


@dataclass(frozen=True)
class ScoreConfig(_Group):
    """Scores and selection.

    Attributes:
        exemplars: most active views per unit; a unit that is active on fewer has fewer.
        fewest: exemplars below which a unit is flagged, and its concepts get no stability.
        similarity: name in `jaxdesc.similarity.SIMILARITIES`: "t_vmf" or "cosine", or one that was
            added.
        kappa: parameter of the similarity: concentration κ ≥ 0 of t-vMF; 0 is the cosine (WWW).
        alpha: concept sensitivity α in (0, 1]; concepts above α × the best score are kept.
        block: concepts scored at once; bounds memory.
    """

    exemplars: int = _count(40)
    fewest: int = _count(5)
    similarity: str = "t_vmf"
    kappa: float = _setting(16.0, lambda kappa: 0 <= kappa <= LARGEST_KAPPA, KAPPAS)
    alpha: float = _setting(0.95, lambda share: 0 < share <= 1, "a share in (0, 1]")
    block: int = _count(512, 2**20)


@dataclass(frozen=True)
class EvaluationConfig(_Group):
    """Networks that judge the concepts of neurons whose classes have names.

    Attributes:
        scorer: CLIP of the metric CLIP cos: a folder, or an id with an optional `@revision`; that
            of `clip` if empty.
        sentence: sentence encoder of the metric sentence cosine, likewise; no such metric if
            empty.
    """

    scorer: str = "openai/clip-vit-base-patch16"
    sentence: str = "sentence-transformers/all-mpnet-base-v2"


@dataclass(frozen=True)
class AblationConfig(_Group):
    """Further runs besides the main one, for tables; none if views or kappas are empty.

    Attributes:
        views: values of crop.view.
        kappas: values of score.kappa.
        probes: image sources; the main source if empty.
        vocabularies: values of vocabulary.source; the main one if empty.
    """

    views: tuple[str, ...] = ()
    kappas: tuple[float, ...] = _setting(
        (), lambda kappas: all(0 <= kappa <= LARGEST_KAPPA for kappa in kappas), f"each {KAPPAS}"
    )
    probes: tuple[str, ...] = ()
    vocabularies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Config(_Group):
    """A whole run.

    Attributes:
        precision: of the weights and layers of target and CLIP as the commands load them,
            "float32" or "bfloat16"; the judges are always float32.
    """

    target: TargetConfig = field(default_factory=TargetConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    images: ImagesConfig = field(default_factory=ImagesConfig)
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    crop: CropConfig = field(default_factory=CropConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    ablation: AblationConfig = field(default_factory=AblationConfig)
    precision: str = _choice("float32", "bfloat16")

    def to_dict(self) -> dict[str, Any]:
        """Nested dicts of plain values, as config.json and ml_collections hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """Build a config from nested mappings."""
        config: Config = _build(cls, values, "config")
        return config


def options_with(mark: str) -> list[str]:
    """List the options that take auto ("auto"), or names between commas ("listed")."""
    groups = [(group.name, getattr(Config(), group.name)) for group in fields(Config)]
    return [
        f"{name}.{setting.name}"
        for name, group in groups
        if is_dataclass(group)
        for setting in fields(group)
        if mark in setting.metadata
    ]


def differences(old: Mapping[str, Any], new: Mapping[str, Any], where: str = "") -> list[str]:
    """List the keys of two nested dicts whose values differ, as "key: old -> new"."""
    found = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{where}{key}.")
        elif before != after:
            found.append(f"{where}{key}: {before!r} -> {after!r}")
    return found


def _build(cls: Any, values: Any, where: str) -> Any:
    if not isinstance(values, Mapping):
        raise InputError(f"{where} is {shown(values)}: expected a group of settings.")
    known = [setting.name for setting in fields(cls)]
    for key in values:
        if key not in known:
            raise InputError(unknown_key(f"{where}.{key}", [f"{where}.{name}" for name in known]))
    kinds = typing.get_type_hints(cls)
    automatic = [setting.name for setting in fields(cls) if "auto" in setting.metadata]
    read = {key: AUTO if v == "auto" and key in automatic else v for key, v in values.items()}
    return cls(**{key: converted(kinds[key], v, f"{where}.{key}") for key, v in read.items()})


def unknown_key(key: str, known: list[str]) -> str:
    """Message for an unknown config key, with the nearest known one."""
    near = difflib.get_close_matches(key[:SHOWN], known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}."
    cut = key[:SHOWN].replace("\n", "\\n")
    return f"Unknown config key {cut}{'…' if len(key) > SHOWN else ''}: {hint}"


_ACCEPTED: dict[Any, Any] = {bool: bool, int: Integral, float: Real, str: str}


def converted(kind: Any, value: Any, where: str) -> Any:
    """Convert a value to an option's Python type; a bool is not a number, nor a number a bool.

    `kind` is bool, int, float, str, a tuple of one of them, or a group of settings. The value may
    also be a number or a scalar array of NumPy, JAX or PyTorch; for a tuple, any iterable (a set in
    ascending order); for a group, a mapping. `where` is the option's name.
    """
    if is_dataclass(kind):
        built: Any = kind
        return value if isinstance(value, built) else _build(built, value, where)
    if getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(kind, types.GenericAlias):
        item = typing.get_args(kind)[0]
        if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
            raise InputError(f"{where} is {shown(value)}: expected a tuple of {item.__name__}.")
        items = [converted(item, each, where) for each in value]
        return tuple(sorted(items) if isinstance(value, set | frozenset) else items)
    if not isinstance(value, _ACCEPTED[kind]) or (kind is not bool and isinstance(value, bool)):
        raise InputError(f"{where} is {shown(value)}: expected a value of type {kind.__name__}.")
    if kind is str and not is_text(value):
        raise InputError(f"{where} is {shown(value)}: expected a text that UTF-8 can hold.")
    try:
        return kind(value)
    except OverflowError as error:
        raise InputError(f"{where} is {shown(value)}: expected a value of type float.") from error
