"""The family of class activation maps against the papers' equations."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdesc.attention import grad_cam
from jaxdesc.attention.saliency import METHODS, saliency
from tests.reference import attention
from tests.reference import saliency as reference

CLASSES, CHANNELS = 5, 6


def network(seed, curved=False):
    """A trunk of 4 x 4 patches with ReLU; a linear head on their mean, or a curved one on all."""
    rng = np.random.default_rng(seed)
    sizes = (12, CLASSES) if curved else (CHANNELS, CLASSES)
    params = {
        "offset": np.array([0.4, 0, 0, 0, 0, 0], np.float32),  # a channel that is nowhere 0
        "trunk": rng.normal(size=(48, CHANNELS)).astype(np.float32) / 4,
        "head": rng.normal(size=sizes).astype(np.float32),
        "bias": rng.normal(size=CLASSES).astype(np.float32),
        "within": rng.normal(size=(3 * 5 * CHANNELS, 12)).astype(np.float32) / 8,
    }
    traces = []

    def trunk(params, pixels):
        traces.append(pixels.shape)
        return np_trunk(params, pixels, jnp.maximum), {}

    def head(params, maps):
        return np_head(params, maps, curved, jnp.tanh)

    return SimpleNamespace(params=params, trunk=trunk, head=head, traces=traces)


def np_trunk(params, pixels, maximum):
    count, height, width, _ = pixels.shape
    patches = pixels.reshape(count, height // 4, 4, width // 4, 4, 3).swapaxes(2, 3)
    patches = patches.reshape(count, height // 4, width // 4, 48)
    return maximum(patches @ params["trunk"], 0) + params["offset"][None, None, None]


def np_head(params, maps, curved, tanh):
    if curved:
        maps = tanh(maps.reshape(len(maps), -1) @ params["within"])
        return maps @ params["head"] + params["bias"][None]
    return maps.mean(axis=(1, 2)) @ params["head"] + params["bias"][None]


def float64(target, curved):
    params = jax.tree.map(lambda x: x.astype(np.float64), target.params)

    def head(maps):
        return np_head(params, maps[None], curved, np.tanh)[0]

    def whole(pixels):
        return head(np_trunk(params, pixels[None], np.maximum)[0])

    return head, whole


def images(seed, count=3):
    return np.random.default_rng(seed + 10).normal(size=(count, 12, 20, 3)).astype(np.float32)


@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize("name", ["grad_cam", "grad_cam_pp", "layer_cam", "score_cam"])
def test_it_equals_the_definition(name, curved):
    target, pixels = network(1, curved), images(1)
    head, whole = float64(target, curved)
    maps = np.asarray(target.trunk(target.params, pixels)[0])
    classes = np.array([4, 0, 2])
    found = np.asarray(saliency(name, target, pixels, classes))
    assert (found.max(axis=(1, 2)) > 0).any()
    for image, label in enumerate(classes):
        if name == "score_cam":
            expected = reference.score_cam(whole, pixels[image], maps[image], label)
        elif name == "grad_cam":
            expected = attention.grad_cam_numeric(head, maps[image], label)
        else:
            expected = getattr(reference, name)(head, maps[image], label)
        np.testing.assert_allclose(found[image], expected, rtol=1e-4, atol=2e-6)


def test_cam_is_the_classes_weights():
    target, pixels = network(2), images(2)
    maps = np.asarray(target.trunk(target.params, pixels)[0])
    found = saliency("cam", target, pixels, np.array([1, 3, 0]))
    for image, label in enumerate((1, 3, 0)):
        expected = attention.cam(target.params["head"].T, maps[image], label)
        np.testing.assert_allclose(found[image], np.maximum(expected, 0), rtol=1e-5, atol=1e-6)
    grad = np.asarray(saliency("grad_cam", target, pixels, np.array([1, 3, 0])))
    np.testing.assert_allclose(found, 15 * grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_the_predicted_class_is_the_default(name):
    target, pixels = network(3), images(3)
    maps, _ = target.trunk(target.params, pixels)
    predicted = np.asarray(target.head(target.params, maps)).argmax(axis=1)
    found = saliency(name, target, pixels)
    np.testing.assert_array_equal(found, saliency(name, target, pixels, predicted))
    assert found.shape == (3, 3, 5)
    assert np.min(found) >= 0
    if name == "grad_cam":
        np.testing.assert_allclose(found, grad_cam(target, pixels), rtol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_images_of_a_batch_do_not_meet(name):
    target, pixels = network(4), images(4)
    together = np.asarray(saliency(name, target, pixels, np.array([0, 1, 2])))
    for image in range(3):
        alone = saliency(name, target, pixels[image : image + 1], np.array([image]))
        np.testing.assert_allclose(together[image], alone[0], rtol=1e-5, atol=1e-6)


def test_a_channel_that_is_the_same_everywhere_has_no_part_in_score_cam():
    target, pixels = network(5), images(5, count=1)
    given = dict(target.params)
    given["trunk"] = given["trunk"].copy()
    given["trunk"][:, 2] = 0
    silent = SimpleNamespace(params=given, trunk=target.trunk, head=target.head)
    _, whole = float64(silent, False)
    maps = np.asarray(target.trunk(given, pixels)[0])
    expected = reference.score_cam(whole, pixels[0], maps[0], 1)
    found = saliency("score_cam", silent, pixels, np.array([1]))
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_one_trace_whatever_the_parameters(name):
    target, pixels = network(6), images(6)
    saliency(name, target, pixels)
    before = len(target.traces)
    other = SimpleNamespace(
        params=jax.tree.map(lambda x: 2 * x, target.params), trunk=target.trunk, head=target.head
    )
    saliency(name, other, 0.5 * pixels)
    assert len(target.traces) == before


def test_errors():
    target, pixels = network(0), images(0)
    with pytest.raises(ValueError, match=r"'gradcam' is no map of attention: choose one of cam, "):
        saliency("gradcam", target, pixels)
    for classes in ([0, 5, 1], [-1, 2, 3]):
        with pytest.raises(ValueError, match=r"but the network has classes 0 to 4"):
            saliency("layer_cam", target, pixels, np.array(classes))
    with pytest.raises(ValueError, match="CAM needs a head that takes the mean over positions"):
        saliency("cam", network(0, curved=True), pixels)

    def relus(params, maps):  # doubles with its input, and is no linear layer
        return jax.nn.relu(maps.mean(axis=(1, 2)) @ params["head"]) @ np.eye(5, dtype=np.float32)

    bent = SimpleNamespace(params=target.params, trunk=target.trunk, head=relus)
    with pytest.raises(ValueError, match="CAM needs a head that takes the mean over positions"):
        saliency("cam", bent, pixels)
