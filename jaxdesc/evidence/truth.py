"""How often is a neuron's label wrong? Neurons of which the embedded world knows the truth.

Two kinds of them. The attribute network has a logit for each class, colour, pattern, background and
context thing: what it is named is right or wrong. What the target's hidden neurons mean nobody
knows; there a label is tried on images that had no part in finding it, as CoSy does (Kopf et al.,
NeurIPS 2024): on freshly rendered pairs with and without the concept, and on the probe images that
are none of the neuron's exemplars.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from jaxdesc.ablation import ablate
from jaxdesc.config import AblationConfig, Config
from jaxdesc.evaluation.contrast import contrast
from jaxdesc.evaluation.ranks import auc
from jaxdesc.evaluation.statistics import (
    Bounds,
    bootstrap,
    mcnemar,
    paired,
    paired_over_probes,
    wilson,
)
from jaxdesc.evidence.table import Cell, Table
from jaxdesc.evidence.world import PROBES, SETTING, open_run, scenes_of, shown
from jaxdesc.images.sources import open_source
from jaxdesc.models.encoder import ClipEncoder, load_clip
from jaxdesc.models.target import LOGITS, Target, load_target
from jaxdesc.pipeline import describe
from jaxdesc.result import Result
from jaxdesc.scenes import captions
from jaxdesc.scenes.attributes import ATTRIBUTES, KINDS
from jaxdesc.scenes.pairs import pairs
from jaxdesc.scenes.world import Scene
from jaxdesc.stages.run import Run
from jaxdesc.store import Place, Store
from jaxdesc.vocabulary.vocabulary import load_vocabulary

VIEWS = ("centre", "attention", "random", "box", "full")
KAPPAS = (0.0, 16.0)
DIFFERENCES = (("attention", "centre"), ("attention", "full"))
ALL = "all"

HIDDEN_VIEWS = ("attention", "full")
HIDDEN_LAYERS = ("layer1", "layer2", "layer3", "layer4", LOGITS)
NAMED, RANDOM = "named", "random"  # how a label was come by
NONE = -1  # the label of a neuron without a concept
BATCH = 128


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
        layers: of the target whose neurons are tried on fresh pairs. "fc" checks the test itself:
            those neurons are named rightly nearly always.
        count: of pairs rendered for each concept.
        random_concepts: drawn from the vocabulary for the control; every neuron is tried on one.
        config: everything else.

    Returns:
        Those of `attributes`, then those of `hidden`.

    Raises:
        InputError: a config that does not fit its inputs.
    """
    bench = _Bench(workdir, config, load_clip(config.clip.source))
    with Store(Place(workdir).at("artifacts")).held():
        of_attributes = attributes(bench, probes)
        return (*of_attributes, *hidden(bench, probes[0], layers, count, random_concepts))


@dataclass(frozen=True)
class _Bench:
    """What all runs share: their folder, choices and CLIP."""

    workdir: str | Path
    config: Config
    clip: ClipEncoder

    def run(
        self, target: Target, images: str, layer: str, view: str, ablation: AblationConfig
    ) -> Run:
        config = replace(
            self.config,
            target=replace(self.config.target, source=target.name, layer=layer),
            images=replace(self.config.images, source=images),
            crop=replace(self.config.crop, view=view),
            ablation=ablation,
        )
        return open_run(self.workdir, config, target, self.clip)


# Neurons that were trained to mean something.


def attributes(bench: _Bench, probes: Sequence[str]) -> tuple[Table, Table]:
    """Share of the attribute network's 60 neurons that a selected concept names rightly.

    Grad-CAM's class is the highest logit of an image, whichever kind of attribute it tells. A
    window on one thing shows less of a background, and may leave out all context.

    Returns:
        "attributes": by view, κ and kind of attribute, each neuron averaged over the probe sets
        first, with bootstrap intervals over neurons (of 4 patterns or 8 colours they are rough).
        The view "any" is the best that the vocabulary allows: "plain" isn't in it.
        "attribute differences": of two views, the same neurons paired, and McNemar's exact p of the
        first probe set.
    """
    ablation = AblationConfig(VIEWS, KAPPAS, tuple(probes))
    run = bench.run(load_target("scenes:attributes"), probes[0], LOGITS, VIEWS[0], ablation)
    hits: dict[tuple[str, float], list[np.ndarray]] = {}
    for cell in ablate(run, open_source, load_vocabulary):
        hits.setdefault((cell.view, cell.kappa), []).append(cell.metrics.values["hit"])
        possible = cell.ceilings.values["hit"]
    kinds = {kind: np.equal(KINDS, kind) for kind in ATTRIBUTES}
    kinds[ALL] = np.ones(len(KINDS), bool)
    best = ("any", None, *(_certain(possible[own]) for own in kinds.values()))
    rows: list[tuple[Cell, ...]] = [
        (view, kappa, *(bootstrap(np.mean(values, axis=0)[own]) for own in kinds.values()))
        for (view, kappa), values in hits.items()
    ]
    differences = [
        (kind, kappa, *_differences(hits, kappa, own))
        for kappa in KAPPAS
        for kind, own in kinds.items()
    ]
    heads = [head for pair in DIFFERENCES for head in (" − ".join(pair), "p, " + " − ".join(pair))]
    return (
        Table("attributes", ("view", "kappa", *kinds), (best, *rows)),
        Table("attribute differences", ("attribute", "kappa", *heads), tuple(differences)),
    )


