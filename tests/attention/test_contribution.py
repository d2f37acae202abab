"""Contributions and maps against loops in float64, and against what a logit does when prodded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdesc.attention.contribution import contributions, cosine, foremost, image_map, neuron_map
from tests.plain_target import parameters, plain_target
from tests.reference import explanation as reference

PIXELS = np.random.default_rng(1).normal(size=(3, 32, 32, 3)).astype(np.float32)


def contribute(target, layer="patches", pixels=PIXELS, classes=None):
    return contributions(target.trunk, target.head, layer, target.params, pixels, classes)


@pytest.mark.parametrize("classes", [None, np.array([5, 0, 2], np.int32)])
def test_behind_a_mean_and_a_linear_head_it_is_weight_times_activation(classes):
    target = plain_target()
    found = contribute(target, classes=classes)
    labels = np.asarray(found.logits).argmax(axis=1) if classes is None else classes
    for values, maps, label in zip(*map(np.asarray, found[:2]), labels, strict=True):
        wanted = reference.contributions(maps, target.params["weight"][:, label])
        np.testing.assert_allclose(values, wanted, atol=1e-5)
    total = np.asarray(found.values).sum(axis=1) + target.params["bias"][labels]
    np.testing.assert_allclose(total, np.asarray(found.logits)[range(3), labels], atol=1e-5)


def deep_trunk(params, pixels):
    """The plain trunk's patches as an early tap, then two more layers, one of them compiled."""
    patches = pixels.reshape(len(pixels), 4, 8, 4, 8, 3).mean(axis=(2, 4))
    early = jnp.maximum(patches @ params["mix"], 0)
    middle = jax.nn.relu(jax.jit(lambda maps: maps @ params["next"])(early))
    late = jnp.maximum(middle + 0.5 * jnp.flip(middle, axis=1), 0)
    return late, {"early": early, "middle": middle, "late": late}


def test_of_an_early_layer_it_is_what_the_logit_does_when_a_neuron_is_scaled():
    rng = np.random.default_rng(2)
    params = parameters() | {"next": rng.normal(size=(10, 10)).astype(np.float32)}
    target = plain_target(params, trunk=deep_trunk)
    found = contribute(target, "early")

    def logit(early, label):
        """From the early tap on, in float64."""
        middle = np.maximum(early @ np.asarray(params["next"], np.float64), 0)
        late = np.maximum(middle + 0.5 * middle[::-1], 0)
        return late.mean(axis=(0, 1)) @ np.asarray(params["weight"], np.float64)[:, label]

    step, labels = 1e-6, np.asarray(found.logits).argmax(axis=1)
    for values, maps, label in zip(*map(np.asarray, found[:2]), labels, strict=True):
        early = maps.astype(np.float64)
        for k, value in enumerate(values):
            scaled = np.ones(len(values))
            scaled[k] += step
            slope = (logit(early * scaled, label) - logit(early, label)) / step
            np.testing.assert_allclose(value, slope, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("layer", ["early", "middle", "late"])
def test_between_layers_without_biases_nothing_gets_lost(layer):
    """Euler: a logit that scales with a layer is the sum of that layer's contributions."""
    rng = np.random.default_rng(3)
    params = parameters() | {"next": rng.normal(size=(10, 10)).astype(np.float32)}
    target = plain_target(params, trunk=deep_trunk)
    found = contribute(target, layer)
    labels = np.asarray(found.logits).argmax(axis=1)
    wanted = np.asarray(found.logits).max(axis=1) - params["bias"][labels]
    np.testing.assert_allclose(np.asarray(found.values).sum(axis=1), wanted, rtol=1e-4, atol=1e-5)


def whole_trunk(params, pixels):
    """Compiled as one: the tap comes out, but what follows it has gone on inside."""
    return jax.jit(deep_trunk)(params, pixels)


def lost_trunk(params, pixels):
    maps, taps = deep_trunk(params, pixels)
    return maps, taps | {"early": jnp.sin(taps["early"])}


@pytest.mark.parametrize("trunk", [whole_trunk, lost_trunk])
def test_a_tap_that_the_logits_do_not_come_from_is_refused(trunk):
    params = parameters() | {"next": np.eye(10, dtype=np.float32)}
    with pytest.raises(ValueError, match="the logits can't be traced back to the tap 'early'"):
        contribute(plain_target(params, trunk=trunk), "early")


CHANNELS = [
    np.random.default_rng(4).normal(size=(7, 7)),
    np.maximum(np.random.default_rng(5).normal(size=(3, 4)), 0),
    np.zeros((5, 5)),
    np.ones((2, 2)),
    np.array([[3.0]]),
    np.round(np.random.default_rng(6).uniform(0, 3, size=(6, 5))),  # many that tie
]


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_neurons_map(channel):
    found = neuron_map(channel.astype(np.float32), 16)
    wanted = reference.neuron_map(channel.astype(np.float32), 16)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize(
    "contributed", [[3.0, 1.0, 0.5, 2.0], [3.0, -1.0, -2.0, -0.5], [-1.0, -2.0, -3.0, 0.0]]
)
def test_an_images_map(contributed, rng):
    maps = rng.normal(size=(4, 5, 4)).astype(np.float32)
    found = image_map(np.array(contributed), maps, 12)
    wanted = reference.image_map(contributed, maps, 12)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    other = image_map(np.array(contributed[::-1]), maps, 12)
    theirs = reference.image_map(contributed[::-1], maps, 12)
    np.testing.assert_allclose(cosine(found, other), reference.cosine(wanted, theirs), atol=1e-6)


def test_the_foremost_tie_by_index():
    assert foremost(np.array([1.0, 3.0, 3.0, -5.0]), 3) == [1, 2, 0]
