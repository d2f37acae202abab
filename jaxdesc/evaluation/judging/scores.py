"""Scores of all units' labels from several sources, with a floor and a ceiling."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Float64, Int
from scipy import sparse

from jaxdesc.evaluation.judging.labels import Label, Labels, texts_of
from jaxdesc.evaluation.judging.measures import (
    FEWEST,
    SHOWN,
    Activation,
    Sanity,
    auprc,
    columns,
    kept_alphas,
    measured,
    sanity,
)
from jaxdesc.evaluation.judging.presence import Presence
from jaxdesc.models.texts import Progress, unseen
from jaxdesc.runtime.compiler import jit, product

RANDOM, BEST = "random label", "best label"
UNITS, CONCEPTS = 16, 512  # looked at together
TESTED, CEILED = 200, 1000  # units of the sanity tests and of the ceiling, at most

# Units -> their activations on the images that the presence knows.
Read = Callable[[Sequence[int]], Float[np.ndarray, "image unit"]]
# Score of each unit by each measure; NaN without a label, or for one that can't be judged.
Scores = Mapping[str, Float64[np.ndarray, "unit"]]


def random_labels(vocabulary: Sequence[str], units: int, seed: int = 0) -> dict[int, Label]:
    """A concept of the vocabulary for each unit, drawn at random."""
    drawn = np.random.default_rng(seed).integers(len(vocabulary), size=units)
    return {unit: Label((vocabulary[index],)) for unit, index in enumerate(drawn.tolist())}


def scores_of(
    read: Read,
    units: int,
    presence: Presence,
    sources: Mapping[str, Labels],
    progress: Progress = unseen,
) -> Mapping[str, Scores]:
    """Score the label of each unit in each source by every measure.

    `progress` gets the number of units that were looked at.
    """
    images = int(presence.known.sum())
    names = [name for name, *_ in columns(images)]
    found: dict[str, dict[str, np.ndarray]] = {
        source: {name: np.full(units, np.nan) for name in names} for source in sources
    }
    for first in range(0, units, UNITS):
        some = range(first, min(first + UNITS, units))
        progress(len(some))
        given = {
            source: {unit: labels[unit] for unit in some if unit in labels}
            for source, labels in sources.items()
        }
        texts = texts_of(list(given.values()))
        if not texts:
            continue
        rows = dict(zip(texts, presence.of(texts), strict=True))
        activations = read(some)
        for unit in some:
            of_unit = {source: labels[unit] for source, labels in given.items() if unit in labels}
            if not of_unit:
                continue
            shown = np.stack([_predicted(label, rows) for label in of_unit.values()])
            weighted = np.array([bool(label.weights) for label in of_unit.values()])
            judged = measured(activations[:, unit - first], shown, weighted)
            for name, values in judged.items():
                for source, value in zip(of_unit, values, strict=True):
                    found[source][name][unit] = value
    return found


def _predicted(
    label: Label, rows: Mapping[str, Float32[np.ndarray, "image"]]
) -> Float32[np.ndarray, "image"]:
    """Presence of a label's concept; of several, their weighted sum and the bias."""
    if not label.weights:
        return rows[label.concepts[0]]
    shown = np.stack([rows[concept] for concept in label.concepts])
    # A concept on which nothing is known adds nothing, unless all are such.
    if not np.isnan(shown).all():
        shown = np.nan_to_num(shown)
    return np.asarray(np.array(label.weights, np.float32) @ shown + np.float32(label.bias))


def partly_unknown(presence: Presence, labels: Labels) -> int:
    """Count the weighted sums of which some concept, but not all, can't be judged."""
    sums = [set(label.concepts) for label in labels.values() if label.weights]
    texts, unknown = texts_of([{0: Label(tuple(each))} for each in sums]), set[str]()
    for first in range(0, len(texts), CONCEPTS):
        some = texts[first : first + CONCEPTS]
        lacking = np.isnan(presence.of(some)[:, 0])
        unknown |= {text for text, lacks in zip(some, lacking, strict=True) if lacks}
    return sum(bool(each & unknown) and not each <= unknown for each in sums)


def sanity_of(read: Read, presence: Presence, labels: Labels) -> dict[str, Sanity]:
    """Put labels through the sanity tests on these images, by measure; empty without any.

    Those of at most `TESTED` units whose one concept is shown in enough images, and not in all.
    """
    units: list[int] = []
    rows: list[np.ndarray] = []
    for unit, label in labels.items():
        if label.weights or len(units) == TESTED:
            continue
        (row,) = presence.of(label.concepts)
        shown = row >= SHOWN  # False if it is unknown
        if FEWEST <= shown.sum() < len(row) / 2:
            units.append(unit)
            rows.append(shown)
    return sanity(read(units), np.stack(rows, axis=1)) if units else {}


