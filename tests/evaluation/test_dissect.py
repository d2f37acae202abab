"""The rivals' functions against their definitions, for any block size."""

from functools import partial

import numpy as np
import pytest

from jaxdesc.evaluation import dissect
from jaxdesc.evaluation.probe import Probe, best, every
from tests.reference import dissect as reference
from tests.scoring.features import problem


def probe(seed, images=60, neurons=5, concepts=23):
    """Features in a cone, activations with ties: rounded, and many of them 0."""
    rng = np.random.default_rng(seed)
    views, _, texts, base = problem(seed, images=images, concepts=concepts)
    signal = views @ rng.normal(size=(views.shape[1], neurons))
    activations = np.maximum(np.round(signal + 0.3 * rng.normal(size=signal.shape), 1), 0)
    rows = rng.integers(0, images, (neurons, 4)).astype(np.int32)
    return Probe(activations.astype(np.float32), views, texts, base, rows)


def cosines(given):
    return given.images.astype(np.float64) @ given.concepts.T.astype(np.float64)


def orders(neurons, count, seed):
    return [
        [rng.permutation(count) for _ in range(5)]
        for rng in (np.random.default_rng([seed, neuron]) for neuron in range(neurons))
    ]


CASES = {
    "cos": (dissect.cos, reference.cos),
    "cos_cubed": (dissect.cos_cubed, reference.cos_cubed),
    "wpmi": (dissect.wpmi, reference.wpmi),
    "soft_wpmi": (partial(dissect.soft_wpmi, images=40), partial(reference.soft_wpmi, count=40)),
    "rank_reorder": (
        partial(dissect.rank_reorder, share=0.3, seed=5),
        lambda a, p: reference.rank_reorder(a, p, 0.3, orders(a.shape[1], 18, 5)),
    ),
    "auc": (
        partial(dissect.auc, share=0.2),
        lambda a, p: reference.auc(a, reference.nearest(p, 0.2)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_equals_the_definition(name):
    function, defined = CASES[name]
    # Logarithms add up to some −200 before the neurons' mean is subtracted.
    close = {"rtol": 2e-5, "atol": 5e-5 if "wpmi" in name else 2e-6}
    for seed, block in ((0, 7), (1, 64)):
        given = probe(seed)
        expected = defined(given.activations, cosines(given))
        found = every(given.concepts, function(given, block), block)
        np.testing.assert_allclose(found, expected, **close)
        concepts, scores = best(given.concepts, function(given, block), block)
        np.testing.assert_array_equal(concepts, expected.argmax(axis=1))
        np.testing.assert_allclose(scores, expected.max(axis=1), **close)


def test_the_defaults_are_the_methods():
    given = probe(0, images=600, neurons=2, concepts=3)
    activations, p = given.activations, cosines(given)
    for name in ("wpmi", "soft_wpmi"):
        found = every(given.concepts, getattr(dissect, name)(given, 8), 8)
        expected = getattr(reference, name)(activations, p)
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-4)  # some −600 here
    found = every(given.concepts, dissect.rank_reorder(given, 8), 8)
    expected = reference.rank_reorder(activations, p, 0.05, orders(2, 30, 0))
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    found = every(given.concepts, dissect.auc(given, 8), 8)
    expected = reference.auc(activations, reference.nearest(p, 0.05))
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_norms_are_clipped():
    given = probe(1)
    small = given._replace(activations=given.activations * np.float32(1e-2))
    whole, expected = (reference.cos_cubed(p.activations, cosines(p)) for p in (given, small))
    assert np.abs(expected).max() < 0.1 * np.abs(whole).max()
    found = every(small.concepts, dissect.cos_cubed(small, 8), 8)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-9)


def test_a_concept_far_from_the_images_has_no_order():
    given = probe(2)
    turned, mean = given.concepts.copy(), given.images[:10].mean(axis=0)
    turned[4] = -mean / np.linalg.norm(mean)
    found = every(turned, dissect.rank_reorder(given._replace(concepts=turned), 8, 0.3), 8)
    np.testing.assert_array_equal(found[:, 4], -np.inf)
    assert np.isfinite(found[:, :4]).all()


def test_one_trace_per_function(monkeypatch):
    traces = []

    def counted(images, texts):
        traces.append(texts.shape)
        return images @ texts

    monkeypatch.setattr(dissect, "product", counted)
    given = probe(3, concepts=31)
    every(given.concepts, partial(dissect.wpmi, images=11)(given, 8), 8)
    assert traces == [(12, 8)]


def test_no_score_is_no_concept_and_the_first_of_equal_ones_is_best():
    scores = np.full((3, 6), -np.inf, np.float32)
    scores[0, [1, 4]] = 2.0
    scores[2] = np.nan
    scores[2, 5] = -3.0
    concepts = np.arange(6, dtype=np.float32)[:, None]
    for block in (1, 4, 9):
        found = best(concepts, lambda texts: scores[:, texts[:, 0].astype(int)], block)
        assert found.concepts.tolist() == [1, -1, 5]
        assert found.scores.tolist() == [2.0, -np.inf, -3.0]
