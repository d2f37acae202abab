"""Do judges order labels as the truth does, and what fools them?

The attribute network's 60 logits have known names. Labels of them come from methods, from chance,
and from the truth itself, a part of it replaced by chance, so that some orders are known from the
start. Every measure judges all of them on scenes on which none was found: with the scenes' truth,
and with the presence that the CLIP sees. Labels that are wrong in a known way show what a measure
takes for right. The logits are a hidden layer here, for ablation: a head adds those of a class, a
colour, a pattern and a background for each combination of these.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float64
from PIL import Image

from jaxdesc.config import Config
from jaxdesc.evaluation.judging.judgement import Judgement
from jaxdesc.evaluation.judging.labels import Label, Labels
from jaxdesc.evaluation.judging.presence import SCORER, TRUTH
from jaxdesc.evaluation.judging.scores import random_labels
from jaxdesc.evaluation.methods import METHODS
from jaxdesc.evaluation.metrics import hit
from jaxdesc.evaluation.statistics import CONFIDENCE, Bounds, bootstrap, proportion
from jaxdesc.evidence.table import Cell, Table
from jaxdesc.evidence.world import SETTING, open_run
from jaxdesc.images.example import Example
from jaxdesc.images.sources import open_source
from jaxdesc.models.architectures import load_target
from jaxdesc.models.namers import load_namer
from jaxdesc.models.taps import Apply, Tap
from jaxdesc.pipeline.judging import RUN, Judging, judge
from jaxdesc.scenes.attributes import KINDS, NAMES
from jaxdesc.scenes.captions import HYPERNYMS, phrases, vocabulary
from jaxdesc.scenes.pairs import pairs
from jaxdesc.scenes.world import CLASSES, COLOURS, CONTEXTS
from jaxdesc.stages.judge import Jury, controls, effects, on_images

JUDGING = "scenes:split=probe,seed=1,count=1600"
CORRELATED = "scenes:split=probe,seed=1,count=1600,correlation=0.9"
LADDER = (1.0, 0.75, 0.5, 0.25)  # shares of names that stay
READ = ("class", "colour", "pattern", "background")  # kinds of attribute that the head reads
HIDDEN, REST = "attributes", 6.0  # the logits as a hidden layer, and their usual value below zero
MADE, EACH = 24, 24  # scenes made per concept, and scenes with a concept that a unit is zeroed on
RESAMPLES = 2000
PART, WHOLE, COMPANION, BIAS = "a part", "a hypernym", "a companion", "a bias"


def tables(
    workdir: str | Path,
    *,
    images: str = JUDGING,
    correlated: str = CORRELATED,
    methods: Sequence[str] = tuple(METHODS),
    config: Config = SETTING,
) -> tuple[Table, Table, Table, Table]:
    """Judge labels of the attribute network; artifacts are kept in `workdir`.

    Returns "judges", the share of right labels of each source and its mean by every measure;
    "judge order", how each measure orders the sources by these shares and, of each unit, right
    labels before wrong ones; "judges fooled", how often a label that is wrong in a known way scores
    at least as much as the unit's name; and "judge sanity", NeuronEval's two tests.
    """
    bench = _Bench(workdir, config)
    given: dict[str, Labels] = {f"{share:.0%} right": ladder(share) for share in LADDER}
    wanted = tuple(name for name in methods if name in METHODS)
    judged = {kind: bench.judged(images, given, wanted, kind) for kind in (TRUTH, SCORER)}
    right = {source: _right(judged[TRUTH].labels[source]) for source in judged[TRUTH].scores}
    return (
        _means(judged, right),
        _order(judged, right),
        _fooled(bench, images, correlated),
        _sanity(judged[TRUTH]),
    )


def ladder(share: float) -> dict[int, Label]:
    """Names of the units, all but a share of them, drawn at random, replaced by random concepts."""
    known, wrong = names(), random_labels(vocabulary(), len(NAMES), seed=1)
    order = np.random.default_rng(2).permutation(list(known)).tolist()
    kept = set(order[: round(share * len(order))])
    return {unit: label if unit in kept else wrong[unit] for unit, label in known.items()}


def names() -> dict[int, Label]:
    """The first name of each unit that the vocabulary has."""
    texts = set(vocabulary())
    return {unit: Label((first,)) for unit, (first, *_) in enumerate(NAMES) if first in texts}


def misleading(kind: str) -> dict[int, Label]:
    """Labels that are wrong in a known way.

    A conjunction that is true of a part of the unit's scenes; a hypernym that is true of others
    too; the context thing that goes with the class in correlated scenes; or a random concept with
    so large a bias that its presence hardly counts.
    """
    found: dict[int, Label] = {}
    colours, contexts, classes = list(COLOURS), list(CONTEXTS), list(CLASSES)
    for unit, label in names().items():
        (name,), of = label.concepts, KINDS[unit]
        if kind == PART and of == "class":
            found[unit] = Label((f"{colours[unit % len(colours)]} {name}",))
        elif kind == PART and of in ("colour", "pattern"):
            found[unit] = Label((f"{name} {NAMES[unit % len(classes)][0]}",))
        elif kind == WHOLE and of == "class":
            above = [word for word, members in HYPERNYMS.items() if classes[unit] in members]
            if above:
                found[unit] = Label((above[0],))
        elif kind == COMPANION and of == "class":
            found[unit] = Label((contexts[unit % len(contexts)],))
        elif kind == BIAS:
            concepts = random_labels(vocabulary(), len(NAMES))[unit].concepts
            found[unit] = Label(concepts, (1.0,), 1e3)
    return found


class Made:
    """Scenes that show a phrase each, by which the folders of CoSy are named."""

    spec = "scenes made for concepts"
    has_boxes = has_labels = False

    def __init__(self, texts: Sequence[str]):
        self.texts = tuple(texts)

    def __len__(self) -> int:
        return MADE * len(self.texts)

    def __getitem__(self, index: int) -> Example:
        """Render a scene that shows its phrase."""
        return Example(Image.fromarray(_scenes(self.texts[index // MADE])[index % MADE]))

    def identify(self, index: int) -> str:
        """Name a scene by its phrase."""
        return f"{self.texts[index // MADE]}/{index % MADE:02d}.png"

    def fingerprint(self) -> str:
        """Name the phrases; the renderer's code is part of every fingerprint anyway."""
        return f"{MADE} {self.texts}"


