"""Contributions and maps against loops in float64, and against what a logit does when prodded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdesc.attention.contribution import (
    contributions,
    cosine,
    image_map,
    neuron_map,
    top_neurons,
)
from tests import plain_target
from tests.reference import explanation as reference

PIXELS = np.random.default_rng(1).normal(size=(3, 32, 32, 3)).astype(np.float32)


@pytest.mark.parametrize("classes", [None, np.array([5, 0, 2], np.int32)])
def test_behind_a_mean_and_a_linear_head_it_is_weight_times_activation(classes):
    target = plain_target.plain_target()
    found = contributions(target, "patches", PIXELS, classes)
    labels = np.asarray(found.logits).argmax(axis=1) if classes is None else classes
    for values, maps, label in zip(*map(np.asarray, found[:2]), labels, strict=True):
        wanted = reference.contributions(maps, target.params["weight"][:, label])
        np.testing.assert_allclose(values, wanted, atol=1e-5)
    total = np.asarray(found.values).sum(axis=1) + target.params["bias"][labels]
    np.testing.assert_allclose(total, np.asarray(found.logits)[range(3), labels], atol=1e-5)


def deep(params, pixels, tap):
    """The plain target's patches as an early layer, then two more; one is compiled apart."""
    early = tap("early", plain_target.patches(params, pixels))
    middle = tap("middle", jax.nn.relu(jax.jit(lambda maps: maps @ params["next"])(early)))
    late = tap("late", jnp.maximum(middle + 0.5 * jnp.flip(middle, axis=1), 0))
    return plain_target.head(params, late)


@pytest.mark.parametrize("layer", ["early", "middle", "late"])
def test_between_layers_without_biases_nothing_gets_lost(layer):
    """Euler: a logit that scales with a layer is the sum of that layer's contributions."""
    square = np.random.default_rng(3).normal(size=(10, 10)).astype(np.float32)
    target = plain_target.plain_target(plain_target.parameters() | {"next": square}, apply=deep)
    found = contributions(target, layer, PIXELS)
    labels = np.asarray(found.logits).argmax(axis=1)
    wanted = np.asarray(found.logits).max(axis=1) - target.params["bias"][labels]
    np.testing.assert_allclose(np.asarray(found.values).sum(axis=1), wanted, rtol=1e-4, atol=1e-5)


CHANNELS = [
    np.random.default_rng(4).normal(size=(7, 7)),
    np.maximum(np.random.default_rng(5).normal(size=(3, 4)), 0),
    np.zeros((5, 5)),
    np.array([[3.0]]),
    np.round(np.random.default_rng(6).uniform(0, 3, size=(6, 5))),  # many that tie
]


@pytest.mark.parametrize("channel", CHANNELS)
def test_the_map_of_a_neuron(channel):
    channel = channel.astype(np.float32)
    wanted = reference.neuron_map(channel, 16)
    np.testing.assert_allclose(neuron_map(channel, 16), wanted, atol=1e-6)


@pytest.mark.parametrize(
    "contributed", [[3.0, 1.0, 0.5, 2.0], [3.0, -1.0, -2.0, -0.5], [-1.0, -2.0, -3.0, 0.0]]
)
def test_the_map_of_an_image(contributed, rng):
    maps = rng.normal(size=(4, 5, 4)).astype(np.float32)
    (first, second), wanted = (
        [of(each, maps, 12) for each in (np.array(contributed), np.array(contributed[::-1]))]
        for of in (image_map, reference.image_map)
    )
    np.testing.assert_allclose((first, second), wanted, atol=1e-6)
    np.testing.assert_allclose(cosine(first, second), reference.cosine(*wanted), atol=1e-6)


def test_top_neurons_tie_by_index():
    assert top_neurons(np.array([1.0, 3.0, 3.0, -5.0]), 3) == [1, 2, 0]