def _certain(values: np.ndarray) -> Bounds:
    """A share of which nothing is drawn at random."""
    return Bounds(*[float(values.mean())] * 3)


def _differences(
    hits: Mapping[tuple[str, float], Sequence[np.ndarray]],
    kappa: float,
    own: Bool[np.ndarray, " neuron"],
) -> Iterator[Cell]:
    for pair in DIFFERENCES:
        one, other = (hits[view, kappa] for view in pair)
        yield paired_over_probes(*([values[own] for values in side] for side in (one, other)))
        yield mcnemar(one[0][own] > 0, other[0][own] > 0).p


# Neurons of which nobody knows what they mean.


class _Tried(NamedTuple):
    """What became of each neuron's label.

    Attributes:
        label: index of its phrase, or `NONE`.
        auc, low: on fresh pairs, and the lower end of its interval; NaN without a label.
        smd: standardised mean difference on fresh pairs.
        others: AUC on the probe images that are no exemplars of the neuron; NaN where the phrase is
            true of all of them or of none.
    """

    label: Int[np.ndarray, " neuron"]
    auc: Float[np.ndarray, " neuron"]
    low: Float[np.ndarray, " neuron"]
    smd: Float[np.ndarray, " neuron"]
    others: Float[np.ndarray, " neuron"]

    @property
    def right(self) -> Bool[np.ndarray, " neuron"]:
        """Whether the interval of its AUC lies above ½."""
        return self.low > 0.5

    def only(self, kept: Bool[np.ndarray, " neuron"]) -> "_Tried":
        return _Tried(*(values[kept] for values in self))


def hidden(
    bench: _Bench, probe: str, layers: Sequence[str], count: int, random_concepts: int
) -> tuple[Table, Table, Table]:
    """Try the best concept of hidden neurons on images that had no part in finding it.

    The neurons are named by the usual way, from views. Their activations on fresh pairs and on the
    other probe images are those on whole scenes, squashed to the network's square, for every view:
    one test for all of them, and nothing is cut away by what is tested. A label is right where the
    95 % interval of its AUC on fresh pairs lies above ½. That asks little of it: a part of the
    concept is enough, so the control, a random concept for each neuron, is right now and then too.

    Returns:
        "hidden": by view, layer and how the label was come by: neurons; share without a concept;
        of the others the share whose label is right (Wilson's interval), median AUC and
        standardised mean difference; and of `neurons, others` of them, whose probe images that are
        no exemplars both show and lack the concept, the median AUC there.
        "hidden differences": named − random over the neurons that have a concept, paired.
        "hidden views": attention − full over all neurons, paired; without a concept none is right,
        and AUCs are of neurons with a concept by both.
    """
    target, trial = load_target("scenes"), _Trial(probe, count)
    labels: dict[tuple[str, str, str], np.ndarray] = {}
    chosen: dict[tuple[str, str], list[list[int]]] = {}
    drawn = np.random.default_rng(0)
    some = drawn.choice(len(captions.phrases()), random_concepts, replace=False)
    for layer in layers:
        for view in HIDDEN_VIEWS:
            found = describe(bench.run(target, probe, layer, view, AblationConfig()))
            labels[view, layer, NAMED] = _labels(found)
            chosen[view, layer] = [[e.index for e in n.exemplars] for n in found]
        at_random = drawn.choice(some, len(found))
        labels |= {(view, layer, RANDOM): at_random for view in HIDDEN_VIEWS}
    fresh = trial.activations(target, labels)
    pixels = _squashed(target, trial.scenes)
    values = {layer: _activations(target, pixels, layer) for layer in layers}
    tried = {
        (view, layer, how): trial.tried(layer, own, chosen[view, layer], fresh, values[layer])
        for (view, layer, how), own in labels.items()
    }
    return _hidden_tables(tried, layers)


