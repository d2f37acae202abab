"""Names of a real network's units, on real photos, in the space of another real network.

CLIP compares views with texts. A classifier that ends in a linear layer compares them with its
classes: an image's feature is what that layer reads, the feature of a class is the layer's weights
for it, and of a hypernym the mean of its classes'. So one network names the units of another, by
ImageNet's classes and their WordNet hypernyms, and the photos' labels judge the names.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float64, Int

from jaxdesc.config import TEMPLATE, Config
from jaxdesc.evaluation.faithfulness import auc
from jaxdesc.evaluation.statistics import bootstrap
from jaxdesc.evidence.table import Cell, Table
from jaxdesc.images.example import Source
from jaxdesc.models.encoder import Namer
from jaxdesc.models.taps import Apply, recorded
from jaxdesc.models.target import LOGITS, Target
from jaxdesc.pipeline import describe
from jaxdesc.result import Result
from jaxdesc.stages.activate import activate
from jaxdesc.stages.run import Inputs, Run
from jaxdesc.store import Store
from jaxdesc.vocabulary import wordnet
from jaxdesc.vocabulary.vocabulary import Vocabulary, base_template, prompts

CLASS, WHOLE, FIELD, EXEMPLARS, BATCH = "class", "whole image", 0.5, 4, 32
# Changes of the crop, by what the window is of.
WINDOWS: dict[str, dict[str, Any]] = {
    CLASS: {},
    "unit": {"of": "unit"},
    "unit, ranked by image": {"of": "unit", "rank": "image"},
    "centre": {"view": "centre"},
    "random": {"view": "random"},
    WHOLE: {"view": "full"},
}


class Classifier(NamedTuple):
    """A target whose logits are a linear layer of the mean of a function of its last layer."""

    target: Target
    activation: Callable[[Array], Array]
    weights: Float[np.ndarray, "class channel"]

    @property
    def layer(self) -> str:
        """The layer before `activation`, whose channels are described."""
        return self.target.layers[-1]


class Judged(NamedTuple):
    """Scores of units; NaN if there is nothing to judge.

    Attributes:
        exemplars: share of a class's photos among as many of its logit's first exemplars.
        named: True if the first concept is a name of the logit's class.
        right: True if it is, or is one of a hypernym.
        auc: chance that a photo of the unit's first concept excites it more than another photo.
    """

    exemplars: Float64[np.ndarray, " unit"]
    named: Float64[np.ndarray, " unit"]
    right: Float64[np.ndarray, " unit"]
    auc: Float64[np.ndarray, " unit"]


def tables(
    store: Store, source: Source, classifiers: Mapping[str, Classifier]
) -> tuple[Table, Table]:
    """Return "photo names" and "photo name differences", measuring what is not there yet.

    The first has the means of `Judged` by network, layer and window: of logits whose class has
    photos, and of all channels of the last layer. The second has differences to the class's windows
    and to the whole image, paired over units.
    """
    rows: list[tuple[Cell, ...]] = []
    gaps: list[tuple[Cell, ...]] = []
    names = list(classifiers)
    for name, other in zip(names, reversed(names), strict=True):
        classifier, namer = classifiers[name], classifiers[other]
        for title, layer in (("logits", LOGITS), ("channels", classifier.layer)):
            found = {
                window: _judged(store, source, classifier, namer, layer, changes)
                for window, changes in WINDOWS.items()
            }
            for window, judged in found.items():
                means = (_mean(values) for values in judged)
                units = np.isfinite(np.array(judged)).any(axis=0).sum()
                rows.append((name, title, window, *means, int(units)))
                for against in (CLASS, WHOLE):
                    if window != against:
                        pairs = zip(judged, found[against], strict=True)
                        between = (_mean(one - two) for one, two in pairs)
                        gaps.append((name, title, window, against, *between))
    measures = ("class among exemplars", "class named", "class or hypernym", "AUC")
    where = ("network", "layer", "window")
    return (
        Table("photo names", (*where, *measures, "units"), tuple(rows)),
        Table("photo name differences", (*where, "against", *measures), tuple(gaps)),
    )


def _mean(values: Float64[np.ndarray, " unit"]) -> Cell:
    known = values[np.isfinite(values)]
    return bootstrap(known) if len(known) else None


@dataclass(frozen=True)
class _Features:
    """Unit features of images: what a classifier's linear layer reads."""

    apply: Apply
    layer: str
    activation: Callable[[Array], Array]

    def __call__(self, params: Any, pixels: Any) -> Array:
        _, values = recorded(self.apply, params["network"], pixels, (self.layer,))
        maps = self.activation(values[self.layer].astype(jnp.float32))
        return _unit(maps.mean(axis=(1, 2)))


