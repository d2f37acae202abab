"""Every choice of a run, as frozen dataclasses: the one place where defaults stand."""

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from numbers import Integral, Real
from typing import Any

from jaxdesc.attention.saliency import DEFAULT, METHODS
from jaxdesc.errors import SHOWN, InputError, is_text, shown
from jaxdesc.images.preprocess import PRESETS
from jaxdesc.images.windows import VIEWS
from jaxdesc.models.precision import PRECISIONS
from jaxdesc.models.target import LOGITS, POOLINGS
from jaxdesc.vocabulary.vocabulary import TEMPLATE

LARGEST_KAPPA = 1e6  # float32 holds the scores up to there
KAPPAS = f"a number in [0, {LARGEST_KAPPA:g}]"
LARGEST_BATCH = 2**16  # images a forward pass
PREPROCESSINGS = ("", *PRESETS)
LARGEST_BLOCK = 2**20  # concepts scored at once


def _require(condition: bool, key: str, value: Any, expected: str) -> None:
    if not condition:
        raise InputError(f"config.{key} is {shown(value)}: expected {expected}.")


def _require_size(key: str, value: int, most: int) -> None:
    """What is held at once is bounded: more would be a slip, and the memory's end."""
    _require(value >= 1, key, value, "at least 1")
    _require(value <= most, key, value, f"at most {most}")


@dataclass(frozen=True)
class _Group:
    """Settings whose values have the types of their fields: Python's, not NumPy's or JAX's.

    Their text names the artifacts, and config.json holds them.
    """

    def __post_init__(self) -> None:
        section = type(self).__name__.removesuffix("Config").lower()
        for name, kind in typing.get_type_hints(type(self)).items():
            where = ".".join(filter(None, ("config", section, name)))
            object.__setattr__(self, name, converted(kind, getattr(self, name), where))


@dataclass(frozen=True)
class TargetConfig(_Group):
    """The network whose neurons are described.

    Attributes:
        source: checkpoint folder, `.pth` file, Hugging Face id, or "scenes". WWW describes
            torchvision's V2 weights (tv2_in1k), CLIP-Dissect the V1 (tv_in1k).
        revision: branch, tag or commit of a Hugging Face id; its main branch where empty.
        preprocess: "imagenet", "imagenet_v2", "imagenet_bicubic", "inception" or "openai", or empty
            for what the checkpoint says.
        classes: names of its classes: "imagenet", `file:PATH` (one class a line, its names
            separated by ", "), or empty for those in the checkpoint.
        layer: "fc" or a tap of the trunk, layer1 … layer4.
        pooling: of a tap over its positions, "mean" or "max".
    """

    source: str = "timm/resnet50.tv2_in1k"
    revision: str = ""
    preprocess: str = ""
    classes: str = ""
    layer: str = LOGITS
    pooling: str = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.pooling in POOLINGS, "target.pooling", self.pooling, f"one of {POOLINGS}")
        known = self.preprocess in PREPROCESSINGS
        _require(known, "target.preprocess", self.preprocess, f"one of {PREPROCESSINGS}")


@dataclass(frozen=True)
class ClipConfig(_Group):
    """The CLIP that compares views with concepts.

    Attributes:
        source: Hugging Face folder or id, or "scenes".
        revision: branch, tag or commit of a Hugging Face id; its main branch where empty.
        preprocess: "imagenet", "imagenet_v2", "imagenet_bicubic", "inception" or "openai", or empty
            for what the checkpoint says.
        input: what CLIP sees of an exemplar: "view", the window that the target saw (the paper);
            "image", its own preprocessing of the whole image (WWW); or "method", in a table of
            both, the image for centre views and the view for all others.
        batch: images a forward pass.
    """

    source: str = "openai/clip-vit-base-patch32"
    revision: str = ""
    preprocess: str = ""
    input: str = "view"
    batch: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        inputs = ("view", "image", "method")
        _require(self.input in inputs, "clip.input", self.input, f"one of {inputs}")
        known = self.preprocess in PREPROCESSINGS
        _require(known, "clip.preprocess", self.preprocess, f"one of {PREPROCESSINGS}")
        _require_size("clip.batch", self.batch, LARGEST_BATCH)


@dataclass(frozen=True)
class ImagesConfig(_Group):
    """The probe images.

    Attributes:
        source: `folder:PATH`, `tfds:NAME/SPLIT` or `scenes:` with options.
        batch: images a forward pass of the target.
        max_skipped: share of the images that may be unusable, and are left out; more stop the run.
    """

    source: str = ""
    batch: int = 64
    max_skipped: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_size("images.batch", self.batch, LARGEST_BATCH)
        share = 0 <= self.max_skipped < 1
        _require(share, "images.max_skipped", self.max_skipped, "a share in [0, 1)")


@dataclass(frozen=True)
class VocabularyConfig(_Group):
    """The concepts.

    Attributes:
        source: "imagenet", "wordnet", `broden:PATH`, `file:PATH` (one a line) or "scenes".
        template: prompt around a concept.
        compat: "www" keeps duplicates as WWW does; empty keeps one of each, case folded.
    """

    source: str = ""
    template: str = TEMPLATE
    compat: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        named = "{concept}" in self.template
        _require(named, "vocabulary.template", self.template, "a text with '{concept}' in it")
        _require(self.compat in ("", "www"), "vocabulary.compat", self.compat, "'' or 'www'")


