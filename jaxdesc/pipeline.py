"""The five stages in order, activate → select → embed → score → evaluate, and nothing else.

Each stage is a function from artifacts to an artifact; its inputs, listed beside it, name it. κ and
α enter no stage before `score`, so `sweep`, which scores and evaluates for many, never runs a
network twice.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from itertools import product
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
from jaxtyping import Array
from tqdm import tqdm

from jaxdesc import exemplars, memory, scoring
from jaxdesc.ahead import ahead
from jaxdesc.config import Config, CropConfig, TargetConfig
from jaxdesc.device import Watch
from jaxdesc.errors import InputError
from jaxdesc.evaluation import metrics
from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.images.example import Example, Source
from jaxdesc.images.loader import batches, even, padded
from jaxdesc.models.encoder import ClipEncoder
from jaxdesc.models.sentence import SentenceEncoder
from jaxdesc.models.target import LOGITS, Target
from jaxdesc.result import Exemplar, Result, Skipped, build_neurons
from jaxdesc.scoring.devices import local_mesh
from jaxdesc.store import Artifact, Draft, Store
from jaxdesc.views import Batch, Views, cut_view, cut_views, relevant_options
from jaxdesc.vocabulary import Vocabulary, base_template, prompts


class Setting(NamedTuple):
    """What a sweep varies: all that matters only once every network has run."""

    kappa: float
    alpha: float
    exemplars: int


@dataclass(frozen=True)
class Inputs:
    """What a run works on, beside its config.

    Attributes:
        target: the network whose neurons are described.
        clip: compares views with concepts.
        source: the probe images.
        vocabulary: the concepts.
        scorer: the CLIP of the metric CLIP cos.
        sentence: encodes texts for the metric sentence cosine; left out where None.
    """

    target: Target
    clip: ClipEncoder
    source: Source
    vocabulary: Vocabulary
    scorer: ClipEncoder
    sentence: metrics.Encoder | None = None


@dataclass
class Run:
    """One pass of the pipeline: its config, inputs and store, and what it notes on its way.

    Attributes:
        config: every choice.
        inputs: networks, images, vocabulary.
        store: of the artifacts.
        quiet: no progress bars.
        seconds: how long each stage took to compute.
        memory: most bytes that were resident while each stage was computed.
        idle: share of the time of `activate` in which the device had nothing queued.
        began: when, by `time.perf_counter`, whatever led to it began.
        first_batch: seconds from there to the first activated batch; 0 where there was none.
        skipped: the images that can't be used, as far as it has met them.
    """

    config: Config
    inputs: Inputs
    store: Store
    quiet: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    idle: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)
    first_batch: float = 0.0
    skipped: set[Skipped] = field(default_factory=set)

    def stage(
        self, name: str, inputs: Mapping[str, Any], compute: Callable[[Draft], None]
    ) -> Artifact:
        """Find or compute one artifact, and note what it took to compute."""
        return self.stages(name, {name: inputs}, lambda drafts: compute(drafts[name]))[name]

    def stages(
        self,
        name: str,
        inputs: Mapping[str, Mapping[str, Any]],
        compute: Callable[[Mapping[str, Draft]], None],
    ) -> dict[str, Artifact]:
        """Find or compute several artifacts of a stage, and note what it took to compute."""
        began = time.perf_counter()
        memory.reset_peak()
        artifacts = self.store.stages(name, inputs, compute)
        if any(artifact.computed for artifact in artifacts.values()):
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
            self.memory[name] = max(self.memory.get(name, 0), memory.peak())
        return artifacts

    def bar(self, total: int, stage: str, unit: str = "img", delay: float = 0) -> tqdm:
        """A progress bar, over images if not said otherwise, shown after `delay` seconds."""
        look = {"unit": unit, "disable": self.quiet, "mininterval": 0.5, "delay": delay}
        return tqdm(total=total, desc=stage, **look)

    @cached_property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """Class names of the layer's neurons, where they are classes."""
        return self.inputs.target.classes if self.config.target.layer == LOGITS else ()