def _rows(params: Any, ids: Any) -> Array:
    """Features of texts, whose only token is the number of one."""
    rows: Array = params["texts"][ids[:, 0]]
    return rows


def _unit(rows: Any) -> Any:
    return rows / (rows**2).sum(axis=1, keepdims=True) ** 0.5


def kinds(target: Target) -> list[dict[str, None]]:
    """The concepts that are right for each class: its names, and the first of each hypernym."""
    found = []
    for index, names in enumerate(target.classes):
        right = dict.fromkeys(names)
        above = [target.wnids[index]] if target.wnids else []
        while above:
            parents = wordnet.hypernyms().get(above.pop(), ())
            right |= dict.fromkeys(wordnet.noun_synsets()[parent][0] for parent in parents)
            above += parents
        found.append(right)
    return found


def namer(classifier: Classifier) -> tuple[Namer, Vocabulary]:
    """Return a classifier as an encoder of its classes' first names and hypernyms, and these."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast  # not at the top: it takes seconds

    target, weights = classifier.target, _unit(np.asarray(classifier.weights, np.float32))
    classes: dict[str, list[int]] = {}
    for index, right in enumerate(kinds(target)):
        others = set(target.classes[index][1:])
        for text in right:
            if text not in others:
                classes.setdefault(text, []).append(index)
    vocabulary = Vocabulary(tuple(classes), f"classes and hypernyms of {target.name}")
    texts = [*prompts(vocabulary, TEMPLATE), base_template(TEMPLATE)]
    rows = [*(weights[of].mean(axis=0) for of in classes.values()), weights.mean(axis=0)]
    words = Tokenizer(WordLevel({text: row for row, text in enumerate(texts)}, unk_token=texts[-1]))
    encoder = Namer(
        params={"network": target.params, "texts": _unit(np.stack(rows))},
        images=_Features(target.apply, classifier.layer, classifier.activation),
        texts=_rows,
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=words),
        length=1,
        padding=0,
        preprocess=target.preprocess,
        name=f"{target.name}'s classes",
    )
    return encoder, vocabulary


def _judged(
    store: Store,
    source: Source,
    classifier: Classifier,
    other: Classifier,
    layer: str,
    changes: Mapping[str, Any],
) -> Judged:
    """Describe a layer's units by another classifier, and judge their first concepts."""
    encoder, vocabulary = namer(other)
    # A run without names of classes has no metrics, which would need texts of these names.
    nameless = replace(classifier.target, classes=(), wnids=())
    config = Config()
    config = replace(
        config,
        target=replace(config.target, source=nameless.name, layer=layer),
        images=replace(config.images, source=source.spec, batch=BATCH),
        clip=replace(config.clip, source=encoder.name, batch=BATCH),
        crop=replace(config.crop, field=FIELD, **changes),
        score=replace(config.score, exemplars=EXEMPLARS, fewest=1),
    )
    run = Run(config, Inputs(nameless, encoder, source, vocabulary, encoder), store, quiet=True)
    whole = replace(run, config=replace(config, crop=replace(config.crop, **WINDOWS[WHOLE])))
    seen, found = activate(whole), describe(run)
    activations, labels = seen.read("activations"), seen.read("label")
    names, right = classifier.target.classes, kinds(classifier.target)
    return judge(found, activations, labels, names, right, layer == LOGITS)


def judge(
    found: Result,
    activations: Float[np.ndarray, "image unit"],
    labels: Int[np.ndarray, " image"],
    names: Sequence[Sequence[str]],
    right: Sequence[Collection[str]],
    classes: bool,
) -> Judged:
    """Judge units' first concepts and exemplars by the labels of images; -1 if there is none.

    `names` are those of each class, and `right` the concepts that are right for it; `classes` is
    True if units are classes, which are judged if they have images.
    """
    known = labels >= 0
    texts = dict.fromkeys(text for neuron in found for text, _ in neuron.concepts[:1])
    shown = [[text in right[label] for text in texts] for label in labels[known]]
    present: Bool[np.ndarray, "image concept"] = np.array(shown, bool).reshape(known.sum(), -1)
    areas, columns = auc(activations[known], present), {text: k for k, text in enumerate(texts)}
    scores = np.full((len(Judged._fields), len(found)), np.nan)
    for unit, neuron in enumerate(found):
        first = neuron.concepts[0][0] if neuron.concepts else None
        count = (labels == unit).sum()
        if classes and not count:
            continue
        if classes:
            chosen = [labels[exemplar.index] for exemplar in neuron.exemplars[:count]]
            scores[0, unit] = np.mean(np.equal(chosen, unit)) if chosen else 0
            scores[1, unit] = first in names[unit]
            scores[2, unit] = first in right[unit]
        if first is not None:
            scores[3, unit] = areas[unit, columns[first]]
    return Judged(*scores)
