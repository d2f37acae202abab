"""The stages in order: activate → select → embed → encode → score → certainty → evaluate.

Each stage, a module of `stages`, is a function from artifacts to an artifact, which is named by its
inputs. κ and α enter no stage before `score`, so `sweep`, which scores and evaluates a whole grid,
never runs a network twice.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple, get_type_hints

from jaxdesc.config import AblationConfig, Config, ScoreConfig, converted
from jaxdesc.errors import InputError, shown
from jaxdesc.evaluation import methods
from jaxdesc.evaluation.methods import AGAINST, METHODS, Line
from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.evaluation.probe import Probe
from jaxdesc.images.example import Source
from jaxdesc.images.sources import open_source
from jaxdesc.result import CERTAINTY, Exemplar, Result, build_neurons
from jaxdesc.stages.activate import (
    activate,
    activate_all,
    left_below,
    left_out,
    mislabelled,
    top1,
)
from jaxdesc.stages.certainty import certainty, hubs
from jaxdesc.stages.check import check, check_names, check_single, look_before, near_chance
from jaxdesc.stages.embed import embed, embed_all
from jaxdesc.stages.encode import encode
from jaxdesc.stages.evaluate import ceilings, evaluate, measured, score_words
from jaxdesc.stages.evaluate import sweep as sweep_settings
from jaxdesc.stages.look import Windows, look, rank
from jaxdesc.stages.properties import MEASURED, of_units, properties
from jaxdesc.stages.run import Run
from jaxdesc.stages.score import Setting, score, selection, texts
from jaxdesc.stages.select import chosen, select
from jaxdesc.store import Artifact
from jaxdesc.vocabulary.vocabulary import Vocabulary, load_vocabulary


class Seen(NamedTuple):
    """Artifacts of the networks: all that scoring and evaluation need."""

    activated: Artifact
    selected: Artifact  # the exemplars
    embedded: Artifact
    encoded: Artifact
    words: Artifact | None
    looked: Artifact | None = None  # the windows, if units have their own

    @property
    def windows(self) -> Windows:
        """The views that exemplars are."""
        if self.looked is None:
            return Windows.of_images(self.activated)
        return Windows.of_units(self.looked)


def run_networks(run: Run) -> Seen:
    """Run the stages that need a network, and skip those that are done."""
    encoded, words = _before_images(run)
    activated = activate(run)
    if wrong := mislabelled(run, activated):
        run.note(wrong)
    if cut := left_below(run, activated):
        run.note(cut)
    found, spec = top1(run, activated), run.inputs.source.spec
    if found and spec not in run.top1s:  # once per source
        run.top1s[spec] = found
        run.tell(f"{run.inputs.target.name}: {found}")
        if found.near_chance:
            run.note(near_chance(run.inputs.target, found))
    selected, looked = select(run, activated), None
    windows = Windows.of_images(activated)
    if run.config.crop.units:
        looked = look(run, activated, selected)
        windows, selected = Windows.of_units(looked), rank(run, selected, looked)
    embedded = embed(run, windows, selected)
    return Seen(activated, selected, embedded, encoded, words, looked)


def _before_images(run: Run) -> tuple[Artifact, Artifact | None]:
    """Check a run, try its target, and encode texts.

    A text that can't be encoded is found before hours of images, not after.
    """
    check(run)
    look_before(run)
    return encode(run), score_words(run) if run.names else None


def describe_each(run: Run) -> Iterator[tuple[Run, Result]]:
    """Describe each layer of a run as `describe` does, and yield its own run with its result.

    One pass over the images activates all layers. A layer's artifacts and result are those of a run
    that describes it alone.
    """
    if not run.config.target.layers:
        yield run, describe(run)
        return
    _before_images(run)
    activate_all(run, run.views)
    for part in map(run.alone, run.config.target.layers):
        yield part, describe(part)


def describe(run: Run) -> Result:
    """Run all stages on one layer, skip those that are done, and assemble the result."""
    seen = run_networks(run)
    arrays = seen.selected, seen.embedded, seen.encoded
    scored = score(run, *arrays)
    certain = certainty(run, scored, *arrays)
    measured_of = properties(run, seen.selected, seen.embedded)
    evaluated = evaluate(run, scored, seen.words) if seen.words else None
    found, exemplars, windows = selection(scored), chosen(seen.selected), seen.windows
    rows = seen.embedded.read("rows").tolist()
    names = dict(zip(rows, seen.embedded.values["names"], strict=True))
    images, boxes = windows.images.tolist(), list(map(tuple, windows.boxes.tolist()))
    stages = filter(None, (*seen, scored, certain, measured_of, evaluated))
    return Result(
        neurons=build_neurons(
            layer=run.config.target.layer,
            concepts=texts(run, found),
            maximum=found.maximum,
            threshold=found.threshold,
            exemplars=[
                [Exemplar(names[row], value, boxes[row], images[row]) for row, value in ranked]
                for ranked in exemplars.ranked()
            ],
            flags=exemplars.flags(run.config.score.fewest),
            names=run.names,
            certainty={name: certain.read(name) for name in CERTAINTY},
            properties=of_units(exemplars, {name: measured_of.read(name) for name in MEASURED}),
        ),
        metrics=measured(evaluated, seen.words) if evaluated and seen.words else None,
        ceilings=ceilings(seen.words) if seen.words else None,
        fallbacks=(seen.looked or seen.activated).values["fallbacks"],
        skipped=tuple(left_out(run, seen.activated)),
        top1=top1(run, seen.activated),
        notes=tuple(run.notes),
        seconds=dict(run.seconds),
        memory=dict(run.memory),
        fingerprints={stage.stage: stage.name for stage in stages},
        hubs=hubs(run, certain),
    )


# Grids.


@dataclass(frozen=True)
class Grid:
    """Choices to measure, in every combination; a repeated value counts once.

    Each may be any iterable of numbers or texts, such as an array of NumPy. Exemplars are per
    neuron, and fewer are the best of more. `views` are values of `config.crop.view`, and `probes`
    and `vocabularies` of `config.images.source` and `config.vocabulary.source`: the run's if empty.
    """

    kappas: tuple[float, ...]
    alphas: tuple[float, ...]
    exemplars: tuple[int, ...]
    views: tuple[str, ...]
    probes: tuple[str, ...] = ()
    vocabularies: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(Grid).items():
            values = converted(kind, getattr(self, name), f"The sweep's {name}")
            object.__setattr__(self, name, tuple(dict.fromkeys(values)))
            if not values and name not in ("probes", "vocabularies"):
                raise InputError(f"The sweep's {name} is an empty list: give at least one value.")
        check_names(Config(ablation=AblationConfig(views=self.views)))
        for setting in product(self.kappas, self.alphas, self.exemplars):
            ScoreConfig(**Setting(*setting)._asdict())

    @classmethod
    def of_ablation(cls, config: Config) -> "Grid":
        """The grid that `config.ablation` lists, with the config's α and number of exemplars."""
        asked, options = config.ablation, config.score
        score = asked.kappas, (options.alpha,), (options.exemplars,)
        return cls(*score, asked.views, asked.probes, asked.vocabularies)