def describe(run: Run) -> Result:
    """Run all stages that are not done yet and assemble what they found.

    Raises:
        InputError: a config that does not fit its inputs, or an image that can't be decoded.
    """
    seen = _run_networks(run)
    scored = score(run, seen.selected, seen.embedded, seen.encoded)
    evaluated = evaluate(run, scored, seen.words) if seen.words else None
    stages = filter(None, (*seen, scored, evaluated))
    return _result(run, {stage.stage: stage for stage in stages})


def sweep(
    run: Run, kappas: Iterable[float], alphas: Iterable[float], counts: Iterable[int]
) -> tuple[dict[Setting, Metrics], Metrics]:
    """Measure the layer for every κ, α and number of exemplars; each network runs once.

    Args:
        run: one whose neurons have names. `config.score.exemplars` is the largest of `counts`, and
            its κ and α aren't looked at.
        kappas: concentrations κ ≥ 0.
        alphas: concept sensitivities α in (0, 1].
        counts: exemplars a neuron; fewer of them are the best of more.

    Returns:
        The metrics of each setting, and their ceilings.

    Raises:
        InputError: as `describe`.
    """
    seen = _run_networks(run)
    assert seen.words is not None
    settings = [Setting(*own) for own in product(sorted(kappas), sorted(alphas), sorted(counts))]
    swept = _sweep(run, settings, seen, seen.words)
    kinds = seen.words.values["metrics"]
    values = [swept.read(kind) for kind in kinds]
    each = [Metrics(dict(zip(kinds, own, strict=True))) for own in zip(*values, strict=True)]
    return dict(zip(settings, each, strict=True)), _ceilings(seen.words)


class _Seen(NamedTuple):
    """What the networks have seen: all that scoring and evaluation need."""

    activated: Artifact
    selected: Artifact
    embedded: Artifact
    encoded: Artifact
    words: Artifact | None


def _run_networks(run: Run) -> _Seen:
    check(run)
    # Texts first: one that can't be encoded is found before hours of images, not after.
    encoded = encode(run)
    words = score_words(run) if run.names else None
    activated = activate(run)
    selected = select(run, activated)
    return _Seen(activated, selected, embed(run, activated, selected), encoded, words)


def _views(run: Run) -> list[str]:
    """The run's own view, and those of the ablation that it is part of: one pass cuts them all."""
    own, options = run.config.crop.view, run.config.ablation
    source = run.config.images.source
    asked = options.views if options.kappas and source in (options.probes or (source,)) else ()
    return list(dict.fromkeys([own, *asked]))


def check(run: Run) -> None:
    """Find what can't be right before anything is computed.

    Raises:
        InputError: a config that does not fit its inputs.
    """
    config, source = run.config, run.inputs.source
    run.inputs.target.check_layer(config.target.layer)
    if config.score.exemplars > len(source):
        raise InputError(
            f"config.score.exemplars is {config.score.exemplars}, but {source.spec} holds only "
            f"{len(source)} images: ask for at most as many."
        )
    for view in _views(run):
        _check_view(replace(config.crop, view=view), source)
    if config.ablation.views and config.ablation.kappas and not run.names:
        raise InputError(
            f"config.ablation asks for a table, but the neurons of layer {config.target.layer!r} "
            "have no known names: use layer 'fc' of a target with label_names, or no ablation."
        )
    _check_names(run)


def _check_view(crop: CropConfig, source: Source) -> None:
    if crop.view == "box" and not source.has_boxes:
        raise InputError(
            f"config.crop.view is 'box', but {source.spec} knows no boxes: choose another view."
        )
    if crop.cam_class == "label" and not source.has_labels:
        raise InputError(
            f"config.crop.cam_class is 'label', but {source.spec} knows no labels: choose "
            "'predicted'."
        )


def _check_names(run: Run) -> None:
    target, names = run.inputs.target, run.names
    if names and len(names) != target.logit_count:
        raise InputError(
            f"{target.name} has {target.logit_count} logits, but names for {len(names)} classes: "
            "give names for each class, or none at all."
        )
    if not all(names):
        raise InputError(
            f"Class {names.index(())} of {target.name} has no name: give names for each class, or "
            "none at all."
        )


