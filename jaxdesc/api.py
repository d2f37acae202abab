"""The public functions: what a notebook calls.

Importing this module registers the embedded world.
"""

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

import jaxdesc.scenes  # noqa: F401 - registers the embedded world
from jaxdesc import scoring
from jaxdesc.config import Config, EvaluationConfig, ScoreConfig, converted
from jaxdesc.errors import InputError, check_type, shown
from jaxdesc.evaluation.metrics import Encoder
from jaxdesc.exemplars import Exemplars
from jaxdesc.exemplars import exemplars as find_exemplars
from jaxdesc.images.example import Source
from jaxdesc.images.sources import open_source
from jaxdesc.models.architectures import load_target
from jaxdesc.models.encoder import Namer
from jaxdesc.models.namers import load_clip, load_namer
from jaxdesc.models.sentence import SentenceEncoder, load_sentence_encoder
from jaxdesc.models.target import Target
from jaxdesc.models.zero_shot import zero_shot
from jaxdesc.pipeline import describe_each
from jaxdesc.report.explain import explain
from jaxdesc.report.files import write_skipped
from jaxdesc.report.report import write_report
from jaxdesc.result import CERTAINTY, Exemplar, Result, build_neurons
from jaxdesc.scoring.certainty import certainty
from jaxdesc.similarity import SIMILARITIES
from jaxdesc.stages.batches import fitting
from jaxdesc.stages.check import check_names
from jaxdesc.stages.embed import image_features
from jaxdesc.stages.encode import concept_features
from jaxdesc.stages.run import Inputs, Run
from jaxdesc.store import Place, Store
from jaxdesc.vocabulary.names import LINE_END, check_name, normalised
from jaxdesc.vocabulary.vocabulary import load_vocabulary

__all__ = [
    "concept_features",
    "describe",
    "describe_activations",
    "explain",
    "image_features",
    "load_clip",
    "load_namer",
    "load_sentence_encoder",
    "load_target",
    "write_report",
    "zero_shot",
]


def describe(
    target: Target,
    clip: Namer,
    *,
    images: str | os.PathLike[str] | Source,
    concepts: str | os.PathLike[str] | Iterable[str],
    layer: str | None = None,
    layers: Iterable[str] | None = None,
    view: str | None = None,
    of: str | None = None,
    cam: str | None = None,
    similarity: str | None = None,
    kappa: float | None = None,
    alpha: float | None = None,
    exemplars: int | None = None,
    workdir: str | os.PathLike[str] | None = None,
    scorer: Namer | None = None,
    sentence_encoder: Encoder | None = None,
    quiet: bool = False,
    config: Config | None = None,
) -> Result | Any:
    """Name the concept that each neuron of a layer responds to.

    The result has metrics if the neurons are classes whose names are known. For several layers the
    images are read once, and a dict has the result of each.

    Args:
        target: network whose neurons are described.
        clip: encoder that compares the target's views with the concepts.
        images: a folder, `folder:PATH`, `tfds:NAME/SPLIT`, `hf:NAME/SPLIT`, `scenes:…`, or a
            `Source`.
        concepts: strings, "imagenet", "wordnet", `broden:PATH`, `file:PATH`, or "scenes".
        layer: "fc" (default) or another layer of the target.
        layers: several layers instead.
        view: "attention" (the paper; default), "centre" (WWW), "random", "box" or "full".
        of: whose attention view is cut: of the predicted "class" (the paper; default), one per
            image, or each "unit"'s own.
        cam: map whose peak the attention view is cut around: "grad_cam" (default for feature maps
            with rows and columns), "layer_cam" (default for tokens), "cam", …
        similarity: entry of `jaxdesc.similarity.SIMILARITIES`, "t_vmf" by default.
        kappa: parameter of the similarity: κ ≥ 0 of t-vMF, 16 by default; 0 is the cosine (WWW).
        alpha: concept sensitivity α in (0, 1], 0.95 by default.
        exemplars: most activating views per neuron, 40 by default.
        workdir: path or gs://BUCKET/PATH of artifacts, for later calls, and of skipped.csv.
        scorer: CLIP of the metric CLIP cos; `clip` by default.
        sentence_encoder: distinct texts -> unit features [K, d], for the metric sentence cosine.
        quiet: no progress bars.
        config: every other choice; arguments that are given overrule it.

    Raises:
        InputError: in one sentence, for anything that can't be used.
    """
    _check_types(target, clip, scorer, sentence_encoder, workdir)
    quiet, base = converted(bool, quiet, "quiet"), converted(Config, config or Config(), "config")
    source = open_source(images)
    vocabulary = load_vocabulary(concepts, base.vocabulary.compat)
    inputs = Inputs(target, clip, source, vocabulary, scorer or clip, sentence_encoder)
    score = {"similarity": similarity, "kappa": kappa, "alpha": alpha, "exemplars": exemplars}
    described = _described(layer, layers)
    settings = _settings(base, inputs, described, {"view": view, "of": of, "cam": cam}, score)
    settings = fitting(settings, target, clip, len(source))
    with tempfile.TemporaryDirectory() as temporary:
        place = Place(os.path.expanduser(workdir or temporary))
        run = Run(settings, inputs, Store(place.at("artifacts")), quiet)
        try:
            with run.store.held():
                found = {part.config.target.layer: each for part, each in describe_each(run)}
        finally:
            if workdir:
                write_skipped(place, run.skipped)
    return found if settings.target.layers else found[settings.target.layer]


