"""Share of wrong labels, on neurons whose truth the embedded world knows.

There are two kinds of them. The attribute network has a logit for each class, colour, pattern,
background and context thing, whose name is right or wrong. The meaning of the target's hidden
neurons is unknown; their labels are tried on images that had no part in choosing them, as CoSy does
(Kopf et al., NeurIPS 2024): on freshly rendered pairs with and without the concept, and on the
probe images that are not the neuron's exemplars.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from jaxdesc.config import Config
from jaxdesc.evaluation.contrast import contrast
from jaxdesc.evaluation.faithfulness import auc
from jaxdesc.evaluation.statistics import Bounds, bootstrap, mcnemar, paired, proportion
from jaxdesc.evidence.table import Cell, Table, grouped
from jaxdesc.evidence.world import PROBES, SETTING, open_run, scenes_of, shown
from jaxdesc.models.architectures import load_target
from jaxdesc.models.encoder import Namer
from jaxdesc.models.namers import load_namer
from jaxdesc.models.target import LOGITS, Target
from jaxdesc.pipeline import Grid, describe, sweep
from jaxdesc.runtime.ahead import ahead
from jaxdesc.scenes import captions
from jaxdesc.scenes.attributes import ATTRIBUTES, KINDS
from jaxdesc.scenes.pairs import pairs
from jaxdesc.scenes.world import Scene
from jaxdesc.stages.run import Run
from jaxdesc.store import Place, Store

VIEWS = ("centre", "attention", "random", "box", "full")
KAPPAS = (0.0, 16.0)
DIFFERENCES = (("attention", "centre"), ("attention", "full"))
ALL = "all"

HIDDEN_VIEWS = ("attention", "full", "unit")  # "unit": attention's, of each unit's own map
HIDDEN_PAIRS = (("attention", "full"), ("unit", "attention"), ("unit", "full"))
HIDDEN_LAYERS = ("layer1", "layer2", "layer3", "layer4", LOGITS)
NAMED, RANDOM = "named", "random"  # how the label was obtained
NONE = -1  # label of a neuron without a concept
BATCH = 128

# View, layer, and how the label was obtained.
Trial = tuple[str, str, str]


def tables(
    workdir: str | Path,
    *,
    probes: Sequence[str] = PROBES,
    layers: Sequence[str] = HIDDEN_LAYERS,
    count: int = 64,
    random_concepts: int = 48,
    config: Config = SETTING,
) -> tuple[Table, ...]:
    """Measure both kinds of neurons; artifacts are kept in `workdir`.

    Args:
        workdir: a folder.
        probes: image sources of rendered scenes; hidden neurons are named on the first.
        layers: those of the target whose neurons are tried on fresh pairs. "fc" checks the test
            itself: nearly all of those neurons are named correctly.
        count: pairs rendered per concept.
        random_concepts: drawn from the vocabulary for the control; every neuron is tried on one.
        config: everything else.

    Raises:
        InputError: a config that does not fit its inputs.
    """
    bench = _Bench(workdir, config, load_namer(config.clip.source))
    with Store(Place(workdir).at("artifacts")).held():
        of_attributes = attributes(bench, probes)
        return (*of_attributes, *hidden(bench, probes[0], layers, count, random_concepts))


@dataclass(frozen=True)
class _Bench:
    """Folder, choices and CLIP that all runs share."""

    workdir: str | Path
    config: Config
    clip: Namer

    def run(self, target: Target, images: str, layer: str, view: str) -> Run:
        crop = replace(self.config.crop, view=view)
        if view == "unit":
            crop = replace(self.config.crop, view="attention", of="unit")
        config = replace(
            self.config,
            target=replace(self.config.target, source=target.name, layer=layer),
            images=replace(self.config.images, source=images),
            crop=crop,
        )
        return open_run(self.workdir, config, target, self.clip)


# Neurons that were trained to mean something.


def attributes(bench: _Bench, probes: Sequence[str]) -> tuple[Table, Table]:
    """Share of the attribute network's 60 neurons that a selected concept names correctly.

    Grad-CAM's class is the highest logit of an image, of any kind of attribute. A window on one
    thing shows less of a background, and may leave out all context.

    Returns "attributes", by view, κ and kind of attribute, each neuron averaged over the probe sets
    first, with bootstrap intervals over neurons (rough for 4 patterns or 8 colours), where the view
    "any" is the best that the vocabulary allows ("plain" isn't in it); and "attribute differences"
    of two views, the same neurons paired, with McNemar's exact p of the first probe set.
    """
    run = bench.run(load_target("scenes:attributes"), probes[0], LOGITS, VIEWS[0])
    score = run.config.score
    cells = [*sweep(run, Grid(KAPPAS, (score.alpha,), (score.exemplars,), VIEWS, tuple(probes)))]
    possible = cells[0].ceilings.values["hit"]
    hits = {
        where: np.array([values["hit"] for values in measured])
        for where, measured in grouped(cells, "view", "kappa").items()
    }
    kinds = {kind: np.equal(KINDS, kind) for kind in ATTRIBUTES}
    kinds[ALL] = np.ones(len(KINDS), bool)
    # Nothing is drawn at random here: the interval is the value.
    best = (Bounds(*[float(possible[kind].mean())] * 3) for kind in kinds.values())
    rows: list[tuple[Cell, ...]] = [("any", None, *best)]
    for where, values in hits.items():
        averaged = values.mean(axis=0)
        rows.append((*where, *(bootstrap(averaged[kind]) for kind in kinds.values())))
    differences = [
        (name, kappa, *_differences(hits, kappa, kind))
        for kappa in KAPPAS
        for name, kind in kinds.items()
    ]
    heads = [head for pair in DIFFERENCES for head in (" − ".join(pair), "p, " + " − ".join(pair))]
    return (
        Table("attributes", ("view", "kappa", *kinds), tuple(rows)),
        Table("attribute differences", ("attribute", "kappa", *heads), tuple(differences)),
    )


def _differences(
    hits: Mapping[tuple[str, float], np.ndarray], kappa: float, kind: Bool[np.ndarray, " neuron"]
) -> Iterator[Cell]:
    for views in DIFFERENCES:
        first, second = (hits[view, kappa][:, kind] for view in views)
        yield paired(first.mean(axis=0), second.mean(axis=0))
        yield mcnemar(first[0] > 0, second[0] > 0).p


# Neurons whose meaning is unknown.


class _Tried(NamedTuple):
    """Outcome for each neuron's label, the index of its phrase or `NONE`; NaN without one.

    `auc`, the lower end `low` of its interval and the standardised mean difference `smd` are those
    on fresh pairs; `others` is the AUC on the probe images that are not exemplars of the neuron,
    NaN if the phrase is true of all of them or of none.
    """

    label: Int[np.ndarray, " neuron"]
    auc: Float[np.ndarray, " neuron"]
    low: Float[np.ndarray, " neuron"]
    smd: Float[np.ndarray, " neuron"]
    others: Float[np.ndarray, " neuron"]

    @property
    def right(self) -> Bool[np.ndarray, " neuron"]:
        """True if the interval of the AUC is above ½."""
        return self.low > 0.5


def hidden(
    bench: _Bench, probe: str, layers: Sequence[str], count: int, random_concepts: int
) -> tuple[Table, Table, Table]:
    """Try the best concept of hidden neurons on images that had no part in choosing it.

    The neurons are named as usual, from views. Their activations on fresh pairs and on the other
    probe images are those on whole scenes, squashed to the network's square, for every view: one
    test for all of them, and the test cuts nothing away. A label is right if the 95 % interval of
    its AUC on fresh pairs is above ½. That asks little of it: a part of the concept is enough, so
    the control, a random concept for each neuron, is right now and then too.

    Returns three tables. "hidden", by view, layer and kind of label: neurons; share without a
    concept; of the others the share whose label is right (Wilson's interval), median AUC and
    standardised mean difference; and for the `neurons, others` of them whose other probe images
    both show and lack the concept, the median AUC there. "hidden differences", named − random over
    the neurons that have a concept, paired. "hidden views", differences of views over all neurons,
    paired: a neuron without a concept is not right, and AUCs are of neurons with one by both.
    """
    target, scenes = load_target("scenes"), _Scenes(probe, count)
    labels: dict[Trial, np.ndarray] = {}
    chosen: dict[tuple[str, str], list[list[int]]] = {}
    index = {text: number for number, text in enumerate(captions.vocabulary())}
    drawn = np.random.default_rng(0)
    some = drawn.choice(len(captions.phrases()), random_concepts, replace=False)
    for layer in layers:
        for view in HIDDEN_VIEWS:
            found = describe(bench.run(target, probe, layer, view))
            best = [index[n.concepts[0][0]] if n.concepts else NONE for n in found]
            labels[view, layer, NAMED] = np.array(best)
            chosen[view, layer] = [[e.index for e in n.exemplars] for n in found]
        at_random = drawn.choice(some, len(found))
        labels |= {(view, layer, RANDOM): at_random for view in HIDDEN_VIEWS}
    fresh = scenes.activations(target, labels)
    pixels = _squashed(target, scenes.scenes)
    values = {layer: _activations(target, pixels, layer) for layer in layers}
    tried = {
        (view, layer, how): scenes.tried(layer, label, chosen[view, layer], fresh, values[layer])
        for (view, layer, how), label in labels.items()
    }
    return _hidden_tables(tried, layers)


@dataclass(frozen=True)
class _Scenes:
    """Pairs of scenes and the scenes of a probe set, on which labels are tried."""

    probe: str
    count: int

    @cached_property
    def scenes(self) -> list[Scene]:
        return scenes_of(self.probe)

    @cached_property
    def true(self) -> Bool[np.ndarray, "scene phrase"]:
        return shown(self.scenes)

    def activations(
        self, target: Target, labels: Mapping[Trial, np.ndarray]
    ) -> dict[tuple[str, int], Float[np.ndarray, "2 pair neuron"]]:
        """Each layer's activations on the pairs of all phrases that its neurons are tried on."""
        wanted: dict[int, set[str]] = {}
        for (_, layer, _), label in labels.items():
            for phrase in set(label.tolist()) - {NONE}:
                wanted.setdefault(phrase, set()).add(layer)
        phrases, found = sorted(wanted), {}
        with ThreadPoolExecutor(1) as renderer:  # the next phrase is rendered meanwhile
            started = (renderer.submit(self._pixels, target, phrase) for phrase in phrases)
            for phrase, coming in zip(phrases, ahead(started), strict=True):
                pixels = coming.result()
                for layer in wanted[phrase]:
                    values = _activations(target, pixels, layer)
                    found[layer, phrase] = values.reshape(2, self.count, -1)
        return found

    def _pixels(self, target: Target, phrase: int) -> UInt8[np.ndarray, "scene size size 3"]:
        """Scenes with the phrase first, then those without."""
        present, absent = zip(*pairs(captions.phrases()[phrase], self.count), strict=True)
        return _squashed(target, (*present, *absent))

    def tried(
        self,
        layer: str,
        label: Int[np.ndarray, " neuron"],
        exemplars: Sequence[Sequence[int]],
        fresh: Mapping[tuple[str, int], Float[np.ndarray, "2 pair _"]],
        values: Float[np.ndarray, "scene _"],
    ) -> _Tried:
        """Try each neuron of a layer on its label, by its activations on pairs and on scenes."""
        measured = np.full((4, len(label)), np.nan)
        for neuron, phrase in enumerate(label.tolist()):
            if phrase == NONE:
                continue
            found = contrast(*fresh[layer, phrase][:, :, neuron])
            kept = np.ones(len(self.scenes), bool)
            kept[list(exemplars[neuron])] = False
            others = auc(values[kept][:, [neuron]], self.true[kept][:, [phrase]])
            measured[:, neuron] = found.auc.mean, found.auc.low, found.smd, others[0, 0]
        return _Tried(label, *measured)


def _squashed(target: Target, scenes: Sequence[Scene]) -> UInt8[np.ndarray, "scene size size 3"]:
    squash = target.preprocess.squash
    return np.stack([squash(Image.fromarray(scene.pixels)) for scene in scenes])


def _activations(
    target: Target, pixels: UInt8[np.ndarray, "scene size size 3"], layer: str
) -> Float[np.ndarray, "scene neuron"]:
    starts = range(0, len(pixels), BATCH)
    parts = [target.activations(pixels[start : start + BATCH], layer) for start in starts]
    return np.concatenate([np.asarray(part) for part in parts])


def _hidden_tables(
    tried: Mapping[Trial, _Tried], layers: Sequence[str]
) -> tuple[Table, Table, Table]:
    columns = ("view", "layer", "concept", "neurons", "no concept", "right", "AUC", "SMD")
    rows = [(*where, *_summary(found)) for where, found in tried.items()]
    against = []
    for view, layer in product(HIDDEN_VIEWS, layers):
        named, random = (tried[view, layer, how] for how in (NAMED, RANDOM))
        kept = named.label != NONE
        pair = (_Tried(*(values[kept] for values in each)) for each in (named, random))
        against.append((view, layer, *_compared(*pair)))
    views: list[tuple[Cell, ...]] = []
    for layer in layers:
        pairs_of_views = (
            _compared(*(tried[view, layer, NAMED] for view in pair)) for pair in HIDDEN_PAIRS
        )
        views.append((layer, *(cell for compared in pairs_of_views for cell in compared)))
    chance, titles = f"{NAMED} − {RANDOM}", [" − ".join(pair) for pair in HIDDEN_PAIRS]
    heads = [head for pair in titles for head in (f"right, {pair}", f"AUC, {pair}")]
    differences = ("view", "layer", f"right, {chance}", f"AUC, {chance}")
    return (
        Table("hidden", (*columns, "neurons, others", "AUC, others"), tuple(rows)),
        Table("hidden differences", differences, tuple(against)),
        Table("hidden views", ("layer", *heads), tuple(views)),
    )


def _summary(tried: _Tried) -> tuple[Cell, ...]:
    known = int((tried.label != NONE).sum())
    return (
        len(tried.label),
        1 - known / len(tried.label),
        proportion(int(tried.right.sum()), known) if known else None,
        _median(tried.auc),
        _median(tried.smd),
        int((~np.isnan(tried.others)).sum()),
        _median(tried.others),
    )


def _median(values: Float[np.ndarray, " neuron"]) -> float | None:
    """Median of the neurons that have a value."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else None


def _compared(first: _Tried, second: _Tried) -> tuple[Bounds | None, Bounds | None]:
    """Difference of the share that is right, and of the mean AUC if both have one."""
    both = ~np.isnan(first.auc) & ~np.isnan(second.auc)
    return (
        paired(first.right, second.right) if len(first.right) else None,
        paired(first.auc[both], second.auc[both]) if both.any() else None,
    )
