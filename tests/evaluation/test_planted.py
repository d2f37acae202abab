"""The planted truth is what the recipe says."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxdesc.evaluation.planted import DISTRACTOR, HUB, SHOWN, SYNONYM, Recipe, plant

RECIPE = Recipe(images=600, neurons=12, width=24, exemplars=8, shown=40, synonyms=15, distractors=9)


def test_shapes_and_lengths():
    found = plant(RECIPE)
    probe, entries = found.probe, 40 + 15 + 5 + 9
    assert probe.activations.shape == (600, 12)
    assert probe.concepts.shape == (entries, 24)
    assert probe.exemplars.rows.shape == (12, 8)
    assert set(probe.exemplars.counts) == {8}
    assert found.truth.shape == (12, entries)
    assert found.present.shape == (600, entries)
    for features in (probe.images, probe.concepts, probe.base[None]):
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    assert np.bincount(found.kind).tolist() == [40, 15, 5, 9]


def test_only_the_seed_decides():
    one, other = (jax.tree.leaves(plant(RECIPE, 3).probe) for _ in range(2))
    for array, same in zip(one, other, strict=True):
        np.testing.assert_array_equal(array, same)
    assert not np.array_equal(plant(RECIPE, 3).probe.images, plant(RECIPE, 4).probe.images)


def test_images_show_and_neurons_mean_shown_concepts_alone():
    found = plant(RECIPE)
    np.testing.assert_array_equal(found.present.sum(axis=1), 3)
    for kind in (SYNONYM, HUB, DISTRACTOR):
        assert not found.present[:, found.kind == kind].any()
        assert not found.truth[:, found.kind == kind].any()
    assert sorted(found.truth.sum(axis=1)) == [1] * 9 + [2] * 3


@pytest.mark.parametrize("impurity", [0.0, 0.3, 0.6])
def test_strange_images_are_as_many_as_the_recipe_says(impurity):
    recipe = replace(RECIPE, images=4000, neurons=30, impurity=impurity, activation_noise=0.02)
    found = plant(recipe)
    own = [found.present[:, row].any(axis=1) for row in found.truth]
    shares = [
        1 - shows[images].mean()
        for shows, images in zip(own, found.probe.exemplars.rows, strict=True)
    ]
    deviation = np.sqrt(impurity * (1 - impurity) / (30 * 8))
    assert np.mean(shares) == pytest.approx(impurity, abs=4 * deviation)
    # And without noise nothing else excites a neuron.
    excited = found.probe.activations > 0.3
    for neuron, shows in enumerate(own):
        assert excited[shows, neuron].all()
        many = excited[~shows, neuron].sum()
        assert many == round(shows.sum() * impurity / (1 - impurity))


def test_synonyms_lie_where_the_recipe_says():
    found = plant(replace(RECIPE, cone=0.0, synonym_cosine=0.8))
    copies = np.flatnonzero(found.kind == SYNONYM)
    texts = found.probe.concepts
    cosines = (texts[copies] * texts[found.original[copies]]).sum(axis=1)
    np.testing.assert_allclose(cosines, 0.8, atol=1e-6)
    assert (found.kind[found.original[copies]] == SHOWN).all()
    assert len(set(found.original[copies])) == 15
    others = np.flatnonzero(found.kind != SYNONYM)
    np.testing.assert_array_equal(found.original[others], others)
    lenient = found.lenient
    assert (lenient & ~found.truth)[:, copies].sum() == lenient.sum() - found.truth.sum() > 0
    for copy in copies:
        np.testing.assert_array_equal(lenient[:, copy], found.truth[:, found.original[copy]])


def test_hubs_are_near_to_all_images():
    found = plant(replace(RECIPE, hub_pull=2.0))
    cosines = (found.probe.images @ found.probe.concepts.T).mean(axis=0)
    assert cosines[found.kind == HUB].min() > cosines[found.kind != HUB].max()
    plain = plant(replace(RECIPE, hub_pull=0.0))
    cosines = (plain.probe.images @ plain.probe.concepts.T).mean(axis=0)
    assert cosines[plain.kind == HUB].max() < cosines[plain.kind != HUB].max()


def test_an_image_is_nearer_to_what_it_shows_and_noise_blurs_that():
    gaps = []
    for noise in (0.0, 2.0):
        found = plant(replace(RECIPE, noise=noise))
        cosines = found.probe.images @ found.probe.concepts.T
        gaps.append(cosines[found.present].mean() - cosines[~found.present].mean())
    assert gaps[0] > 1.3 * gaps[1] > 0


def test_a_cone_narrows():
    wide, narrow = plant(replace(RECIPE, cone=0.0)), plant(replace(RECIPE, cone=2.0))
    for part in ("images", "concepts"):
        lengths = [
            np.linalg.norm(getattr(found.probe, part).mean(axis=0)) for found in (wide, narrow)
        ]
        assert lengths[1] > lengths[0] + 0.3


@pytest.mark.parametrize(
    "change",
    [
        {"images": 0},
        {"noise": -0.1},
        {"impurity": 1.0},
        {"polysemantic": 1.1},
        {"scene": 41},
        {"synonyms": 41},
        {"exemplars": 601},
        {"hubs": -1},
        {"shown": 1, "scene": 1, "synonyms": 0},
        {"noise": float("nan")},
    ],
)
def test_what_cannot_be_planted(change):
    with pytest.raises(ValueError, match="can't be planted: counts must be at least 1"):
        replace(RECIPE, **change)


def test_a_dead_neuron_is_known():
    probe = plant(RECIPE).probe
    activations = probe.activations.copy()
    activations[:, 4] = 0.5
    assert np.flatnonzero(probe._replace(activations=activations).dead).tolist() == [4]
