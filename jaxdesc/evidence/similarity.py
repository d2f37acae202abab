"""The effect of t-vMF, κ and the number of exemplars; the worth of certainty; rival methods.

The embedded world answers for class neurons, whose names are known, planted features for neurons
whose every concept is known. Neurons and concepts of one layer are not independent, nor are probe
sets of the same neurons, so intervals of shares of concepts are too narrow rather than too wide.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from jaxdesc import scoring
from jaxdesc.config import AblationConfig, Config, ScoreConfig
from jaxdesc.evaluation import metrics
from jaxdesc.evaluation.faithfulness import by_similarity, by_truth
from jaxdesc.evaluation.methods import AGAINST, METHODS, Selected, discovered
from jaxdesc.evaluation.planted import Accuracy, Planted, Recipe, accuracy, plant
from jaxdesc.evaluation.probe import Probe
from jaxdesc.evaluation.statistics import bootstrap, mcnemar, paired, proportion
from jaxdesc.evidence.table import NAMES, Cell, Table, differences, grouped, means
from jaxdesc.evidence.world import PROBES, SCENES, SETTING, on_probe, open_run, scenes_of, shown
from jaxdesc.exemplars import Slots, exemplars
from jaxdesc.models.architectures import load_target
from jaxdesc.models.encoder import Namer
from jaxdesc.models.namers import load_namer
from jaxdesc.models.target import Target
from jaxdesc.pipeline import Grid, probe_pass, sweep
from jaxdesc.scenes import captions
from jaxdesc.scenes.world import CLASSES
from jaxdesc.scoring.null import LEVEL, null, random_sets, significance
from jaxdesc.scoring.stability import stability
from jaxdesc.stages.run import Run


@dataclass(frozen=True)
class Study:
    """Sizes of the study; the defaults are those of the page.

    Attributes:
        probes: sets of scenes, over which each neuron's metrics are averaged.
        window: side of the windows, a share of the images' shorter side.
        kappas: concentrations κ; 0 is the cosine.
        exemplars: numbers of exemplars per neuron.
        kappa: κ for certainty, and for the paper's method among the rivals.
        recipe: planted features, with the largest of `planted` as number of exemplars.
        planted: numbers of exemplars per planted neuron.
        seeds: planted layers of each impurity.
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

    @property
    def score(self) -> ScoreConfig:
        """Options of the scores on scenes."""
        sizes = replace(SETTING.score, exemplars=max(self.exemplars))
        return replace(sizes, kappa=self.kappa, alpha=self.alpha)


def tables(
    workdir: str | Path,
    study: Study | None = None,
    target: Target | None = None,
    clip: Namer | None = None,
) -> tuple[Table, ...]:
    """Measure everything that `workdir` does not hold yet, by default on the embedded world.

    Returns "kappa", "planted", "planted rivals", "certainty", "false discoveries", "rivals" and
    "faithfulness".

    Raises:
        InputError: as `pipeline.run_networks`.
    """
    study = study or Study()
    networks = target or load_target(SCENES), clip or load_namer(SCENES)
    run = open_run(workdir, setting(study), *networks)
    planted = _plant(study)
    with run.store.held():
        passes = {view: list(_passes(run, study, view)) for view in study.views}
        probes = passes[study.views[-1]]
        selected = {
            name: [method.select(probe, study.score) for probe in probes]
            for name, method in METHODS.items()
        }
        known = [*_planted_layers(planted), *_class_layers(run, passes)]
        return (
            kappa_table(run, study),
            *planted_tables(study, planted),
            *certainty_tables(study, known),
            rivals_table(run, selected),
            faithfulness_table(run, study, probes, selected),
        )


def setting(study: Study) -> Config:
    """Config of the study's run."""
    return replace(
        SETTING,
        images=replace(SETTING.images, source=study.probes[0]),
        crop=replace(SETTING.crop, field=study.window, view=study.views[0]),
        score=study.score,
        ablation=AblationConfig(study.views, study.kappas, study.probes),
    )