def activate(run: Run) -> Artifact:
    """Cut every image's view and record every neuron's activation on it.

    The other views of an ablation are cut in the same pass.

    Arrays: activations [I, N], boxes [I, 4] of the views in pixels, centres [I, 2] and fallback
    [I]: whether the attention map was empty (or the image has no box), so that the view is the
    centre; skipped [I]: whether the image can't be used, so that its other rows are NaN.

    Raises:
        InputError: as `probe`.
    """
    return probe(run, _views(run))[run.config.crop.view]


def probe(run: Run, views: Sequence[str]) -> dict[str, Artifact]:
    """Activate several views in one pass over the images, each of which is decoded once.

    Args:
        run: all whose choices hold, but for `config.crop.view`.
        views: names of the views.

    Returns:
        What `activate` gives for each view; what is there already is not computed again.

    Raises:
        InputError: activations that are NaN, or more images that can't be used than
            `config.images.max_skipped` allows.
    """
    target, source, config = run.inputs.target, run.inputs.source, run.config
    crops = {view: replace(config.crop, view=view) for view in views}
    common = {
        "target": target.fingerprint,
        "source": source.fingerprint(),
        "layer": config.target.layer,
        "pooling": config.target.pooling,
    }
    inputs = {
        view: common | {"crop": relevant_options(crop, source)} for view, crop in crops.items()
    }

    def compute(drafts: Mapping[str, Draft]) -> None:
        watch, size = Watch(), even(len(source), config.images.batch)
        cut = cut_views(target, source, config.crop, tuple(drafts), size, watch)
        started = ((batch, watch(_start(target, config.target, batch))) for batch in cut)
        skipped: list[tuple[str, str]] = []
        with run.bar(len(source), f"activate {', '.join(drafts)}") as bar:
            for batch, activations in ahead(started):
                for view, draft in drafts.items():
                    values = _finish(target, config.target, activations[view], batch.skipped)
                    _record(draft, batch, batch.views[view], values, len(source))
                run.first_batch = run.first_batch or time.perf_counter() - run.began
                reasons = enumerate(batch.skipped, batch.first)
                skipped += [(source.identify(i), reason) for i, reason in reasons if reason]
                bar.update(len(batch.skipped))
        run.idle["activate"] = watch.share()
        for draft in drafts.values():
            draft.values["skipped"] = skipped

    artifacts = run.stages("activate", inputs, compute)
    for artifact in artifacts.values():
        _check_skipped(run, artifact)
    return artifacts


def _start(target: Target, config: TargetConfig, batch: Batch) -> dict[str, Array]:
    """Start the forward passes of a batch's views, without waiting for them."""
    return {
        view: target.view_activations(views.pixels, config.layer, config.pooling)
        for view, views in batch.views.items()
    }


def _finish(
    target: Target, config: TargetConfig, activations: Array, skipped: Sequence[str]
) -> np.ndarray:
    """Wait for a batch's activations; NaN stands for an image that can't be used."""
    values = np.array(activations, np.float32)[: len(skipped)]
    unusable = np.array([bool(reason) for reason in skipped])
    if np.isnan(values[~unusable]).any():
        raise InputError(
            f"Layer {config.layer!r} of {target.name} gives NaN: its weights or its preprocessing "
            "are broken; check the checkpoint."
        )
    values[unusable] = np.nan
    return values


def _record(draft: Draft, batch: Batch, views: Views, values: np.ndarray, total: int) -> None:
    skipped = np.array([bool(reason) for reason in batch.skipped])
    fallback = views.fallback & ~skipped
    rows = {
        "activations": values,
        "boxes": np.where(skipped[:, None], np.float32("nan"), views.boxes),
        "centres": np.where(skipped[:, None], np.nan, views.centres),
        "fallback": fallback,
        "skipped": skipped,
    }
    for name, own in rows.items():
        draft.write_rows(name, batch.first, own, total)
    draft.values["fallbacks"] = draft.values.get("fallbacks", 0) + int(fallback.sum())


