"""The public functions: what a notebook calls.

Importing this module registers the embedded world.
"""

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

import jaxdesc.scenes  # noqa: F401 - registers the embedded world
from jaxdesc import exemplars as exemplar_search
from jaxdesc import scoring
from jaxdesc.config import (
    Config,
    CropConfig,
    EvaluationConfig,
    ScoreConfig,
    TargetConfig,
    converted,
)
from jaxdesc.errors import InputError, check_type, shown
from jaxdesc.evaluation.metrics import Encoder
from jaxdesc.images.example import Source
from jaxdesc.images.sources import open_source
from jaxdesc.models.encoder import ClipEncoder, load_clip
from jaxdesc.models.sentence import SentenceEncoder, load_sentence_encoder
from jaxdesc.models.target import Target, load_target
from jaxdesc.pipeline import describe as run_stages
from jaxdesc.report.explain import explain
from jaxdesc.report.files import write_skipped
from jaxdesc.report.report import write_report
from jaxdesc.result import CERTAINTY, Exemplar, Result, build_neurons
from jaxdesc.scoring.certainty import certainty
from jaxdesc.similarity import SIMILARITIES
from jaxdesc.stages.check import check_names
from jaxdesc.stages.features import concept_features, image_features
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
    "load_sentence_encoder",
    "load_target",
    "write_report",
]

Options = TypeVar("Options", TargetConfig, CropConfig, ScoreConfig)


def describe(
    target: Target,
    clip: ClipEncoder,
    *,
    images: str | os.PathLike[str] | Source,
    concepts: str | os.PathLike[str] | Iterable[str],
    layer: str | None = None,
    view: str | None = None,
    cam: str | None = None,
    similarity: str | None = None,
    kappa: float | None = None,
    alpha: float | None = None,
    exemplars: int | None = None,
    workdir: str | os.PathLike[str] | None = None,
    scorer: ClipEncoder | None = None,
    sentence_encoder: Encoder | None = None,
    quiet: bool = False,
    config: Config | None = None,
) -> Result:
    """Tell which concept each neuron of a layer responds to.

    Args:
        target: the network whose neurons are described.
        clip: compares its views with the concepts.
        images: a folder, `folder:PATH`, `tfds:NAME/SPLIT`, `scenes:…`, or a source of your own.
        concepts: any iterable of strings, "imagenet", "wordnet", `broden:PATH`, `file:PATH`, or
            "scenes".
        layer: "fc" (default) or a tap of the target's trunk.
        view: "attention" (the paper; default), "centre" (WWW), "random", "box" or "full".
        cam: around whose peak the attention view is cut: "grad_cam" (default), "cam",
            "grad_cam_pp", "layer_cam" or "score_cam".
        similarity: name in `jaxdesc.similarity.SIMILARITIES`: "t_vmf" (default), "cosine", or one
            that you added.
        kappa: parameter of the similarity: concentration κ ≥ 0 of t-vMF, 16 by default; 0 is the
            cosine (WWW).
        alpha: concept sensitivity α in (0, 1], 0.95 by default.
        exemplars: most activating views a neuron, 40 by default.
        workdir: where artifacts are kept, a local path or gs://BUCKET/PATH, so that a later call
            with the same inputs reads instead of computing, and skipped.csv lists the images that
            can't be used (they are in `Result.skipped` too); a temporary directory by default.
        scorer: the CLIP of the metric CLIP cos; `clip` by default.
        sentence_encoder: distinct texts -> unit features [K, d], for the metric sentence cosine.
        quiet: no progress bars.
        config: every other choice; arguments that are given overrule it.

    Returns:
        The neurons with their concepts; with metrics where `layer` is "fc" and the target's
        classes have names.

    Raises:
        InputError: in one sentence, for anything that can't be used.
    """
    _check_networks(target, clip, scorer, sentence_encoder)
    quiet = converted(bool, quiet, "quiet")
    if not isinstance(workdir, str | os.PathLike | None):
        raise InputError(f"workdir is {shown(workdir)}: give the path of a folder.")
    source = open_source(images)
    base = converted(Config, config or Config(), "config")
    vocabulary = load_vocabulary(concepts, base.vocabulary.compat)
    settings = Config(
        target=_changed(base.target, source=target.name, revision="", layer=layer),
        clip=replace(base.clip, source=clip.name, revision=""),
        images=replace(base.images, source=source.spec),
        vocabulary=replace(base.vocabulary, source=vocabulary.name),
        crop=_changed(base.crop, view=view, cam=cam),
        score=_changed(
            base.score, similarity=similarity, kappa=kappa, alpha=alpha, exemplars=exemplars
        ),
        evaluation=EvaluationConfig(
            scorer=(scorer or clip).name, sentence=getattr(sentence_encoder, "name", "")
        ),
    )
    check_names(settings)
    inputs = Inputs(target, clip, source, vocabulary, scorer or clip, sentence_encoder)
    with tempfile.TemporaryDirectory() as temporary:
        place = Place(os.path.expanduser(workdir or temporary))
        run = Run(settings, inputs, Store(place.at("artifacts")), quiet)
        try:
            with run.store.held():
                return run_stages(run)
        finally:
            if workdir:
                write_skipped(place, run.skipped)


def _check_networks(target: Any, clip: Any, scorer: Any, sentence_encoder: Any) -> None:
    if isinstance(target, ClipEncoder) and isinstance(clip, Target):
        raise InputError("target is a CLIP, and clip a target: give them the other way round.")
    check_type(target, Target, "target", "load_target")
    check_type(clip, ClipEncoder, "clip", "load_clip")
    if scorer is not None:
        check_type(scorer, ClipEncoder, "scorer", "load_clip")
    if sentence_encoder is not None and not callable(sentence_encoder):
        check_type(sentence_encoder, SentenceEncoder, "sentence_encoder", "load_sentence_encoder")