def _described(layer: str | None, layers: Iterable[str] | None) -> dict[str, Any]:
    """Settings of the target for `describe`'s layer or layers; none if neither is given."""
    if layers is None:
        return {} if layer is None else {"layer": layer, "layers": ()}
    names = converted(tuple[str, ...], layers, "layers")
    if layer is not None or not names:
        raise InputError(
            f"layer is {shown(layer)}, and layers is {shown(list(names))}: give one layer, or a "
            "list of at least one."
        )
    return {"layers": names}


def _settings(base: Config, inputs: Inputs, *options: Mapping[str, Any]) -> Config:
    """The config with the names of the inputs, and the options that are not None."""
    given = ({k: v for k, v in section.items() if v is not None} for section in options)
    target, crop, score = given
    sentence = getattr(inputs.sentence, "name", "")
    settings = Config(
        target=replace(base.target, source=inputs.target.name, revision="", **target),
        clip=replace(base.clip, source=inputs.clip.name, revision=""),
        images=replace(base.images, source=inputs.source.spec),
        vocabulary=replace(base.vocabulary, source=inputs.vocabulary.name),
        crop=replace(base.crop, **crop),
        score=replace(base.score, **score),
        evaluation=EvaluationConfig(scorer=inputs.scorer.name, sentence=sentence),
    )
    check_names(settings)
    return settings


def _check_types(target: Any, clip: Any, scorer: Any, sentence_encoder: Any, workdir: Any) -> None:
    if isinstance(target, Namer) and isinstance(clip, Target):
        raise InputError(
            "target is a name encoder, and clip a target: give them the other way round."
        )
    check_type(target, Target, "target", "load_target")
    check_type(clip, Namer, "clip", "load_namer")
    if scorer is not None:
        check_type(scorer, Namer, "scorer", "load_namer")
    if sentence_encoder is not None and not callable(sentence_encoder):
        check_type(sentence_encoder, SentenceEncoder, "sentence_encoder", "load_sentence_encoder")
    if not isinstance(workdir, str | os.PathLike | None):
        raise InputError(f"workdir is {shown(workdir)}: give the path of a folder.")


def describe_activations(
    activations: Float[ArrayLike, "image neuron"],
    image_features: Float[ArrayLike, "image width"],
    concept_features: Float[ArrayLike, "concept width"],
    base_feature: Float[ArrayLike, "width"],
    concepts: Iterable[str],
    *,
    similarity: str = ScoreConfig.similarity,
    kappa: float = ScoreConfig.kappa,
    alpha: float = ScoreConfig.alpha,
    exemplars: int = ScoreConfig.exemplars,
    fewest: int = ScoreConfig.fewest,
    images: Iterable[str | os.PathLike[str]] | None = None,
    layer: str = "neurons",
) -> Result:
    """Describe the columns of any activation matrix: a sparse autoencoder, another framework.

    Args:
        activations: activation of each neuron on each image; any dense array of real numbers.
        image_features: unit CLIP features, as `jaxdesc.image_features` returns them.
        concept_features: unit CLIP features of the concepts' prompts, as
            `jaxdesc.concept_features` returns them.
        base_feature: unit CLIP feature of the base template, likewise.
        concepts: texts of the concepts.
        similarity: as in `describe`.
        kappa: parameter of the similarity: concentration κ ≥ 0 of t-vMF.
        alpha: concept sensitivity α in (0, 1].
        exemplars: most active images per neuron; one that is active on fewer has fewer.
        fewest: exemplars below which a neuron is flagged, and its concepts get no stability.
        images: names, such as paths in a folder, by which `write_report` finds the images; their
            indices by default.
        layer: name for reports.

    Raises:
        InputError: for shapes that do not fit, NaN, or an option out of its range.
    """
    options = ScoreConfig(exemplars, fewest, similarity, kappa, alpha)
    check_names(Config(score=options))
    layer, concepts = converted(str, layer, "layer"), _concepts(concepts)
    matrix = _numbers(activations, "activations", "image", "neuron")
    views = _numbers(image_features, "image_features", "image", "width")
    texts = _numbers(concept_features, "concept_features", "concept", "width")
    base = _numbers(base_feature, "base_feature", "width")
    names = [*map(str, range(len(matrix)))] if images is None else _texts(images, "images")
    _check_activations(matrix, options.exemplars)
    _check_counts("rows of activations", len(matrix), "image features", len(views))
    _check_counts("rows of activations", len(matrix), "names of images", len(names))
    _check_counts("concepts", len(concepts), "concept features", len(texts))
    found = find_exemplars(matrix, options.exemplars, names)
    return _result(layer, found, names, concepts, (views, texts, base), options)