@lru_cache(maxsize=64)  # images are read in several threads, roughly in their order
def _scenes(text: str) -> list[np.ndarray]:
    phrase = phrases()[vocabulary().index(text)]
    return [pair.present.pixels for pair in pairs(phrase, MADE)]


@dataclass(frozen=True)
class _Head:
    """The attribute network with a further layer: sums of its units, one for each combination.

    Its units are the logits above their usual value without an attribute, so that zero is what
    they are at rest, as of a layer after ReLU.
    """

    apply: Apply

    def __call__(self, params: Any, pixels: Array, tap: Tap) -> Array:
        logits = self.apply(params, pixels, tap)
        units = tap(HIDDEN, jax.nn.relu(logits + REST)[:, None, None, :])[:, 0, 0]
        total = jnp.zeros((len(units), 1), units.dtype)
        for kind in READ:
            some = units[:, np.flatnonzero(kind == KINDS)]
            total = (total[:, :, None] + some[:, None, :]).reshape(len(units), -1)
        return total


@dataclass(frozen=True)
class _Bench:
    workdir: str | Path
    config: Config

    def judged(
        self,
        images: str,
        given: Mapping[str, Labels],
        methods: Sequence[str] = (),
        presence: str = TRUTH,
    ) -> Judgement:
        """Judge labels of the units; with the truth of the scenes also by CoSy and ablation."""
        clip, bare = load_namer(self.config.clip.source), load_target("scenes:attributes")
        # The scenes' labels are the first of these classes.
        target = replace(bare, apply=_Head(bare.apply), classes=NAMES, name="attributes, head")
        layer = replace(self.config.target, source=target.name, layer=HIDDEN)
        run = open_run(self.workdir, replace(self.config, target=layer), target, clip)
        options = Judging(images=open_source(images), presence=presence, methods=tuple(methods))
        with run.store.held():
            found = judge(run, given, options)
            if presence != TRUTH:
                return found
            every = (label for labels in found.labels.values() for label in labels.values())
            texts = sorted({label.concepts[0] for label in every})
            jury = Jury(on_images(run, open_source(images)), lambda: clip)
            made, _ = controls(jury, on_images(run, Made(texts)), found.labels)
            units = [unit for unit in range(len(NAMES)) if KINDS[unit] in READ]
            zeroed = effects(jury, jury.presence(TRUTH), found.labels, units, EACH)
            return found.with_controls(made).with_effects(zeroed)


def _right(labels: Labels) -> Float64[np.ndarray, " unit"]:
    """1 if a label, or the heaviest concept of a sum, is a name of the unit; NaN without one."""
    found = np.full(len(NAMES), np.nan)
    for unit, label in labels.items():
        found[unit] = hit(label.concepts[:1], NAMES[unit])
    return found