def _labels(found: Result) -> Int[np.ndarray, " neuron"]:
    """The phrase of each neuron's best concept."""
    places = {text: index for index, text in enumerate(captions.vocabulary())}
    return np.array([places[n.concepts[0][0]] if n.concepts else NONE for n in found])


@dataclass(frozen=True)
class _Trial:
    """Tries labels on pairs of scenes and on the scenes of a probe set."""

    probe: str
    count: int

    @cached_property
    def scenes(self) -> list[Scene]:
        """All of the probe set."""
        return scenes_of(self.probe)

    @cached_property
    def true(self) -> Bool[np.ndarray, "scene phrase"]:
        """What each of them shows."""
        return shown(self.scenes)

    def activations(
        self, target: Target, labels: Mapping[tuple[str, str, str], np.ndarray]
    ) -> dict[tuple[str, int], Float[np.ndarray, "2 pair neuron"]]:
        """Each layer's activations on the pairs of all phrases that its neurons are tried on."""
        wanted: dict[int, set[str]] = {}
        for (_, layer, _), own in labels.items():
            for phrase in set(own.tolist()) - {NONE}:
                wanted.setdefault(phrase, set()).add(layer)
        phrases, found = sorted(wanted), {}
        with ThreadPoolExecutor(1) as beside:  # the next phrase is rendered meanwhile
            coming = [beside.submit(self._pixels, target, phrase) for phrase in phrases[:2]]
            for place, phrase in enumerate(phrases):
                pixels = coming.pop(0).result()
                coming += [beside.submit(self._pixels, target, p) for p in phrases[place + 2 :][:1]]
                for layer in wanted[phrase]:
                    values = _activations(target, pixels, layer)
                    found[layer, phrase] = values.reshape(2, self.count, -1)
        return found

    def _pixels(self, target: Target, phrase: int) -> UInt8[np.ndarray, "scene size size 3"]:
        """Those with the phrase first, then those without."""
        one, other = zip(*pairs(captions.phrases()[phrase], self.count), strict=True)
        return _squashed(target, (*one, *other))

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
            own = contrast(*fresh[layer, phrase][:, :, [neuron]])
            kept = np.ones(len(self.scenes), bool)
            kept[list(exemplars[neuron])] = False
            others = auc(values[kept][:, [neuron]], self.true[kept][:, [phrase]])
            measured[:, neuron] = own.auc[0], own.auc_low[0], own.smd[0], others[0, 0]
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
    tried: Mapping[tuple[str, str, str], _Tried], layers: Sequence[str]
) -> tuple[Table, Table, Table]:
    columns = ("view", "layer", "concept", "neurons", "no concept", "right", "AUC", "SMD")
    rows = [(*where, *_summary(own)) for where, own in tried.items()]
    against = []
    for view in HIDDEN_VIEWS:
        for layer in layers:
            kept = tried[view, layer, NAMED].label != NONE
            pair = (tried[view, layer, how].only(kept) for how in (NAMED, RANDOM))
            against.append((view, layer, *_compared(*pair)))
    views = [
        (layer, *_compared(*(tried[view, layer, NAMED] for view in HIDDEN_VIEWS)))
        for layer in layers
    ]
    chance, view = f"{NAMED} − {RANDOM}", " − ".join(HIDDEN_VIEWS)
    return (
        Table("hidden", (*columns, "neurons, others", "AUC, others"), tuple(rows)),
        Table(
            "hidden differences",
            ("view", "layer", f"right, {chance}", f"AUC, {chance}"),
            tuple(against),
        ),
        Table("hidden views", ("layer", f"right, {view}", f"AUC, {view}"), tuple(views)),
    )


def _summary(tried: _Tried) -> tuple[Cell, ...]:
    known = int((tried.label != NONE).sum())
    return (
        len(tried.label),
        1 - known / len(tried.label),
        wilson(int(tried.right.sum()), known) if known else None,
        _median(tried.auc),
        _median(tried.smd),
        int((~np.isnan(tried.others)).sum()),
        _median(tried.others),
    )


def _median(values: Float[np.ndarray, " neuron"]) -> float | None:
    """The median of those neurons that have a value."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else None


def _compared(one: _Tried, other: _Tried) -> tuple[Bounds | None, Bounds | None]:
    """Difference of the share that is right, and of the mean AUC where both have one."""
    both = ~np.isnan(one.auc) & ~np.isnan(other.auc)
    return (
        paired(one.right, other.right) if len(one.right) else None,
        paired(one.auc[both], other.auc[both]) if both.any() else None,
    )
