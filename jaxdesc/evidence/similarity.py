"""Does t-vMF help, which κ and how many exemplars; what is certainty worth; what do others find?

The embedded world asks it of class neurons, whose names are known, planted features of neurons
whose every concept is. Neurons and concepts of one layer are not independent, nor are probe sets of
the same neurons, so intervals of shares of concepts are rather too narrow than too wide.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxdesc import scoring
from jaxdesc.config import AblationConfig, Config
from jaxdesc.evaluation import metrics
from jaxdesc.evaluation.accuracy import Accuracy, accuracy
from jaxdesc.evaluation.comparison import AGAINST, methods_of
from jaxdesc.evaluation.faithfulness import by_similarity, by_truth
from jaxdesc.evaluation.methods import METHODS, discovered
from jaxdesc.evaluation.planted import Planted, Recipe, plant
from jaxdesc.evaluation.probe import Probe
from jaxdesc.evaluation.statistics import bootstrap, clopper_pearson, mcnemar, paired, wilson
from jaxdesc.evidence.measured import NAMES, differences, means
from jaxdesc.evidence.table import Cell, Table
from jaxdesc.evidence.world import PROBES, SCENES, SETTING, open_run, scenes_of, shown
from jaxdesc.exemplars import Slots, exemplars
from jaxdesc.images.sources import open_source
from jaxdesc.models.encoder import ClipEncoder, load_clip
from jaxdesc.models.target import Target, load_target
from jaxdesc.pipeline import probe_pass
from jaxdesc.scenes import captions
from jaxdesc.scenes.world import CLASSES
from jaxdesc.scoring import Selection
from jaxdesc.scoring.null import LEVEL, Significance, null, random_sets, significance
from jaxdesc.scoring.stability import stability
from jaxdesc.stages.run import Run
from jaxdesc.sweep import Grid, sweep_probes


@dataclass(frozen=True)
class Study:
    """What is measured; the defaults are those of the page.

    Attributes:
        probes: sets of scenes, over which each neuron's metrics are averaged.
        views: of the scenes.
        window: the windows' side, a share of the images' shorter side.
        kappas: concentrations κ; 0 is the cosine.
        exemplars: numbers of them a neuron.
        kappa: of certainty and of the paper's method among the rivals.
        alpha: of everything.
        recipe: of planted features; its number of exemplars is the largest of `planted`.
        planted: numbers of exemplars a planted neuron.
        impurities: of planted neurons.
        seeds: how many planted layers of each impurity, and shuffled ones.
        sets: random sets of a null.
    """

    probes: tuple[str, ...] = PROBES
    views: tuple[str, ...] = ("centre", "attention")
    window: float = 0.65
    kappas: tuple[float, ...] = (0.0, 1.0, 4.0, 16.0, 64.0)
    exemplars: tuple[int, ...] = (4, 8, 16)
    kappa: float = 16.0
    alpha: float = 0.95
    recipe: Recipe = field(default_factory=Recipe)
    planted: tuple[int, ...] = (5, 10, 20)
    impurities: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6)
    seeds: int = 3
    sets: int = 1000


def tables(
    workdir: str | Path,
    study: Study | None = None,
    target: Target | None = None,
    clip: ClipEncoder | None = None,
) -> tuple[Table, ...]:
    """Measure it all, and read what a working directory holds of it.

    Args:
        workdir: of the artifacts.
        study: what is measured.
        target: the network; the embedded world's where None.
        clip: compares views with concepts, and judges them; the embedded world's where None.

    Returns:
        "kappa", "planted", "planted rivals", "certainty", "false discoveries", "rivals" and
        "faithfulness".

    Raises:
        InputError: as `pipeline.describe`.
    """
    study = study or Study()
    networks = target or load_target(SCENES), clip or load_clip(SCENES)
    run = open_run(workdir, setting(study), *networks)
    planted = _plant(study)
    with run.store.held():
        passes = {view: list(_passes(run, study, view)) for view in study.views}
        probes = passes[study.views[-1]]
        known = [*_planted_layers(study, planted), *_class_layers(run, passes)]
        return (
            kappa_table(run, study),
            *planted_tables(study, planted),
            *certainty_tables(study, known),
            rivals_table(run, probes),
            faithfulness_table(run, study, probes),
        )


def setting(study: Study) -> Config:
    """The choices of the run that a study is made of."""
    score = replace(
        SETTING.score, kappa=study.kappa, alpha=study.alpha, exemplars=max(study.exemplars)
    )
    return replace(
        SETTING,
        images=replace(SETTING.images, source=study.probes[0]),
        crop=replace(SETTING.crop, field=study.window, view=study.views[0]),
        score=score,
        ablation=AblationConfig(study.views, study.kappas, study.probes),
    )


# κ and the number of exemplars on scenes.


def kappa_table(run: Run, study: Study) -> Table:
    """Hit Rate and F1 of each view, number of exemplars and κ, and what both change."""
    grid = Grid(study.kappas, (study.alpha,), study.exemplars, study.views)
    found: dict[tuple[str, int, float], list[Mapping[str, np.ndarray]]] = {}
    for cell in sweep_probes(run, grid, open_source):
        key = cell.view, cell.exemplars, cell.kappa
        found.setdefault(key, []).append(cell.metrics.values)
    rows = []
    for (view, count, kappa), own in found.items():
        cosine, most = found[view, count, 0.0], found[view, max(study.exemplars), kappa]
        compared = *differences(own, cosine), *differences(own, most)
        rows.append((view, count, kappa, *means(own), *compared))
    gaps = [
        text
        for other in ("cosine", "most exemplars")
        for text in (*(f"{name} − {other}" for name in NAMES.values()), f"p, {other}")
    ]
    return Table("kappa", ("view", "exemplars", "kappa", *NAMES.values(), *gaps), tuple(rows))


# Planted features.


def _plant(study: Study) -> dict[float, list[Planted]]:
    recipe = replace(study.recipe, exemplars=max(study.planted))
    return {
        impurity: [plant(replace(recipe, impurity=impurity), seed) for seed in range(study.seeds)]
        for impurity in study.impurities
    }


def planted_tables(study: Study, planted: Mapping[float, Sequence[Planted]]) -> tuple[Table, Table]:
    """How often the first concept is right, and F1 of all: by κ and number, and by method."""
    own, rivals = [], []
    for impurity, layers in planted.items():
        for count in study.planted:
            found = {kappa: _accuracy(layers, kappa, count, study) for kappa in study.kappas}
            for kappa, each in found.items():
                other = None if kappa == 0 else found[0.0]
                own.append((impurity, count, kappa, *_judged(each, other)))
        paper = _accuracy(layers, study.kappa, max(study.planted), study)
        for name, method in METHODS.items():
            probes = [(method(layer.probe).selected, layer.truth) for layer in layers]
            each = paper if name == AGAINST else _joined(accuracy(*one) for one in probes)
            rivals.append((impurity, name, *_judged(each, None if name == AGAINST else paper)))
    measures = ("top-1", "F1")
    cosine = tuple(f"{name} − cosine" for name in measures)
    ours = tuple(f"{name} − {AGAINST}" for name in measures)
    head = ("impurity", "exemplars", "kappa", *measures, *cosine, "p")
    return (
        Table("planted", head, tuple(own)),
        Table("planted rivals", ("impurity", "method", *measures, *ours, "p"), tuple(rivals)),
    )


def _accuracy(layers: Sequence[Planted], kappa: float, count: int, study: Study) -> Accuracy:
    probes = [
        own.probe._replace(exemplars=exemplars(own.probe.activations, count).slots)
        for own in layers
    ]
    return _joined(
        accuracy(discovered(probe, kappa, study.alpha).selected, own.truth)
        for probe, own in zip(probes, layers, strict=True)
    )


def _joined(parts: Iterator[Accuracy]) -> Accuracy:
    """The neurons of all layers."""
    return Accuracy(*map(np.concatenate, zip(*parts, strict=True)))


def _judged(own: Accuracy, other: Accuracy | None) -> list[Cell]:
    means: list[Cell] = [wilson(int(own.top.sum()), len(own.top)), bootstrap(own.f1)]
    if other is None:
        return [*means, None, None, None]
    gaps = paired(own.top, other.top), paired(own.f1, other.f1)
    return [*means, *gaps, mcnemar(own.top, other.top).p]


# What certainty is worth.


class Layer(NamedTuple):
    """Neurons whose right concepts are known.

    Attributes:
        kind: of layer; layers of a kind are counted together.
        images: features of the distinct exemplar views.
        exemplars: as rows of `images`.
        concepts: features of the concepts.
        base: feature of the base template.
        right: whether a concept is right for a neuron.
        named: whether a concept is right for any neuron, or nearly.
    """

    kind: str
    images: Float[np.ndarray, "image feature"]
    exemplars: Slots
    concepts: Float[np.ndarray, "concept feature"]
    base: Float[np.ndarray, "feature"]
    right: Bool[np.ndarray, "neuron concept"]
    named: Bool[np.ndarray, "concept"]


class _Judged(NamedTuple):
    """What was found of each selected concept of a layer."""

    stability: np.ndarray
    q: np.ndarray
    right: np.ndarray


def _planted_layers(study: Study, planted: Mapping[float, Sequence[Planted]]) -> Iterator[Layer]:
    for impurity, own in product(study.impurities, range(study.seeds)):
        layer = planted[impurity][own]
        arrays = _pool(layer.probe)
        texts = layer.probe.concepts, layer.probe.base
        named = np.asarray(layer.lenient.any(axis=0))
        yield Layer("planted", *arrays, *texts, layer.lenient, named)


def _class_layers(run: Run, passes: Mapping[str, Sequence[Probe]]) -> Iterator[Layer]:
    texts = [text.lower() for text in run.inputs.vocabulary.concepts]
    names = [[name.lower() for name in own] for own in run.names]
    right = np.array([[text in own for text in texts] for own in names])
    # Not names alone: "animal" is right for a cat, and "red cat" nearly.
    about = {phrase.text for phrase in captions.phrases() if 0 < len(phrase.kinds) < len(CLASSES)}
    named = np.array([text in about for text in run.inputs.vocabulary.concepts])
    for view, each in passes.items():
        for probe in each:
            arrays = _pool(probe)
            yield Layer(f"classes, {view}", *arrays, probe.concepts, probe.base, right, named)


def _pool(probe: Probe) -> tuple[np.ndarray, Slots]:
    """The distinct exemplar views, and the exemplars as rows of them."""
    views, slots = probe.exemplars.distinct()
    return probe.images[views], slots


def certainty_tables(study: Study, layers: Sequence[Layer]) -> tuple[Table, Table]:
    """Whether surer concepts are right more often; how often nothing is taken for something.

    False discoveries are looked for twice: where the exemplars are random sets of the pool, which
    is what the null says, and where the concepts that are right are taken out of the vocabulary.
    """
    kinds = list(dict.fromkeys(layer.kind for layer in layers))
    rows, nothing = [], []
    for kind in kinds:
        own = [layer for layer in layers if layer.kind == kind]
        rows += _certain_rows(kind, [_judge(layer, study) for layer in own])
        shuffled = [_shuffled(layer, seed) for seed, layer in enumerate(own)]
        without = [_without(layer) for layer in own]
        for what, layers_of in (("shuffled", shuffled), ("taken out", without)):
            found = [_significant(layer, study)[1].named for layer in layers_of]
            named = np.concatenate(found)
            layers_named = sum(bool(one.any()) for one in found)
            nothing.append(
                (
                    *(kind, what, len(named), wilson(int(named.sum()), len(named))),
                    *(len(found), clopper_pearson(layers_named, len(found))),
                )
            )
    head = ("kind", "exemplars or concepts", "neurons", "named", "layers", "layers with any")
    return (
        Table("certainty", ("kind", "concepts", "pairs", "right"), tuple(rows)),
        Table("false discoveries", head, tuple(nothing)),
    )


def _certain_rows(kind: str, found: Sequence[_Judged]) -> list[tuple[Cell, ...]]:
    kept, q, right = (
        np.concatenate([getattr(one, name) for one in found])
        for name in ("stability", "q", "right")
    )
    groups = {
        "stability ≥ 0.9": kept >= 0.9,
        "stability 0.5 to 0.9": (kept >= 0.5) & (kept < 0.9),
        "stability < 0.5": kept < 0.5,
        "q ≤ 0.05": q <= LEVEL,
        "q > 0.05": q > LEVEL,
    }
    return [
        (
            *(kind, name, int(own.sum())),
            clopper_pearson(int(right[own].sum()), int(own.sum())) if own.any() else None,
        )
        for name, own in groups.items()
    ]


def _significant(layer: Layer, study: Study) -> tuple[Selection, Significance]:
    arrays = layer.images, layer.exemplars, layer.concepts, layer.base
    asked, counts = (study.kappa, study.alpha), layer.exemplars.counts
    found = scoring.discover(*arrays, *asked)
    texts, sizes = (layer.concepts, layer.base), sorted(set(counts.tolist()) - {0})
    chance = null(layer.images, *texts, *asked, sizes, sets=study.sets, seed=1)
    return found, significance(chance, found, counts)


def _judge(layer: Layer, study: Study) -> _Judged:
    found, judged = _significant(layer, study)
    arrays = layer.images, layer.exemplars, layer.concepts, layer.base
    owners = np.repeat(np.arange(len(found.counts)), found.counts)
    kept = stability(*arrays, study.kappa, study.alpha, found).selected
    return _Judged(kept, judged.q, layer.right[owners, found.concepts])


def _shuffled(layer: Layer, seed: int) -> Layer:
    """Neurons that respond to nothing: their exemplars are random sets of the pool."""
    neurons, count = layer.exemplars.rows.shape
    rows = random_sets(len(layer.images), count, neurons, 1000 + seed)
    return layer._replace(exemplars=Slots(rows, layer.exemplars.counts))


def _without(layer: Layer) -> Layer:
    """The same neurons where the vocabulary has no concept that is right for any of them."""
    kept = ~layer.named
    return layer._replace(
        concepts=layer.concepts[kept], right=layer.right[:, kept], named=layer.named[kept]
    )


# Every method on scenes.


def _passes(run: Run, study: Study, view: str) -> Iterator[Probe]:
    for images in study.probes:
        config = replace(
            run.config,
            images=replace(run.config.images, source=images),
            crop=replace(run.config.crop, view=view),
        )
        inputs = replace(run.inputs, source=open_source(images))
        yield probe_pass(replace(run, config=config, inputs=inputs))


def rivals_table(run: Run, probes: Sequence[Probe]) -> Table:
    """Hit Rate and F1 of every method, and their differences to the paper's."""
    concepts = run.inputs.vocabulary.concepts
    found = {
        name: [
            metrics.evaluate(
                [[concepts[i] for i in own] for own in method(probe).selected], run.names, {}
            ).values
            for probe in probes
        ]
        for name, method in methods_of(run.config.score).items()
    }
    rows = [(name, *means(own), *differences(own, found[AGAINST])) for name, own in found.items()]
    gaps = (f"{name} − {AGAINST}" for name in NAMES.values())
    return Table("rivals", ("method", *NAMES.values(), *gaps, "p"), tuple(rows))