class Ceiling(NamedTuple):
    """The best score of the vocabulary for each unit by each measure, and its concept (or −1)."""

    scores: dict[str, np.ndarray]
    concepts: dict[str, np.ndarray]


def ceiling(
    read: Read,
    units: int,
    presence: Presence,
    vocabulary: Sequence[str],
    progress: Progress = unseen,
) -> Ceiling:
    """Find the best concept of the vocabulary for each unit, by each measure.

    Of more than `CEILED` units it is found for as many, drawn at random. The average precision of
    all pairs would take hours: its best concept is searched among those that are best by the other
    measures, so that its ceiling may be too low. `progress` gets the number of concepts that were
    looked at; each group of `groups` looks at all.
    """
    images = int(presence.known.sum())
    names = [name for name, *_ in columns(images)]
    found = Ceiling(
        {name: np.full(units, np.nan) for name in names},
        {name: np.full(units, -1) for name in names},
    )
    for some in groups(units, images):
        activations = read(some)
        _products(activations, presence, vocabulary, found, some, progress)
        _precisions(activations, presence, vocabulary, found, some)
    return found


def groups(units: int, images: int) -> list[list[int]]:
    """Units whose ceiling is found, in groups that are looked at together."""
    drawn = np.sort(np.random.default_rng(0).permutation(units)[:CEILED]).tolist()
    together = max(UNITS, 2**28 // max(1, images * 4))  # a quarter GiB of activations
    return [drawn[first : first + together] for first in range(0, len(drawn), together)]


def _products(
    activations: Float[np.ndarray, "image unit"],
    presence: Presence,
    vocabulary: Sequence[str],
    found: Ceiling,
    some: Sequence[int],
    progress: Progress,
) -> None:
    """Fill in the measures that are products of activations and presences."""
    each = [Activation(column) for column in activations.T]
    live = np.array([activation.live for activation in each])
    values = jnp.asarray(_unit(np.stack([a.values for a in each])))
    centred = jnp.asarray(_unit(np.stack([a.centred for a in each])))
    tops = {
        alpha: sparse.csr_array(np.stack([a.top(alpha) for a in each]).astype(np.float32))
        for alpha in kept_alphas(len(activations))
    }
    for start in range(0, len(vocabulary), CONCEPTS):
        rows = presence.of(vocabulary[start : start + CONCEPTS])
        unknown = np.isnan(rows[:, 0])
        shown = np.nan_to_num(rows)
        middle = shown.mean(axis=1, keepdims=True)
        block = {
            "correlation": np.asarray(_cosines(centred, jnp.asarray(_unit(shown - middle)))),
            "cosine": np.asarray(_cosines(values, jnp.asarray(_unit(shown)))),
        }
        show = (shown >= SHOWN).astype(np.float32)
        for alpha, top in tops.items():
            both, total = top @ show.T, top.sum(axis=1)[:, None] + show.sum(axis=1)[None]
            block[f"f1@{alpha:g}"] = 2 * both / total
            block[f"iou@{alpha:g}"] = both / (total - both)
        for name, scores in block.items():
            scores = np.where(unknown[None] | ~live[:, None], -np.inf, scores)
            index = scores.argmax(axis=1)
            highest = scores[np.arange(len(index)), index]
            before = found.scores[name][some]
            better = (highest > -np.inf) & ~(highest <= before)
            found.scores[name][some] = np.where(better, highest, before)
            found.concepts[name][some] = np.where(better, index + start, found.concepts[name][some])
        progress(len(rows))


def _precisions(
    activations: Float[np.ndarray, "image unit"],
    presence: Presence,
    vocabulary: Sequence[str],
    found: Ceiling,
    some: Sequence[int],
) -> None:
    """Fill in the average precision of the concepts that are best by the other measures."""
    candidates: Int[np.ndarray, "measure unit"] = np.stack(
        [found.concepts[name][some] for name in found.concepts]
    )
    for column, unit in enumerate(some):
        indices = np.unique(candidates[:, column][candidates[:, column] >= 0])
        if not indices.size:
            continue
        activation = Activation(activations[:, column])
        rows = presence.of([vocabulary[index] for index in indices])
        for alpha in kept_alphas(len(activations)):
            values = auprc(activation, rows, alpha)
            found.scores[f"auprc@{alpha:g}"][unit] = values.max()
            found.concepts[f"auprc@{alpha:g}"][unit] = indices[values.argmax()]


def _unit(rows: Float[np.ndarray, "row image"]) -> Float32[np.ndarray, "row image"]:
    """Rows of length 1; those of (nearly) constant zero stay zero."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    least = 1e-6 * max(1.0, float(np.abs(rows).max(initial=0)))
    return np.asarray(np.where(lengths > least, rows / np.maximum(lengths, least), 0), np.float32)


@jit
def _cosines(
    units: Float32[Array, "unit image"], rows: Float32[Array, "concept image"]
) -> Float32[Array, "unit concept"]:
    return product(units, rows.T)
