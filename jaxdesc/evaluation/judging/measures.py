"""JUDGES: a unit's activations on images against the presence of a label's concept in them.

The measures are those that pass both sanity tests of NeuronEval (Oikarinen, Yan and Weng,
"Evaluating Neuron Explanations: A Unified Framework with Sanity Checks", ICML 2025): they fall if
half of a concept's positives are dropped, and if they are doubled with random images. Definitions
are those of its `metrics.py`, except for the correlation, which is Pearson's r itself and not
r · (n − 1)/n.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64

ALPHAS = (0.002, 0.005, 0.01, 0.02, 0.05)
FEWEST = 10  # images among the top α; an α with fewer is left out
SHOWN = 0.5  # presence from which an image counts as showing a concept
HALF = 0.5  # share of positives that a sanity test drops
FALL = 0.001  # a score must fall by more than this in a sanity test


class Activation:
    """A unit's activations on images, prepared for all labels that it is judged by."""

    def __init__(self, values: Float[np.ndarray, "image"]):
        self.values = np.asarray(values, np.float64)
        self.live = bool(self.values.min() < self.values.max())
        self.centred = self.values - self.values.mean()
        self._top: dict[float, np.ndarray] = {}

    def top(self, alpha: float) -> Bool[np.ndarray, "image"]:
        """True for the ⌈α · images⌉ most active images, and all with the last one's activation."""
        if alpha not in self._top:
            count = math.ceil(alpha * len(self.values))
            self._top[alpha] = self.values >= np.partition(self.values, -count)[-count]
        return self._top[alpha]


# (activation, presence, α) -> score of each label; a measure of all activations ignores α.
Measure = Callable[
    [Activation, Float32[np.ndarray, "label image"], float], Float64[np.ndarray, "label"]
]


class Judge(NamedTuple):
    """One measure.

    `by_alpha` is True if it depends on which images count as most active, and `of_chance` if it
    needs a presence that is the chance that an image shows the concept, which a weighted sum of
    presences is not.
    """

    title: str
    measure: Measure
    by_alpha: bool = False
    of_chance: bool = False


def correlation(
    activation: Activation, presence: Float32[np.ndarray, "label image"], _: float = 0
) -> Float64[np.ndarray, "label"]:
    """Pearson's r of activation and presence; 0 for a presence that is constant."""
    rows = presence - presence.mean(axis=1, keepdims=True, dtype=np.float64)
    # A mean is rounded: constant rows would become noise.
    rows[presence.min(axis=1) == presence.max(axis=1)] = 0
    return _cosines(activation.centred, rows)


def cosine(
    activation: Activation, presence: Float32[np.ndarray, "label image"], _: float = 0
) -> Float64[np.ndarray, "label"]:
    """Cosine of activation and presence; 0 if one of them is 0 everywhere."""
    return _cosines(activation.values, presence.astype(np.float64))


def auprc(
    activation: Activation, presence: Float32[np.ndarray, "label image"], alpha: float
) -> Float64[np.ndarray, "label"]:
    """Average precision of presence as a score for "among the top α of images".

    Σ_k (R_k − R_{k−1}) P_k over the distinct presences, the largest first: each of the most active
    images adds the precision among all images that show the concept as much as it does.
    """
    top, scores = activation.top(alpha), np.empty(len(presence))
    for label, row in enumerate(presence):
        found = np.sort(row[top])
        every = len(row) - np.searchsorted(np.sort(row), found)
        hits = len(found) - np.searchsorted(found, found)
        scores[label] = (hits / every).mean()
    return scores


def f1(
    activation: Activation, presence: Float32[np.ndarray, "label image"], alpha: float
) -> Float64[np.ndarray, "label"]:
    """F1 score of "shows the concept" and "among the top α of images"."""
    both, top, shown = _counts(activation.top(alpha), presence)
    return 2 * both / (top + shown)


def iou(
    activation: Activation, presence: Float32[np.ndarray, "label image"], alpha: float
) -> Float64[np.ndarray, "label"]:
    """Intersection over union of "shows the concept" and "among the top α of images"."""
    both, top, shown = _counts(activation.top(alpha), presence)
    return both / (top + shown - both)