def faithfulness_table(run: Run, study: Study, probes: Sequence[Probe]) -> Table:
    """How well each method's best concept explains the activation over all images of a probe set.

    By truth, what is true of a whole scene; and by CLIP, as where no truth is known. A neuron
    without a concept is not explained: 0.
    """
    places = {text: place for place, text in enumerate(captions.vocabulary())}
    columns = [places[text] for text in run.inputs.vocabulary.concepts]
    present = [shown(scenes_of(images))[:, columns] for images in study.probes]
    found: dict[str, list[np.ndarray]] = {}
    for name, method in methods_of(run.config.score).items():
        each = []
        for probe, true in zip(probes, present, strict=True):
            concepts = method(probe).concepts
            by = by_truth(probe, concepts, true), by_similarity(probe, concepts)
            each.append([values for one in by for values in (one.auprc, one.pearson)])
        found[name] = list(np.nan_to_num(np.array(each)).mean(axis=0))
    rows: list[tuple[Cell, ...]] = []
    for name, own in found.items():
        against = zip(own[:2], found[AGAINST], strict=False)
        gaps = [None if name == AGAINST else paired(*pair) for pair in against]
        rows.append((name, *map(bootstrap, own), *gaps))
    measures = [f"{what}, {by}" for by in ("truth", "CLIP") for what in ("AUPRC", "correlation")]
    compared_by = [f"{measure} − {AGAINST}" for measure in measures[:2]]
    return Table("faithfulness", ("method", *measures, *compared_by), tuple(rows))