def _skipped(run: Run, activated: Artifact) -> list[Skipped]:
    spec = run.inputs.source.spec
    return [Skipped(image, reason, spec) for image, reason in activated.values["skipped"]]


def _check_skipped(run: Run, activated: Artifact) -> None:
    """Note the images that can't be used; too many, or too few others, stop the run."""
    skipped, source = _skipped(run, activated), run.inputs.source
    run.skipped.update(skipped)
    most, wanted = run.config.images.max_skipped, run.config.score.exemplars
    count, total = len(skipped), len(source)
    if count / total > most:
        first = ", ".join(f"{one.image} ({one.reason})" for one in skipped[:3])
        more = f" and {count - 3} more" if count > 3 else ""
        raise InputError(
            f"{count} of the {total} images of {source.spec} can't be used, more than the share "
            f"{most:g} that config.images.max_skipped allows: {first}{more}; repair or remove "
            "them, or allow a larger share."
        )
    if wanted > total - count:
        raise InputError(
            f"config.score.exemplars is {wanted}, but only {total - count} of the {total} images "
            f"of {source.spec} can be used: ask for at most as many."
        )


def select(run: Run, activated: Artifact) -> Artifact:
    """Find each neuron's most activating views by a running top-n, skipped images left out.

    Arrays: images [N, n] (indices, best first), values [N, n], dead [N].
    """
    count, size = run.config.score.exemplars, run.config.images.batch

    def compute(draft: Draft) -> None:
        state, start = None, 0
        usable = ~activated.read("skipped")
        for rows in activated.rows("activations", size):
            state = state or exemplars.empty(rows.shape[1], count)
            images = np.arange(start, start + size, dtype=np.int32)
            valid = np.zeros(size, bool)
            valid[: len(rows)] = usable[start : start + size]
            state = exemplars.update(state, padded(rows, size), images, valid)
            start += len(rows)
        assert state is not None  # a source is never empty
        draft.write("images", np.asarray(state.images))
        draft.write("values", np.asarray(state.values))
        draft.write("dead", np.asarray(exemplars.dead(state)))

    return run.stage("select", {"activate": activated.name, "exemplars": count}, compute)


def embed(run: Run, activated: Artifact, selected: Artifact) -> Artifact:
    """Encode the distinct exemplar views with CLIP, each once.

    Arrays: images [U] (indices, ascending), features [U, d]; `values["names"]` are the images'.
    """
    clip, config = run.inputs.clip, run.config
    whole_image = _sees_image(config)
    inputs = {
        "select": selected.name,
        "clip": clip.fingerprint,
        "input": "image" if whole_image else "view",
    }

    def compute(draft: Draft) -> None:
        images = np.unique(selected.read("images"))
        centres = activated.read("centres")
        draft.write("images", images)
        # Kept, since a TFDS set has to read a record to tell its image's name.
        draft.values["names"] = [run.inputs.source.identify(i) for i in images.tolist()]

        def prepare(index: int, example: Example) -> np.ndarray:
            if whole_image:
                return clip.preprocess.cut(example.image, (0.5, 0.5))[0]
            y, x = centres[index]
            return cut_view(clip.preprocess, config.crop, example.image, (y, x))[0]

        views = batches(run.inputs.source, images.tolist(), prepare, config.clip.batch)
        with run.bar(len(images), "embed") as bar:
            start = 0
            for chunk in views:
                pixels = padded(np.stack(chunk), config.clip.batch)
                features = np.asarray(clip.encode_views(pixels))[: len(chunk)]
                draft.write_rows("features", start, features, len(images))
                start += len(chunk)
                bar.update(len(chunk))

    return run.stage("embed", inputs, compute)


def _sees_image(config: Config) -> bool:
    """Whether CLIP sees exemplars as whole images: WWW's way, whose views are the centre ones."""
    by_method = config.clip.input == "method" and config.crop.view == "centre"
    return config.clip.input == "image" or by_method