@dataclass(frozen=True)
class Cell:
    """Metrics of one combination of a grid, and their ceilings."""

    vocabulary: str
    probe: str
    view: str
    kappa: float
    alpha: float
    exemplars: int
    metrics: Metrics
    ceilings: Metrics


def sweep(
    run: Run,
    grid: Grid,
    open_probe: Callable[[str], Source] = open_source,
    open_vocabulary: Callable[[str], Vocabulary] = load_vocabulary,
) -> Iterator[Cell]:
    """Describe the same neurons for a whole grid; each network runs once per image and text.

    The run's config, inputs and store are used, but for the grid's choices: `open_probe` and
    `open_vocabulary` open image sources and vocabularies other than the run's. All are checked
    before the first network runs. Times are added up in `run.seconds`, and images that can't be
    used are added to `run.skipped`.

    Yields a cell for each probe set, vocabulary, view, κ, α and number of exemplars, in this order.
    """
    config = run.config
    check_single(config, "A sweep compares")
    if not run.names:
        raise InputError(
            f"A sweep compares metrics, but the neurons of layer {config.target.layer!r} have no "
            "known names: use layer 'fc' of a target with label_names."
        )
    main, words = config.images.source, config.vocabulary.source
    probes, vocabularies = grid.probes or (main,), grid.vocabularies or (words,)
    sources = {name: open_probe(name) for name in probes if name != main}
    known = {name: open_vocabulary(name) for name in vocabularies if name != words}
    score = replace(config.score, exemplars=max(grid.exemplars))
    # One pass over the images cuts the grid's views, and no others.
    views = AblationConfig(views=grid.views, kappas=grid.kappas)
    config = replace(config, score=score, ablation=views)
    runs = []
    for probe, vocabulary, view in product(probes, vocabularies, grid.views):
        changed = replace(
            config,
            images=replace(config.images, source=probe),
            vocabulary=replace(config.vocabulary, source=vocabulary),
            crop=replace(config.crop, view=view),
        )
        source = sources.get(probe, run.inputs.source)
        concepts = known.get(vocabulary, run.inputs.vocabulary)
        inputs = replace(run.inputs, source=source, vocabulary=concepts)
        runs.append(replace(run, config=changed, inputs=inputs))
        check(runs[-1])
    scores = grid.kappas, grid.alphas, grid.exemplars
    ordered = sorted(grid.kappas), sorted(grid.alphas), sorted(grid.exemplars)
    settings = [Setting(*setting) for setting in product(*ordered)]
    for part in runs:
        _, selected, embedded, encoded, judged, _ = run_networks(part)
        assert judged is not None
        swept = sweep_settings(part, settings, selected, embedded, encoded, judged)
        best = ceilings(judged)
        values = {kind: swept.read(kind) for kind in judged.values["metrics"]}
        where = part.config.vocabulary.source, part.config.images.source, part.config.crop.view
        for setting in product(*scores):
            row = settings.index(Setting(*setting))
            metrics = Metrics({kind: rows[row] for kind, rows in values.items()})
            yield Cell(*where, *setting, metrics=metrics, ceilings=best)


