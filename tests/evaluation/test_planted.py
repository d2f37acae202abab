"""The planted truth is what the recipe says; the page of evidence checks the numbers drawn."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxdesc.evaluation.planted import DISTRACTOR, HUB, SHOWN, SYNONYM, Recipe, accuracy, plant
from tests.reference import accuracy as reference

RECIPE = Recipe(images=600, neurons=12, width=24, exemplars=8, shown=40, synonyms=15, distractors=9)


@pytest.mark.parametrize("seed", range(2))
def test_accuracy_equals_the_definition(seed):
    rng = np.random.default_rng(seed)
    selected = [rng.permutation(7)[: rng.integers(0, 5)] for _ in range(30)]
    truth = rng.random((30, 7)) < 0.3
    truth[:, 0] |= ~truth.any(axis=1)
    found = accuracy(selected, truth)
    for neuron, (concepts, row) in enumerate(zip(selected, truth, strict=True)):
        expected = reference.accuracy(concepts.tolist(), np.flatnonzero(row).tolist())
        assert (found.top[neuron], found.f1[neuron]) == pytest.approx(expected)


def test_shapes_lengths_and_a_seed_that_decides_all():
    found = plant(RECIPE)
    probe, entries = found.probe, 40 + 15 + 5 + 9
    assert probe.activations.shape == (600, 12)
    assert probe.concepts.shape == (entries, 24)
    assert probe.exemplars.rows.shape == (12, 8)
    assert set(probe.exemplars.counts) == {8}
    for features in (probe.images, probe.concepts, probe.base[None]):
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    assert np.bincount(found.kind).tolist() == [40, 15, 5, 9]
    assert not probe.dead.any()
    jax.tree.map(np.testing.assert_array_equal, probe, plant(RECIPE).probe)
    assert not np.array_equal(plant(RECIPE, 4).probe.images, probe.images)


def test_images_show_and_neurons_mean_shown_concepts_alone():
    found = plant(RECIPE)
    np.testing.assert_array_equal(found.present.sum(axis=1), 3)
    for kind in (SYNONYM, HUB, DISTRACTOR):
        assert not found.present[:, found.kind == kind].any()
        assert not found.truth[:, found.kind == kind].any()
    assert sorted(found.truth.sum(axis=1)) == [1] * 9 + [2] * 3


def test_synonyms_are_where_the_recipe_says():
    found = plant(replace(RECIPE, cone=0.0, synonym_cosine=0.8))
    copies = np.flatnonzero(found.kind == SYNONYM)
    texts = found.probe.concepts
    cosines = (texts[copies] * texts[found.original[copies]]).sum(axis=1)
    np.testing.assert_allclose(cosines, 0.8, atol=1e-6)
    assert (found.kind[found.original[copies]] == SHOWN).all()
    assert len(set(found.original[copies])) == 15
    assert found.lenient.sum() > found.truth.sum()
    np.testing.assert_array_equal(found.lenient[:, copies], found.truth[:, found.original[copies]])