def _changed(options: Options, **given: Any) -> Options:
    return replace(options, **{key: v for key, v in given.items() if v is not None})


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
        activations: of each neuron on each image; any dense array of real numbers.
        image_features: unit CLIP features of the images, as `jaxdesc.image_features` returns them.
        concept_features: unit CLIP features of the concepts' prompts, as
            `jaxdesc.concept_features` returns them.
        base_feature: unit CLIP feature of the base template, likewise.
        concepts: the concepts' texts.
        similarity: as in `describe`.
        kappa: parameter of the similarity: concentration κ ≥ 0 of t-vMF.
        alpha: concept sensitivity α in (0, 1].
        exemplars: most active images per neuron; one that is active on fewer has fewer.
        fewest: exemplars below which a neuron is flagged, and its concepts get no stability.
        images: their names, such as paths in a folder, by which `write_report` finds them; their
            indices by default.
        layer: name for reports.

    Returns:
        The neurons with their concepts.

    Raises:
        InputError: for shapes that do not fit, NaN, or an option out of its range.
    """
    options = ScoreConfig(exemplars, fewest, similarity, kappa, alpha)
    check_names(Config(score=options))
    measure = SIMILARITIES[options.similarity]
    kappa, alpha = options.kappa, options.alpha
    layer, concepts = converted(str, layer, "layer"), _concepts(concepts)
    matrix, views, texts, base = (
        _numbers(values, name)
        for values, name in (
            (activations, "activations"),
            (image_features, "image_features"),
            (concept_features, "concept_features"),
            (base_feature, "base_feature"),
        )
    )
    names = [*map(str, range(len(matrix)))] if images is None else _texts(images, "images")
    _check_shapes(matrix, views, texts, concepts, names)
    chosen = _exemplars(matrix, options.exemplars, names)
    seen, slots = chosen.slots.distinct()
    if not seen.size:  # all units are dead
        seen = np.zeros(1, np.int32)
    try:
        found = scoring.discover(
            *(views, chosen.slots, texts, base, kappa, alpha), similarity=measure
        )
    except ValueError as error:  # features of another width or length
        raise InputError(str(error)) from error
    found = found.without(chosen.dead)
    certain = certainty(
        *(views[seen], slots, texts, base, kappa, alpha, found, options.fewest), similarity=measure
    )
    return Result(
        build_neurons(
            layer=layer,
            concepts=[
                [(concepts[j], s) for j, s in found.of(unit)] for unit in range(matrix.shape[1])
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


def _numbers(values: Any, name: str) -> np.ndarray:
    """Read an array of any library as float32."""
    if hasattr(values, "todense"):
        raise InputError(
            f"{name} is a sparse array of type {type(values).__name__}: give a dense one, such as "
            f"{name}.toarray()."
        )
    try:
        array = np.asarray(values)
    except Exception as error:  # any library's: of another device, of a type that NumPy lacks
        reason = " ".join(str(error).split())
        raise InputError(
            f"{name} can't be read as an array ({shown(reason)}): give one that numpy.asarray "
            f"takes, such as {name}.detach().cpu().float() of PyTorch."
        ) from error
    real = jnp.issubdtype(array.dtype, np.floating) or array.dtype.kind in "biu"
    if not real or np.ma.is_masked(values):
        kind = f"masked {array.dtype}" if real else array.dtype
        raise InputError(f"{name} is an array of type {kind}: expected real numbers.")
    with np.errstate(over="ignore"):  # infinity is refused by its own name
        return np.asarray(array, np.float32)


def _concepts(values: Any) -> list[str]:
    """List concepts as a vocabulary has them: each once, and none of several lines."""
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
    for place, value in enumerate(listed):
        if not isinstance(value, str | os.PathLike):
            raise InputError(f"{name}[{place}] is {shown(value)}: expected a text.")
    return [str(os.fspath(value)) for value in listed]


def _exemplars(matrix: np.ndarray, count: int, names: Sequence[str]) -> exemplar_search.Exemplars:
    """The exemplars of each column, or `InputError` where it can't be ranked."""
    if count > len(matrix):
        raise InputError(
            f"{count} exemplars are asked for, but there are {len(matrix)} images: ask for at "
            "most as many."
        )
    for what, wrong in (("NaN", np.isnan(matrix)), ("infinity", np.isinf(matrix))):
        if wrong.any():
            raise InputError(
                f"Activations of neuron {int(wrong.any(axis=0).argmax())} hold {what}: expected "
                "finite numbers."
            )
    return exemplar_search.exemplars(matrix, count, names)


def _check_shapes(
    activations: np.ndarray,
    image_features: np.ndarray,
    concept_features: np.ndarray,
    concepts: Sequence[str],
    images: Sequence[str],
) -> None:
    if activations.ndim != 2 or 0 in activations.shape:
        raise InputError(
            f"The activations have shape {activations.shape}: expected (image, neuron), at least "
            "one of each."
        )
    rows = {"image features": len(image_features), "names of images": len(images)}
    for what, count in rows.items():
        if count != len(activations):
            raise InputError(
                f"There are {len(activations)} rows of activations, but {count} {what}: expected "
                "as many of each."
            )
    if len(concepts) != len(concept_features):
        raise InputError(
            f"There are {len(concepts)} concepts, but {len(concept_features)} concept features: "
            "expected as many of each."
        )