def kappa_table(run: Run, study: Study) -> Table:
    """Hit Rate and F1 of each view, number of exemplars and κ, and the effect of both."""
    grid = Grid(study.kappas, (study.alpha,), study.exemplars, study.views, study.probes)
    found = grouped(sweep(run, grid), "view", "exemplars", "kappa")
    rows = []
    for (view, count, kappa), measured in found.items():
        cosine, most = found[view, count, 0.0], found[view, max(study.exemplars), kappa]
        compared = *differences(measured, cosine), *differences(measured, most)
        rows.append((view, count, kappa, *means(measured), *compared))
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
    """Accuracy of the first concept, and F1 of all: by κ and number, and by method."""
    rows, rivals = [], []
    for impurity, layers in planted.items():
        for count in study.planted:
            found = {}
            for kappa in study.kappas:
                options = ScoreConfig(exemplars=count, kappa=kappa, alpha=study.alpha)
                found[kappa] = _accuracy(layers, discovered, options)
            for kappa, each in found.items():
                other = None if kappa == 0 else found[0.0]
                rows.append((impurity, count, kappa, *_judged(each, other)))
        options = ScoreConfig(exemplars=max(study.planted), kappa=study.kappa, alpha=study.alpha)
        by_method = {name: _accuracy(layers, m.select, options) for name, m in METHODS.items()}
        for name, each in by_method.items():
            paper = None if name == AGAINST else by_method[AGAINST]
            rivals.append((impurity, name, *_judged(each, paper)))
    measures = ("top-1", "F1")
    cosine = tuple(f"{name} − cosine" for name in measures)
    ours = tuple(f"{name} − {AGAINST}" for name in measures)
    head = ("impurity", "exemplars", "kappa", *measures, *cosine, "p")
    return (
        Table("planted", head, tuple(rows)),
        Table("planted rivals", ("impurity", "method", *measures, *ours, "p"), tuple(rivals)),
    )


def _accuracy(
    layers: Sequence[Planted],
    select: Callable[[Probe, ScoreConfig], Selected],
    options: ScoreConfig,
) -> Accuracy:
    """Accuracy on the neurons of all layers."""
    parts = []
    for layer in layers:
        slots = exemplars(layer.probe.activations, options.exemplars).slots
        parts.append(accuracy(select(layer.probe._replace(exemplars=slots), options), layer.truth))
    return Accuracy(*map(np.concatenate, zip(*parts, strict=True)))


def _judged(found: Accuracy, other: Accuracy | None) -> list[Cell]:
    means: list[Cell] = [proportion(int(found.top.sum()), len(found.top)), bootstrap(found.f1)]
    if other is None:
        return [*means, None, None, None]
    gaps = paired(found.top, other.top), paired(found.f1, other.f1)
    return [*means, *gaps, mcnemar(found.top, other.top).p]


# The worth of certainty.


class Layer(NamedTuple):
    """Neurons whose right concepts are known; layers of a kind are counted together.

    `arrays` are those that `scoring.discover` takes, `right` says which concepts are right for each
    neuron, and `named` which are right, or nearly right, for any.
    """

    kind: str
    arrays: tuple[np.ndarray, Slots, np.ndarray, np.ndarray]
    right: Bool[np.ndarray, "neuron concept"]
    named: Bool[np.ndarray, "concept"]


def _planted_layers(planted: Mapping[float, Sequence[Planted]]) -> Iterator[Layer]:
    for layer in chain(*planted.values()):
        right = layer.lenient
        yield Layer("planted", _arrays(layer.probe), right, np.asarray(right.any(axis=0)))


def _class_layers(run: Run, passes: Mapping[str, Sequence[Probe]]) -> Iterator[Layer]:
    concepts = run.inputs.vocabulary.concepts
    names = [[name.lower() for name in of_class] for of_class in run.names]
    right = np.array([[text.lower() in of_class for text in concepts] for of_class in names])
    # Not names alone: "animal" is right for a cat, and "red cat" nearly.
    about = {phrase.text for phrase in captions.phrases() if 0 < len(phrase.kinds) < len(CLASSES)}
    named = np.array([text in about for text in concepts])
    for view, probes in passes.items():
        for probe in probes:
            yield Layer(f"classes, {view}", _arrays(probe), right, named)


def _arrays(probe: Probe) -> tuple[np.ndarray, Slots, np.ndarray, np.ndarray]:
    views, slots = probe.exemplars.distinct()
    return probe.views[views], slots, probe.concepts, probe.base


def certainty_tables(study: Study, layers: Sequence[Layer]) -> tuple[Table, Table]:
    """Share of right concepts by certainty, and of neurons named from nothing.

    False discoveries are looked for twice: with random sets of the pool as exemplars, which is the
    null itself, and with all right concepts taken out of the vocabulary.
    """
    rows: list[tuple[Cell, ...]] = []
    nothing: list[tuple[Cell, ...]] = []
    for kind in dict.fromkeys(layer.kind for layer in layers):
        here = [layer for layer in layers if layer.kind == kind]
        certain = [_certain(layer, study)[:3] for layer in here]
        kept, q, right = map(np.concatenate, zip(*certain, strict=True))
        groups = {
            "stability ≥ 0.9": kept >= 0.9,
            "stability 0.5 to 0.9": (kept >= 0.5) & (kept < 0.9),
            "stability < 0.5": kept < 0.5,
            "q ≤ 0.05": q <= LEVEL,
            "q > 0.05": q > LEVEL,
        }
        for name, group in groups.items():
            hits, count = int(right[group].sum()), int(group.sum())
            rows.append((kind, name, count, proportion(hits, count, "exact") if count else None))
        controls = {
            "shuffled": [_shuffled(layer, seed) for seed, layer in enumerate(here)],
            "taken out": [_without(layer) for layer in here],
        }
        for what, changed in controls.items():
            found = [_certain(layer, study)[3] for layer in changed]
            neurons, hits = sum(map(len, found)), sum(int(named.sum()) for named in found)
            any_ = proportion(sum(bool(named.any()) for named in found), len(found), "exact")
            nothing.append((kind, what, neurons, proportion(hits, neurons), len(found), any_))
    head = ("kind", "exemplars or concepts", "neurons", "named", "layers", "layers with any")
    return (
        Table("certainty", ("kind", "concepts", "pairs", "right"), tuple(rows)),
        Table("false discoveries", head, tuple(nothing)),
    )


