"""Judging: labels of all units from several sources, the vocabulary's best, linear explanations."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from jaxdesc.benchmark.timing import Job, Table
from jaxdesc.evaluation.judging.measures import Activation, columns, kept_alphas
from jaxdesc.evaluation.judging.presence import PUBLISHED, by_scorer
from jaxdesc.evaluation.judging.scores import ceiling, random_labels, scores_of
from jaxdesc.evaluation.linear import explain
from jaxdesc.evaluation.probe import Probe
from jaxdesc.exemplars import Slots
from jaxdesc.runtime import memory

SOURCES = 10
SHOWN = 6  # concepts that an image shows
EXPLAINED = 10_000  # images by which units are explained, at most
PLAIN = 20  # units that are judged by NumPy too


def judging(concepts: int, width: int, count: int, images: int) -> Table:
    """Time the judging of `count` units on so many images, presence by a scorer's features.

    Images and units are sums of a few concepts' features and presences. Average precision of some
    units is also computed as one writes it in NumPy, an order of all images per label. Compilation
    is part of it.
    """
    probe = _made_up(concepts, width, count, images)
    rows = {f"concept {row}": row for row in range(concepts)}
    vocabulary, seconds = tuple(rows), dict[str, list[float]]()
    texts, activations = probe.concepts, probe.activations

    def encode(names: Sequence[str]) -> Float32[np.ndarray, "text feature"]:
        return texts[[rows[name] for name in names]]

    def read(units: Sequence[int]) -> Float32[np.ndarray, "image unit"]:
        return activations[:, list(units)]

    def timing(name: str, run: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        done = run()
        seconds[name] = [time.perf_counter() - began]
        return done

    presence = by_scorer(probe.images, encode, PUBLISHED)
    sources = {str(seed): random_labels(vocabulary, count, seed) for seed in range(SOURCES)}
    memory.reset_peak()
    found = timing("all measures", lambda: scores_of(read, count, presence, sources))
    best = timing("best of the vocabulary", lambda: ceiling(read, count, presence, vocabulary))
    few = {name: {u: labels[u] for u in range(PLAIN)} for name, labels in sources.items()}
    timing("all measures, some units", lambda: scores_of(read, count, presence, few))
    plain = timing(
        "AUPRC by NumPy, some units",
        lambda: {
            source: [
                _plain(activations[:, unit], presence.of(label.concepts)[0], images)
                for unit, label in labels.items()
            ]
            for source, labels in few.items()
        },
    )
    for source, values in plain.items():
        for alpha, expected in zip(kept_alphas(images), np.array(values).T, strict=True):
            ours = found[source][f"auprc@{alpha:g}"][:PLAIN]
            # The product that presence is made of has other last bits for one label.
            np.testing.assert_allclose(ours, expected, atol=1e-5)
    some = probe._replace(activations=activations[:EXPLAINED], images=probe.images[:EXPLAINED])
    sums = timing("linear explanations", lambda: explain(some, 2048))
    sizes = {"units": count, "images": images, "sources": SOURCES, "concepts": concepts}
    sizes |= {"width": width, "measures": len(list(columns(images))), "some units": PLAIN}
    facts = {
        "most resident memory, GiB": memory.peak() / 2**30,
        "images of linear explanations": len(some.images),
        "mean correlation, best of the vocabulary": float(np.nanmean(best.scores["correlation"])),
        "mean held-out correlation, linear explanations": float(np.nanmean(sums.held_out)),
    }
    jobs = [Job(name, lambda: None) for name in seconds]
    return Table("Judging labels", sizes, jobs, seconds, facts=facts)


def _made_up(concepts: int, width: int, count: int, images: int) -> Probe:
    rng = np.random.default_rng(0)
    texts = _unit(rng.normal(size=(concepts, width)))
    # A few concepts are in many images, and most in hardly any.
    often = 1 / np.arange(1, concepts + 1)
    shown = rng.choice(concepts, (images, SHOWN), p=often / often.sum())
    features = _unit(texts[shown].sum(axis=1) + 0.04 * rng.normal(size=(images, width)))
    activations = np.empty((images, count), np.float32)
    for unit in range(count):
        of = rng.choice(min(concepts, 2000), 3, replace=False)
        chances = PUBLISHED(features @ texts[of].T)
        activations[:, unit] = chances @ (3.0, 2.0, 1.0) + 0.1 * rng.normal(size=images)
    slots = Slots.full(np.zeros((count, 1), np.int32))
    return Probe(activations, features, texts, texts[0], slots, sigmoid=PUBLISHED)


def _unit(rows: np.ndarray) -> Float32[np.ndarray, "row width"]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _plain(values: np.ndarray, presence: np.ndarray, images: int) -> list[float]:
    """Average precision for each α, by the order of all images."""
    found, activation = [], Activation(values)
    for alpha in kept_alphas(images):
        order = np.argsort(-presence, kind="stable")
        hits = np.cumsum(activation.top(alpha)[order])
        last = np.flatnonzero(np.append(np.diff(presence[order]) != 0, True))
        gained = np.diff(hits[last], prepend=0) / hits[-1]
        found.append(float((gained * hits[last] / (last + 1)).sum()))
    return found