@dataclass(frozen=True)
class CropConfig(_Group):
    """Which part of each probe image is its view.

    Attributes:
        view: "attention" (the paper), "centre" (WWW), or a control: "random", "box", "full".
        field: side of the window as a share of the image's shorter side; 224/256 changes only where
            the window lies, not how much it shows.
        cam: the map of attention around whose peak the attention window is cut: "grad_cam", "cam"
            (for a mean over positions and one linear layer), "grad_cam_pp", "layer_cam" or
            "score_cam" (a forward pass for every channel of the feature maps).
        cam_input: what it looks at: "whole", the image squashed to a square, or "centre".
        cam_class: the class that it is of: "predicted" or "label".
        seed: of the random windows.
    """

    view: str = "attention"
    field: float = 224 / 256
    cam: str = DEFAULT
    cam_input: str = "whole"
    cam_class: str = "predicted"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.view in VIEWS, "crop.view", self.view, f"one of {VIEWS}")
        _require(0 < self.field <= 1, "crop.field", self.field, "a share in (0, 1]")
        _require(0 <= self.seed < 2**32, "crop.seed", self.seed, "an integer in [0, 2**32)")
        _require(self.cam in METHODS, "crop.cam", self.cam, f"one of {METHODS}")
        inputs, classes = ("whole", "centre"), ("predicted", "label")
        _require(self.cam_input in inputs, "crop.cam_input", self.cam_input, f"one of {inputs}")
        _require(self.cam_class in classes, "crop.cam_class", self.cam_class, f"one of {classes}")


@dataclass(frozen=True)
class ScoreConfig(_Group):
    """Scores and selection.

    Attributes:
        exemplars: most active views per unit; a unit that is active on fewer has fewer.
        fewest: exemplars below which a unit is flagged, and its concepts get no stability.
        kappa: concentration κ ≥ 0 of t-vMF; 0 is the cosine (WWW).
        alpha: concept sensitivity α in (0, 1]; concepts above α × the best score are kept.
        block: concepts scored at once; bounds memory.
    """

    exemplars: int = 40
    fewest: int = 5
    kappa: float = 16.0
    alpha: float = 0.95
    block: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.exemplars >= 1, "score.exemplars", self.exemplars, "at least 1")
        _require(self.fewest >= 1, "score.fewest", self.fewest, "at least 1")
        _require(0 <= self.kappa <= LARGEST_KAPPA, "score.kappa", self.kappa, KAPPAS)
        _require(0 < self.alpha <= 1, "score.alpha", self.alpha, "a share in (0, 1]")
        _require_size("score.block", self.block, LARGEST_BLOCK)


@dataclass(frozen=True)
class EvaluationConfig(_Group):
    """What judges the concepts of neurons whose classes have names.

    Attributes:
        scorer: the CLIP of the metric CLIP cos, a folder, or an id with `@` and its revision where
            one is meant; that of `clip` where empty.
        sentence: the sentence encoder of the metric sentence cosine, likewise; no such metric where
            empty.
    """

    scorer: str = "openai/clip-vit-base-patch16"
    sentence: str = "sentence-transformers/all-mpnet-base-v2"


@dataclass(frozen=True)
class AblationConfig(_Group):
    """Further runs beside the main one, for tables; nothing where views or kappas are empty.

    Attributes:
        views: values of crop.view.
        kappas: values of score.kappa.
        probes: image sources, one world each; the main source where empty.
        vocabularies: values of vocabulary.source; the main one where empty.
    """

    views: tuple[str, ...] = ()
    kappas: tuple[float, ...] = ()
    probes: tuple[str, ...] = ()
    vocabularies: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for view in self.views:
            _require(view in VIEWS, "ablation.views", view, f"each one of {VIEWS}")
        for kappa in self.kappas:
            _require(0 <= kappa <= LARGEST_KAPPA, "ablation.kappas", kappa, KAPPAS)


@dataclass(frozen=True)
class Config(_Group):
    """A whole run.

    Attributes:
        precision: of the weights and layers of target and CLIP as the commands load them,
            "float32" or "bfloat16"; what judges the concepts is float32 always.
    """

    target: TargetConfig = field(default_factory=TargetConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    images: ImagesConfig = field(default_factory=ImagesConfig)
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    crop: CropConfig = field(default_factory=CropConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    ablation: AblationConfig = field(default_factory=AblationConfig)
    precision: str = PRECISIONS[0]

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.precision in PRECISIONS, "precision", self.precision, f"one of {PRECISIONS}")

    def to_dict(self) -> dict[str, Any]:
        """Nested dicts of plain values, as config.json and ml_collections hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """Build a config from nested mappings.

        Raises:
            InputError: for an unknown key (with the nearest known one), a value of a wrong type or
                out of its range.
        """
        config: Config = _build(cls, values, "config")
        return config


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
    known = {f.name: f for f in fields(cls)}
    for key in values:
        if key not in known:
            raise InputError(unknown_key(f"{where}.{key}", [f"{where}.{name}" for name in known]))
    hints = typing.get_type_hints(cls)
    return cls(**{k: converted(hints[k], v, f"{where}.{k}") for k, v in values.items()})


def unknown_key(key: str, known: list[str]) -> str:
    """Say that a config key is unknown, and which known one is nearest."""
    near = difflib.get_close_matches(key[:SHOWN], known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}."
    told = key[:SHOWN].replace("\n", "\\n")  # elsewhere a line's end may stay in a message
    return f"Unknown config key {told}{'…' if len(key) > SHOWN else ''}: {hint}"


_ACCEPTED: dict[Any, Any] = {bool: bool, int: Integral, float: Real, str: str}


def converted(kind: Any, value: Any, where: str) -> Any:
    """Take a value for an option as the Python value of the option's type.

    Args:
        kind: bool, int, float, str, a tuple of one of them, or a group of settings.
        value: also a number or an array without axes of NumPy, JAX or PyTorch; for a tuple, any
            iterable, a set in ascending order; for a group, a mapping.
        where: the option's name, for errors.

    Raises:
        InputError: a value of another type. True isn't a number, and 1 isn't True.
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