def _certain(layer: Layer, study: Study) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Stability, q and truth of each selected concept, and if each neuron is named."""
    (views, slots, concepts, base), asked = layer.arrays, (study.kappa, study.alpha)
    found = scoring.discover(*layer.arrays, *asked)
    sizes = sorted(set(slots.counts.tolist()) - {0})
    chance = null(views, concepts, base, *asked, sizes, sets=study.sets, seed=1)
    judged = significance(chance, found, slots.counts)
    kept = stability(*layer.arrays, *asked, found).selected
    owners = np.repeat(np.arange(len(found.counts)), found.counts)
    return kept, judged.q, layer.right[owners, found.concepts], judged.named


def _shuffled(layer: Layer, seed: int) -> Layer:
    """Neurons that respond to nothing: their exemplars are random sets of the pool."""
    views, slots, concepts, base = layer.arrays
    neurons, count = slots.rows.shape
    rows = random_sets(len(views), count, neurons, 1000 + seed)
    return layer._replace(arrays=(views, Slots(rows, slots.counts), concepts, base))


def _without(layer: Layer) -> Layer:
    """Remove every concept that is right for any neuron from the vocabulary."""
    (views, slots, concepts, base), kept = layer.arrays, ~layer.named
    arrays = views, slots, concepts[kept], base
    return Layer(layer.kind, arrays, layer.right[:, kept], layer.named[kept])


# Every method on scenes.


def _passes(run: Run, study: Study, view: str) -> Iterator[Probe]:
    crop = replace(run.config.crop, view=view)
    for images in study.probes:
        on_images = on_probe(replace(run, config=replace(run.config, crop=crop)), images)
        yield probe_pass(on_images, METHODS)


def rivals_table(run: Run, selected: Mapping[str, Sequence[Selected]]) -> Table:
    """Hit Rate and F1 of every method, and their differences to the paper's."""
    concepts = run.inputs.vocabulary.concepts

    def values(probe: Selected) -> Mapping[str, np.ndarray]:
        texts = [[concepts[i] for i in indices] for indices in probe]
        return metrics.evaluate(texts, run.names, {}).values

    found = {name: [*map(values, on_probes)] for name, on_probes in selected.items()}
    rows = [
        (name, *means(measured), *differences(measured, found[AGAINST]))
        for name, measured in found.items()
    ]
    gaps = (f"{name} − {AGAINST}" for name in NAMES.values())
    return Table("rivals", ("method", *NAMES.values(), *gaps, "p"), tuple(rows))


def faithfulness_table(
    run: Run, study: Study, probes: Sequence[Probe], selected: Mapping[str, Sequence[Selected]]
) -> Table:
    """Faithfulness of each method's best concept over all images of a probe set.

    By truth, the phrases that hold for a whole scene; and by CLIP, as if no truth were known. A
    neuron without a concept is not explained: 0.
    """
    index = {text: column for column, text in enumerate(captions.vocabulary())}
    columns = [index[text] for text in run.inputs.vocabulary.concepts]
    present = [shown(scenes_of(images))[:, columns] for images in study.probes]
    found: dict[str, list[np.ndarray]] = {}
    for name, on_probes in selected.items():
        each = [
            (*by_truth(probe, concepts, true), *by_similarity(probe, concepts))
            for probe, true, concepts in zip(probes, present, on_probes, strict=True)
        ]
        found[name] = list(np.nan_to_num(np.array(each)).mean(axis=0))
    rows: list[tuple[Cell, ...]] = []
    for name, values in found.items():
        pairs = zip(values[:2], found[AGAINST], strict=False)
        gaps = [None if name == AGAINST else paired(*pair) for pair in pairs]
        rows.append((name, *map(bootstrap, values), *gaps))
    measures = [f"{what}, {by}" for by in ("truth", "CLIP") for what in ("AUPRC", "correlation")]
    compared_by = [f"{measure} − {AGAINST}" for measure in measures[:2]]
    return Table("faithfulness", ("method", *measures, *compared_by), tuple(rows))