def _means(judged: Mapping[str, Judgement], right: Mapping[str, np.ndarray]) -> Table:
    measures = judged[TRUTH].measures
    rows: list[tuple[Cell, ...]] = []
    for kind, judgement in judged.items():
        for source in judgement.sources:
            known = right.get(source, np.full(1, np.nan))
            share = bootstrap(known[np.isfinite(known)]) if np.isfinite(known).any() else None
            means = (
                judgement.mean(source, measure) if measure in judgement.measures else None
                for measure in measures
            )
            units = int(np.isfinite(judgement.values(source, measures[0])).sum())
            rows.append((kind, source, units, share, *means))
    return Table("judges", ("presence", "labels", "units", "right", *measures), tuple(rows))


def _order(judged: Mapping[str, Judgement], right: Mapping[str, np.ndarray]) -> Table:
    """Agreement of each measure with the truth over sources, and within units."""
    rows: list[tuple[Cell, ...]] = []
    sources = [source for source in right if source != RUN]  # which is t-vMF's again
    found = [source for source in sources if not source.endswith("right")]
    truth = np.stack([right[source] for source in sources])
    for kind, judgement in judged.items():
        for measure in judgement.measures:
            scores = np.stack([judgement.values(source, measure) for source in sources])
            some = [sources.index(source) for source in found]
            rows.append(
                (
                    kind,
                    measure,
                    *(rank_correlation(scores[part], truth[part]) for part in (some, ...)),
                    _within(scores, truth),
                )
            )
    columns = ("presence", "measure", "order of methods", "order of all", "right above wrong")
    return Table("judge order", columns, tuple(rows))


def rank_correlation(
    scores: Float64[np.ndarray, "source unit"], truth: Float64[np.ndarray, "source unit"]
) -> Bounds | None:
    """Spearman's correlation of sources' means with the truth's, and its interval over units.

    Means are over the units with a value; sources without one are left out. None if fewer than
    three are left, or all are equal.
    """
    kept = np.isfinite(scores).any(axis=1)
    if kept.sum() < 3:
        return None
    scores, truth = scores[kept], truth[kept]
    units = scores.shape[1]
    drawn = np.random.default_rng(0).multinomial(units, np.full(units, 1 / units), RESAMPLES)
    weights = np.concatenate([np.ones((1, units)), drawn])
    ranks = [_ranks(_weighted(values, weights)) for values in (scores, truth)]
    first, second = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    lengths = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    with np.errstate(invalid="ignore"):
        found = (first * second).sum(axis=1) / lengths
    low, high = np.nanquantile(found[1:], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Bounds(float(found[0]), float(low), float(high)) if np.isfinite(found[0]) else None


def _weighted(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return (weights @ np.nan_to_num(values).T) / (weights @ known.T)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of each row, equal values sharing theirs."""
    below = (values[:, :, None] > values[:, None, :]).sum(axis=2)
    same = (values[:, :, None] == values[:, None, :]).sum(axis=2)
    return below + (same + 1) / 2


def _within(scores: np.ndarray, truth: np.ndarray) -> Bounds | None:
    """Chance that of a unit's labels a right one scores more than a wrong one; over units."""
    shares = []
    for values, right in zip(scores.T, truth.T, strict=True):
        known = np.isfinite(values)
        good, bad = values[known & (right == 1)], values[known & (right == 0)]
        if len(good) and len(bad):
            above = (good[:, None] > bad) + 0.5 * (good[:, None] == bad)
            shares.append(float(above.mean()))
    return bootstrap(np.array(shares)) if shares else None


def _fooled(bench: _Bench, images: str, correlated: str) -> Table:
    """Measure how often a misleading label scores at least as much as the unit's name."""
    rows: list[tuple[Cell, ...]] = []
    for kind in (PART, WHOLE, COMPANION, BIAS):
        wrong = misleading(kind)
        given = {"name": names(), "misleading": wrong}
        judged = bench.judged(correlated if kind == COMPANION else images, given)
        for measure in judged.measures:
            first, second = (judged.values(source, measure) for source in given)
            both = np.isfinite(first) & np.isfinite(second)
            if both.any():
                units, fooled = int(both.sum()), int((second[both] >= first[both]).sum())
                gap = bootstrap(first[both] - second[both])
                rows.append((kind, measure, units, proportion(fooled, units), gap))
    columns = ("label", "measure", "units", "fooled", "name − label")
    return Table("judges fooled", columns, tuple(rows))


def _sanity(judgement: Judgement) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for measure, test in judgement.sanity.items():
        rows.append((measure, *map(float, test)))
    columns = ("measure", "missing", "fell", "extra", "fell, extra")
    return Table("judge sanity", columns, tuple(rows))
