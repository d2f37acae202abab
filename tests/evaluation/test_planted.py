"""The planted truth is what the recipe says."""

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


def test_shapes_and_lengths():
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


def test_only_the_seed_decides():
    first, second = (jax.tree.leaves(plant(RECIPE, 3).probe) for _ in range(2))
    for array, same in zip(first, second, strict=True):
        np.testing.assert_array_equal(array, same)
    assert not np.array_equal(plant(RECIPE, 3).probe.images, plant(RECIPE, 4).probe.images)


def test_images_show_and_neurons_mean_shown_concepts_alone():
    found = plant(RECIPE)
    np.testing.assert_array_equal(found.present.sum(axis=1), 3)
    for kind in (SYNONYM, HUB, DISTRACTOR):
        assert not found.present[:, found.kind == kind].any()
        assert not found.truth[:, found.kind == kind].any()
    assert sorted(found.truth.sum(axis=1)) == [1] * 9 + [2] * 3


@pytest.mark.parametrize("impurity", [0.0, 0.6])
def test_strange_images_are_as_many_as_the_recipe_says(impurity):
    recipe = replace(RECIPE, images=4000, neurons=30, impurity=impurity, activation_noise=0.02)
    found = plant(recipe)
    excited = found.probe.activations > 0.3
    for neuron, row in enumerate(found.truth):
        shows = found.present[:, row].any(axis=1)
        assert excited[shows, neuron].all()
        strange = excited[~shows, neuron].sum()
        assert strange == round(shows.sum() * impurity / (1 - impurity))


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


def test_each_difficulty_does_what_it_says():
    def cosines(**change):
        found = plant(replace(RECIPE, **change))
        return found, found.probe.images @ found.probe.concepts.T

    for pull, nearer in ((2.0, True), (0.0, False)):
        found, near = cosines(hub_pull=pull)
        hubs, others = (near.mean(axis=0)[found.kind == HUB], near.mean(axis=0)[found.kind != HUB])
        assert (hubs.min() > others.max()) == nearer
    gaps = []
    for noise in (0.0, 2.0):
        found, near = cosines(noise=noise)
        gaps.append(near[found.present].mean() - near[~found.present].mean())
    assert gaps[0] > 1.3 * gaps[1] > 0
    lengths = [np.linalg.norm(cosines(cone=c)[0].probe.images.mean(axis=0)) for c in (0.0, 2.0)]
    assert lengths[1] > lengths[0] + 0.3