JUDGES: dict[str, Judge] = {
    "correlation": Judge("correlation", correlation),
    "cosine": Judge("cosine", cosine),
    "auprc": Judge("AUPRC", auprc, by_alpha=True),
    "f1": Judge("F1", f1, by_alpha=True, of_chance=True),
    "iou": Judge("IoU", iou, by_alpha=True, of_chance=True),
}


def kept_alphas(images: int) -> tuple[float, ...]:
    """The values of α that leave enough images of so many."""
    return tuple(alpha for alpha in ALPHAS if alpha * images >= FEWEST)


def columns(images: int) -> Iterator[tuple[str, Judge, float]]:
    """Every measure on so many images: its name, such as "iou@0.01", entry and α (0 without)."""
    for name, judge in JUDGES.items():
        if not judge.by_alpha:
            yield name, judge, 0.0
            continue
        for alpha in kept_alphas(images):
            yield f"{name}@{alpha:g}", judge, alpha


def measured(
    activations: Float[np.ndarray, "image"],
    presence: Float32[np.ndarray, "label image"],
    weighted: Bool[np.ndarray, "label"] | None = None,
) -> dict[str, Float64[np.ndarray, "label"]]:
    """Judge all labels of a unit by every measure, by its name in `columns`.

    NaN for a unit that is equally active on all images, for a label whose presence is NaN, and for
    `weighted` labels if a presence has to be a chance.
    """
    activation, count = Activation(activations), len(presence)
    known = ~np.isnan(presence[:, 0]) if presence.size else np.zeros(count, bool)
    found = {}
    for name, judge, alpha in columns(len(activations)):
        fits = known & ~weighted if judge.of_chance and weighted is not None else known
        scores = np.full(count, np.nan)
        if activation.live and fits.any():
            scores[fits] = judge.measure(activation, presence[fits], alpha)
        found[name] = scores
    return found


class Sanity(NamedTuple):
    """Response of a measure to two faults of labels: mean fall, and share of units that fall.

    A measure passes a test if nearly all fall.
    """

    missing: float
    missing_fell: float
    extra: float
    extra_fell: float


def sanity(
    activations: Float[np.ndarray, "image unit"],
    present: Bool[np.ndarray, "image unit"],
    seed: int = 0,
) -> dict[str, Sanity]:
    """Put each unit's right concept through NeuronEval's sanity tests, by measure.

    Missing labels: half of the concept's positives are dropped at random. Extra labels: as many
    other images as there are positives are added. Scores from −1 to 1 count half, as there.
    """
    rng, falls = np.random.default_rng(seed), []
    for unit, shown in enumerate(present.T):
        share = shown.sum() / max(1, (~shown).sum())
        missing = shown & (rng.random(len(shown)) > HALF)
        extra = shown | (rng.random(len(shown)) < share)
        rows = np.stack([shown, missing, extra]).astype(np.float32)
        found = measured(activations[:, unit], rows)
        falls.append([(scores[0] - scores[1:]) / _range(name) for name, scores in found.items()])
    by_measure = np.array(falls).transpose(1, 2, 0)
    names = [name for name, *_ in columns(len(activations))]
    return {
        name: Sanity(*(value for test in tests for value in (test.mean(), (test > FALL).mean())))
        for name, tests in zip(names, by_measure, strict=True)
    }


def _range(name: str) -> float:
    return 2.0 if name in ("correlation", "cosine") else 1.0


def _cosines(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(values) * np.linalg.norm(rows, axis=1)
    return np.divide(rows @ values, lengths, out=np.zeros(len(rows)), where=lengths > 0)


def _counts(top: np.ndarray, presence: np.ndarray) -> tuple[Any, Any, Any]:
    """Images that are both, and each alone, as counts."""
    shown = presence >= SHOWN
    return shown[:, top].sum(axis=1), top.sum(), shown.sum(axis=1)