# Methods.


class Comparison(NamedTuple):
    """Every method, by its name, on one run's probe pass; the run's κ, similarity and result."""

    kappa: float
    similarity: str
    lines: Mapping[str, Line]
    result: Result


def compare(run: Run, names: Collection[str] = tuple(METHODS)) -> Comparison:
    """Compare methods by the classes' names, on the images and views of a run.

    WWW and t-vMF use the run's α, and t-vMF its κ, or the default if that is 0. Artifacts that the
    run has computed are read. t-vMF, which the others are compared with, is always among them.
    """
    check_single(run.config, "Methods are compared by")
    if not run.names:
        raise InputError(
            "Methods are compared by Hit Rate and F1, but the neurons of layer "
            f"{run.config.target.layer!r} have no known names: use layer 'fc' of a target with "
            "label_names."
        )
    for name in names:
        if name not in METHODS:
            raise InputError(
                f"Unknown method {shown(name)}: expected one of {', '.join(METHODS)} (--methods)."
            )
    images = run.inputs.source
    _check_images(names, len(images), f"{images.spec} holds")
    result, probe = describe(run), probe_pass(run)
    _check_images(names, len(probe.images), f"{images.spec} holds, without those left out,")
    asked = {name: method for name, method in METHODS.items() if name in {AGAINST, *names}}
    concepts = run.inputs.vocabulary.concepts
    lines = methods.compare(probe, concepts, run.names, asked, run.config.score)
    return Comparison(run.config.score.kappa, run.config.score.similarity, lines, result)


def probe_pass(run: Run) -> Probe:
    """The input of every method of naming neurons, from all images that can be used."""
    seen = run_networks(run)
    everything = embed_all(run, seen.activated)
    images, own = everything.read("rows"), seen.looked is not None
    return Probe(
        activations=seen.activated.read("activations")[images],
        images=everything.read("features"),
        concepts=seen.encoded.read("features"),
        base=seen.encoded.read("base"),
        exemplars=chosen(seen.selected).among(seen.embedded.read("rows") if own else images),
        windows=seen.embedded.read("features") if own else None,
    )


def _check_images(names: Collection[str], count: int, holder: str) -> None:
    missing = {name: METHODS[name].fewest for name in names if METHODS[name].fewest > count}
    if missing:
        wanted = " and ".join(f"{name} needs {fewest}" for name, fewest in missing.items())
        able = [name for name, method in METHODS.items() if method.fewest <= count]
        raise InputError(
            f"{holder} {count} images, but {wanted}: give more images, or ask for other methods, "
            f"--methods={','.join(able)}."
        )
