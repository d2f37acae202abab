"""The public functions: what a notebook calls.

Importing this module registers the embedded world.
"""

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import jaxdesc.scenes  # noqa: F401 - registers the embedded world
from jaxdesc.config import Config, EvaluationConfig, converted
from jaxdesc.errors import InputError, check_type, shown
from jaxdesc.evaluation.judging.judgement import Judgement
from jaxdesc.evaluation.judging.labels import labels_of
from jaxdesc.evaluation.metrics import Encoder
from jaxdesc.images.example import Source
from jaxdesc.images.sources import open_source
from jaxdesc.images.split import side_of
from jaxdesc.models.architectures import load_target
from jaxdesc.models.encoder import Namer
from jaxdesc.models.namers import load_clip, load_namer
from jaxdesc.models.sentence import SentenceEncoder, load_sentence_encoder
from jaxdesc.models.target import Target
from jaxdesc.models.zero_shot import zero_shot
from jaxdesc.pipeline import Judging, describe_each
from jaxdesc.pipeline import judge as judge_run
from jaxdesc.pipeline.judging import own_labels
from jaxdesc.report.explain import explain
from jaxdesc.report.files import write_skipped
from jaxdesc.report.report import write_report
from jaxdesc.result import Result
from jaxdesc.stages.arrays import describe_activations
from jaxdesc.stages.batches import fitting
from jaxdesc.stages.check import check, check_names
from jaxdesc.stages.embed import image_features
from jaxdesc.stages.encode import concept_features
from jaxdesc.stages.run import Inputs, Run
from jaxdesc.store import Place, Store
from jaxdesc.vocabulary.vocabulary import load_vocabulary

__all__ = [
    "concept_features",
    "describe",
    "describe_activations",
    "explain",
    "image_features",
    "judge",
    "load_clip",
    "load_namer",
    "load_sentence_encoder",
    "load_target",
    "write_report",
    "zero_shot",
]

EXEMPLARS = 100  # that are compared with the images that they should be of


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
            image, or each "unit"'s own (default for latents of a dictionary).
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
    source = side_of(open_source(images), base.images)
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


def judge(
    target: Target,
    clip: Namer,
    *,
    images: str | os.PathLike[str] | Source,
    concepts: str | os.PathLike[str] | Iterable[str],
    found: Result | None = None,
    on: str | os.PathLike[str] | Source | None = None,
    labels: Mapping[str, str | os.PathLike[str] | Mapping[int, str] | Result] | None = None,
    methods: Iterable[str] = (),
    presence: str = "",
    scorer: Namer | None = None,
    concept_images: str | os.PathLike[str] | Source | None = None,
    ablate: int = 0,
    same_images: bool = False,
    ceiling: bool = True,
    layer: str | None = None,
    workdir: str | os.PathLike[str] | None = None,
    quiet: bool = False,
    config: Config | None = None,
) -> Judgement:
    """Judge what `describe` found of a layer, and labels from elsewhere, on other images.

    Args:
        target: network whose neurons have labels.
        clip: encoder that `describe` names them with.
        images: probe images that labels were found on.
        concepts: as in `describe`.
        found: its result; without it the layer is described, with the choices of `config`.
        on: images that judge; by default those that `config.images.split` has kept aside.
        labels: CSV files, as `launch.judge` reads them, results of `describe`, or a text for each
            unit, by source.
        methods: names in `evaluation.methods.METHODS` whose labels are judged too.
        presence: how it is known what images show: "truth", "labels" or "scorer"; by default the
            first of these that is known.
        scorer: encoder for "scorer", other than `clip`.
        concept_images: images in a folder per concept, for CoSy.
        ablate: units that are zeroed, drawn at random.
        same_images: judge on the images that chose the labels, if there are no others.
        ceiling: find the best concept of the vocabulary for each unit.
        layer: another layer than "fc"; that of `found`.
        workdir: with that of `describe`, nothing is computed twice.
        quiet: no progress bars.
        config: every other choice.

    Raises:
        InputError: in one sentence, for anything that can't be used.
    """
    _check_types(target, clip, scorer, None, workdir)
    base = converted(Config, config or Config(), "config")
    source = side_of(open_source(images), base.images)
    vocabulary = load_vocabulary(concepts, base.vocabulary.compat)
    inputs = Inputs(target, clip, source, vocabulary, scorer or clip)
    if found is not None:
        layer = _layer_of(found, layer, source)
    settings = _settings(base, inputs, _described(layer, None), {}, {})
    settings = fitting(settings, target, clip, len(source))
    options = Judging(
        result=found,
        images=None if on is None else open_source(on),
        same=converted(bool, same_images, "same_images"),
        presence=converted(str, presence, "presence"),
        methods=converted(tuple[str, ...], methods, "methods"),
        made=None if concept_images is None else open_source(concept_images),
        ablate=converted(int, ablate, "ablate"),
        ceiling=converted(bool, ceiling, "ceiling"),
    )
    with tempfile.TemporaryDirectory() as temporary:
        place = Place(os.path.expanduser(workdir or temporary))
        quiet = converted(bool, quiet, "quiet")
        run = Run(settings, inputs, Store(place.at("artifacts")), quiet)
        check(run)
        with run.store.held():
            layer, count = settings.target.layer, target.shapes[settings.target.layer][-1]
            given = {
                name: own_labels(each)
                if isinstance(each, Result)
                else labels_of(each, name, layer, count)
                for name, each in (labels or {}).items()
            }
            return judge_run(run, given, options)


def _layer_of(found: Result, layer: str | None, source: Source) -> str:
    """Layer of a result whose exemplars are images of a source."""
    check_type(found, Result, "found", "describe")
    if layer not in (None, found[0].layer):
        raise InputError(f"found is of layer {found[0].layer!r}, but layer is {layer!r}.")
    every = {(exemplar.index, exemplar.image) for neuron in found for exemplar in neuron.exemplars}
    for index, image in sorted(every)[:EXEMPLARS]:
        if index >= len(source) or source.identify(index) != image:
            raise InputError(
                f"found has the exemplar {image!r}, which is not image {index} of {source.spec}: "
                "give the images that it was found on, which must not judge it."
            )
    return str(found[0].layer)


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