def _result(
    layer: str,
    chosen: Exemplars,
    names: Sequence[str],
    concepts: Sequence[str],
    features: tuple[np.ndarray, np.ndarray, np.ndarray],
    options: ScoreConfig,
) -> Result:
    """Score the exemplars of bare arrays, and assemble what was found."""
    views, texts, base = features
    asked, similarity = (options.kappa, options.alpha), SIMILARITIES[options.similarity]
    try:
        found = scoring.discover(views, chosen.slots, texts, base, *asked, similarity=similarity)
    except ValueError as error:  # features of another width or length
        raise InputError(str(error)) from error
    found = found.without(chosen.dead)
    seen, slots = chosen.slots.distinct()
    pool = views[seen] if seen.size else views[:1]  # all units are dead
    certain = certainty(
        pool, slots, texts, base, *asked, found, options.fewest, similarity=similarity
    )
    return Result(
        build_neurons(
            layer=layer,
            concepts=[
                [(concepts[j], score) for j, score in found.of(unit)]
                for unit in range(len(found.counts))
            ],
            maximum=found.maximum,
            threshold=found.threshold,
            exemplars=[
                [Exemplar(names[i], value, index=i) for i, value in ranked]
                for ranked in chosen.ranked()
            ],
            flags=chosen.flags(options.fewest),
            certainty={name: getattr(certain, name) for name in CERTAINTY},
        ),
        hubs={concepts[hub]: share for hub, share in certain.hubs},
    )


def _numbers(values: Any, name: str, *axes: str) -> np.ndarray:
    """Read an array of any library as float32."""
    if hasattr(values, "todense"):
        raise InputError(
            f"{name} is a sparse array of type {type(values).__name__}: give a dense one, such as "
            f"{name}.toarray()."
        )
    try:
        array = np.asarray(values)
    except Exception as error:  # of any library: an array on a device, a type that NumPy lacks
        reason = " ".join(str(error).split())
        raise InputError(
            f"{name} can't be read as an array ({shown(reason)}): give one that numpy.asarray "
            f"takes, such as {name}.detach().cpu().float() of PyTorch."
        ) from error
    real = jnp.issubdtype(array.dtype, np.floating) or array.dtype.kind in "biu"
    if not real or np.ma.is_masked(values):
        kind = f"masked {array.dtype}" if real else array.dtype
        raise InputError(f"{name} is an array of type {kind}: expected real numbers.")
    if array.ndim != len(axes) or 0 in array.shape:
        raise InputError(
            f"{name} has shape {array.shape}: expected ({', '.join(axes)}), at least one of each."
        )
    with np.errstate(over="ignore"):  # infinity is refused by its own name
        return np.asarray(array, np.float32)


def _concepts(values: Any) -> list[str]:
    """Normalise concepts as a vocabulary does; refuse repeated ones and ones of several lines."""
    concepts, rows = _texts(values, "concepts"), dict[str, int]()
    for row, concept in enumerate(concepts):
        check_name(concept, f"row {row} of concepts")
        name = normalised(concept)
        if not name or LINE_END.search(concept):
            raise InputError(f"row {row} of concepts is {shown(concept)}: expected one name.")
        if name in rows:
            raise InputError(
                f"rows {rows[name]} and {row} of concepts are both {shown(name)}: give each once, "
                "as jaxdesc.concept_features does."
            )
        rows[name] = row
    return list(rows)


def _texts(values: Any, name: str) -> list[str]:
    """List texts, one per row."""
    unordered = isinstance(values, str | bytes | set | frozenset | Mapping)
    if unordered or hasattr(values, "columns") or not isinstance(values, Iterable):
        raise InputError(f"{name} is {shown(values)}: expected a list of texts, one per row.")
    listed = list(values)
    for index, value in enumerate(listed):
        if not isinstance(value, str | os.PathLike):
            raise InputError(f"{name}[{index}] is {shown(value)}: expected a text.")
    return [str(os.fspath(value)) for value in listed]


def _check_activations(matrix: np.ndarray, exemplars: int) -> None:
    if exemplars > len(matrix):
        raise InputError(
            f"{exemplars} exemplars are asked for, but there are {len(matrix)} images: ask for at "
            "most as many."
        )
    for what, wrong in (("NaN", np.isnan(matrix)), ("infinity", np.isinf(matrix))):
        if wrong.any():
            raise InputError(
                f"Activations of neuron {int(wrong.any(axis=0).argmax())} hold {what}: expected "
                "finite numbers."
            )


def _check_counts(what: str, count: int, other: str, others: int) -> None:
    if count != others:
        raise InputError(
            f"There are {count} {what}, but {others} {other}: expected as many of each."
        )