def encode(run: Run) -> Artifact:
    """Encode the concepts' prompts and the base template. Arrays: features [T, d], base [d]."""
    clip = run.inputs.clip
    texts = prompts(run.inputs.vocabulary, run.config.vocabulary.template)
    base = base_template(run.config.vocabulary.template)
    inputs = {"clip": clip.fingerprint, "texts": texts, "base": base}

    def compute(draft: Draft) -> None:
        with run.bar(len(texts), "encode", "text", delay=1) as bar:
            draft.write("features", clip.encode_texts(texts, bar.update))
        draft.write("base", clip.encode_texts([base])[0])

    return run.stage("encode", inputs, compute)


def score(run: Run, selected: Artifact, embedded: Artifact, encoded: Artifact) -> Artifact:
    """Score all neurons against all concepts and keep what lies above the threshold.

    Arrays: those of `scoring.Selection`; a dead neuron has no concept.
    """
    options = run.config.score
    inputs = {
        "embed": embedded.name,
        "encode": encoded.name,
        "kappa": options.kappa,
        "alpha": options.alpha,
    }

    def compute(draft: Draft) -> None:
        own = Setting(options.kappa, options.alpha, options.exemplars)
        (found,) = _select_concepts(run, [own], selected, embedded, encoded)
        for name, values in asdict(found).items():
            draft.write(name, values)

    return run.stage("score", inputs, compute)


def _select_concepts(
    run: Run, settings: Sequence[Setting], selected: Artifact, embedded: Artifact, encoded: Artifact
) -> list[scoring.Selection]:
    """The selection of every setting of a grid."""
    rows = np.searchsorted(embedded.read("images"), selected.read("images")).astype(np.int32)
    kappas, alphas, counts = map(_distinct, zip(*settings, strict=True))
    try:
        found = scoring.sweep(
            embedded.read("features"),
            rows,
            encoded.read("features"),
            encoded.read("base"),
            kappas,
            alphas,
            counts,
            run.config.score.block,
            mesh=local_mesh(),
        )
    except ValueError as error:  # features that are no unit vectors, such as NaN
        raise InputError(f"{run.inputs.clip.name}: {error}") from error
    dead = selected.read("dead")
    return [found[setting].without(dead) for setting in settings]


