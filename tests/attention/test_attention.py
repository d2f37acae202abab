from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdesc.attention import cam_of_maps, grad_cam
from tests.reference import attention as reference

CLASSES = 5


def linear_head(seed, channels=6):
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(CLASSES, channels)).astype(np.float32)
    bias = rng.normal(size=CLASSES).astype(np.float32)
    return weight, bias, lambda maps: maps.mean(axis=(1, 2)) @ weight.T + bias[None]


def feature_maps(seed, batch=4, height=3, width=5, channels=6):
    return np.random.default_rng(seed + 50).normal(size=(batch, height, width, channels))


@pytest.mark.parametrize("seed", range(3))
def test_linear_head_gives_closed_form_cam(seed):
    weight, bias, head = linear_head(seed)
    maps = feature_maps(seed).astype(np.float32)
    classes = np.array([0, 4, 2, 2])
    found = cam_of_maps(head, maps, classes)
    for image, label in enumerate(classes):
        closed = np.maximum(reference.cam(weight, maps[image], label), 0) / 15
        np.testing.assert_allclose(found[image], closed, atol=1e-6)
        defined = reference.grad_cam_linear(weight, bias, maps[image], label)
        np.testing.assert_allclose(found[image], defined, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_curved_head_gives_the_definition(seed):
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(3 * 5 * 6, CLASSES)).astype(np.float32)

    def head(maps):
        return jnp.tanh(maps.reshape(len(maps), -1) @ weight / 4) ** 2

    def head64(feature_map):
        return np.tanh(feature_map.reshape(-1) @ weight.astype(np.float64) / 4) ** 2

    maps = feature_maps(seed).astype(np.float32)
    found = cam_of_maps(head, maps, np.arange(4))
    for image in range(4):
        numeric = reference.grad_cam_numeric(head64, maps[image], image)
        np.testing.assert_allclose(found[image], numeric, atol=2e-6)


def network(seed):
    """A small network whose trunk can't be differentiated."""

    @jax.custom_jvp
    def undifferentiable(maps):
        return maps

    @undifferentiable.defjvp
    def _(primals, tangents):
        raise AssertionError("the trunk was differentiated")

    rng = np.random.default_rng(seed)
    params = {
        "trunk": rng.normal(size=(3, 6)).astype(np.float32),
        "head": rng.normal(size=(6, CLASSES)).astype(np.float32),
    }
    calls = []

    def trunk(params, pixels):
        calls.append(pixels.shape)
        maps = jax.nn.relu(undifferentiable(pixels[:, ::4, ::4] @ params["trunk"]))
        return maps, {"early": pixels}

    def head(params, maps):
        return maps.mean(axis=(1, 2)) @ params["head"]

    return SimpleNamespace(params=params, trunk=trunk, head=head, calls=calls)


def test_grad_cam_of_given_and_of_predicted_classes():
    target = network(0)
    pixels = np.random.default_rng(1).normal(size=(4, 12, 20, 3)).astype(np.float32)
    pixels += 2 * np.eye(3, dtype=np.float32)[[0, 1, 2, 0], None, None]
    maps, _ = target.trunk(target.params, pixels)
    predicted = np.argmax(target.head(target.params, maps), axis=1)
    assert len(set(predicted.tolist())) > 1
    given = np.array([3, 1, 0, 2])
    for classes, expected in ((None, predicted), (predicted, predicted), (given, given)):
        found = grad_cam(target, pixels, classes)
        assert found.shape == (4, 3, 5)
        assert np.min(found) >= 0
        for image, label in enumerate(expected):
            closed = reference.cam(target.params["head"].T, maps[image], label)
            np.testing.assert_allclose(found[image], np.maximum(closed, 0) / 15, atol=1e-6)


def test_images_of_a_batch_do_not_meet():
    target = network(2)
    pixels = np.random.default_rng(2).normal(size=(3, 8, 8, 3)).astype(np.float32)
    together = grad_cam(target, pixels)
    pixels[1] = np.nan
    poisoned = grad_cam(target, pixels)
    assert np.isnan(poisoned[1]).all()
    np.testing.assert_array_equal(poisoned[0], together[0])
    np.testing.assert_array_equal(poisoned[2], together[2])


def test_one_trace_whatever_the_parameters():
    target = network(3)
    pixels = np.ones((2, 8, 8, 3), np.float32)
    first = grad_cam(target, pixels)
    other = SimpleNamespace(
        params=jax.tree.map(lambda x: 2 * x, target.params), trunk=target.trunk, head=target.head
    )
    second = grad_cam(other, 0.5 * pixels)
    assert len(target.calls) == 1
    np.testing.assert_allclose(second, 2 * np.asarray(first), rtol=1e-5)


@pytest.mark.parametrize("classes", [[0, 5], [-1, 2]])
def test_unknown_class(classes):
    with pytest.raises(
        ValueError, match=r"classes run from .*, but the network has classes 0 to 4"
    ):
        grad_cam(network(0), np.ones((2, 8, 8, 3), np.float32), np.array(classes))