def _distinct(values: Sequence[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def score_words(run: Run) -> Artifact:
    """Encode what the metrics compare, each distinct text once, and find the ceilings.

    Arrays: one [W, d] an encoder, for `values["words"]`, and one ceiling [N] a metric.
    """
    sentence: Any = run.inputs.sentence
    encoders: dict[str, Any] = {"clip": run.inputs.scorer.encode_texts}
    if sentence is not None:
        encoders["sentence"] = sentence
    vocabulary = run.inputs.vocabulary.concepts
    words = metrics.distinct_words([vocabulary, *run.names])
    inputs = {
        "scorer": run.inputs.scorer.fingerprint,
        # What a nameless function computes is unknown, so its words are encoded anew.
        "sentence": sentence and getattr(sentence, "fingerprint", uuid4().hex),
        "vocabulary": vocabulary,
        "names": run.names,
    }

    def compute(draft: Draft) -> None:
        for key, encoder in encoders.items():
            with run.bar(len(words), f"words {key}", "text", delay=1) as bar:
                own = key == "clip" or isinstance(encoder, SentenceEncoder)
                shown = partial(encoder, progress=bar.update) if own else encoder
                draft.write(key, _word_features(key, shown, words))
        known = {key: metrics.known(words, draft.read(key)) for key in encoders}
        try:
            best = metrics.ceilings(vocabulary, run.names, known)
        except ValueError as error:  # features that are no unit vectors
            raise InputError(str(error)) from error
        for name, values in best.values.items():
            draft.write(f"ceiling_{name}", values)
        draft.values |= {"words": words, "encoders": list(encoders), "metrics": list(best.values)}

    return run.stage("words", inputs, compute)


def _word_features(key: str, encoder: metrics.Encoder, words: list[str]) -> np.ndarray:
    features = np.asarray(encoder(words), np.float32)
    if features.ndim != 2 or len(features) != len(words):
        raise InputError(
            f"The {key} encoder returned shape {features.shape} for {len(words)} texts: expected "
            "one row of features for each."
        )
    return features


def evaluate(run: Run, scored: Artifact, words: Artifact) -> Artifact:
    """Compare each class neuron's concepts with its names. Arrays: one [N] a metric."""

    def compute(draft: Draft) -> None:
        (measured,) = _measure(run, [_selection(scored)], words)
        for name, values in measured.values.items():
            draft.write(name, values)

    return run.stage("evaluate", {"score": scored.name, "words": words.name}, compute)


def _sweep(run: Run, settings: Sequence[Setting], seen: _Seen, words: Artifact) -> Artifact:
    """Score and evaluate for every setting of a grid, as `score` and `evaluate` do for one.

    Arrays: those of `scoring.Selection` and one a metric, of one setting after the other; but for
    concepts and scores, [S, N].
    """
    grid = zip(Setting._fields, map(_distinct, zip(*settings, strict=True)), strict=True)
    inputs = {"embed": seen.embedded.name, "encode": seen.encoded.name, "words": words.name}

    def compute(draft: Draft) -> None:
        each = _select_concepts(run, settings, seen.selected, seen.embedded, seen.encoded)
        for name in ("counts", "maximum", "threshold"):
            draft.write(name, np.stack([getattr(own, name) for own in each]))
        for name in ("concepts", "scores"):
            draft.write(name, np.concatenate([getattr(own, name) for own in each]))
        measured = _measure(run, each, words)
        for name in words.values["metrics"]:
            draft.write(name, np.stack([own.values[name] for own in measured]))

    return run.stage("sweep", inputs | dict(grid), compute)


def _measure(run: Run, selections: Sequence[scoring.Selection], words: Artifact) -> list[Metrics]:
    """Metrics of each selection; what the judges have encoded is read once."""
    known = words.values["words"]
    encoders = {key: metrics.known(known, words.read(key)) for key in words.values["encoders"]}
    return [
        metrics.evaluate(
            [[text for text, _ in own] for own in _texts(run, one)], run.names, encoders
        )
        for one in selections
    ]


def _texts(run: Run, selection: scoring.Selection) -> list[list[tuple[str, float]]]:
    """Each neuron's concepts and their scores."""
    vocabulary, neurons = run.inputs.vocabulary.concepts, range(len(selection.counts))
    return [[(vocabulary[j], value) for j, value in selection.of(i)] for i in neurons]


def _selection(scored: Artifact) -> scoring.Selection:
    names = ("counts", "concepts", "scores", "maximum", "threshold")
    return scoring.Selection(**{name: scored.read(name) for name in names})


def _ceilings(words: Artifact) -> Metrics:
    return Metrics({name: words.read(f"ceiling_{name}") for name in words.values["metrics"]})


def _result(run: Run, stages: Mapping[str, Artifact]) -> Result:
    activated, selected, embedded = (stages[name] for name in ("activate", "select", "embed"))
    names = dict(zip(embedded.read("images").tolist(), embedded.values["names"], strict=True))
    selection = _selection(stages["score"])
    boxes = activated.read("boxes").tolist()
    ranked = zip(selected.read("images").tolist(), selected.read("values").tolist(), strict=True)
    measured, best = None, None
    if "evaluate" in stages:
        kinds, best = stages["words"].values["metrics"], _ceilings(stages["words"])
        measured = Metrics({name: stages["evaluate"].read(name) for name in kinds})
    return Result(
        neurons=build_neurons(
            layer=run.config.target.layer,
            concepts=_texts(run, selection),
            maximum=selection.maximum,
            threshold=selection.threshold,
            dead=selected.read("dead"),
            exemplars=[
                [
                    Exemplar(names[i], value, tuple(boxes[i]), i)
                    for i, value in zip(images, values, strict=True)
                ]
                for images, values in ranked
            ],
            names=run.names,
        ),
        metrics=measured,
        ceilings=best,
        fallbacks=activated.values["fallbacks"],
        skipped=tuple(_skipped(run, activated)),
        seconds=dict(run.seconds),
        memory=dict(run.memory),
        fingerprints={name: stage.name for name, stage in stages.items()},
    )
