from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdesc.attention import (
    Window,
    cam_of_maps,
    grad_cam,
    peaks,
    random_centre,
    resized_shape,
    window,
)
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
    np.testing.assert_array_equal(peaks(poisoned)[1][1], False)


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


def test_peaks_equal_the_definition():
    rng = np.random.default_rng(0)
    cams = np.maximum(np.round(rng.normal(size=(40, 3, 4)), 0), 0).astype(np.float32)
    cams[0] = 0
    cams[1, 2, 2] = np.nan
    cams[2] = np.nan
    cams[3] = -1
    centres, found = peaks(cams)
    for cam, centre, was_found in zip(cams, centres, found, strict=True):
        assert (tuple(centre), was_found) == reference.peak(cam)
    assert found.sum() > 20
    np.testing.assert_array_equal(centres[:4], 0.5)
    np.testing.assert_array_equal(found[:4], False)


@pytest.mark.parametrize("cells", [1, 3, 7, 9, 11, 13])
def test_the_middle_cell_is_the_exact_middle(cells):
    cams = np.zeros((1, cells, cells), np.float32)
    cams[0, cells // 2, cells // 2] = 1
    centres, found = peaks(cams)
    assert found[0]
    np.testing.assert_array_equal(centres, [[0.5, 0.5]])


def test_middle_window_is_torchvisions_centre_crop():
    for side in (1, 96, 223, 224):
        for length in range(side, 601):
            # As torchvision's `center_crop` has it.
            corner = round((length - side) / 2.0)
            assert window(length, 600, side, (0.5, 0.5)).top == corner
            assert window(600, length, side, (0.5, 0.5)).left == corner


def test_windows_equal_the_definition_and_stay_inside():
    rng = np.random.default_rng(0)
    for _ in range(300):
        height, width = rng.integers(10, 300, 2).tolist()
        side = int(rng.integers(1, min(height, width) + 1))
        centre = tuple(rng.uniform(-0.1, 1.1, 2).tolist())
        found = window(height, width, side, centre)
        assert (found.top, found.left) == reference.window(height, width, side, centre)
        assert 0 <= found.top <= height - side
        assert 0 <= found.left <= width - side
    assert window(256, 400, 224, (0.0, 1.0)) == Window(top=0, left=176, side=224)


@pytest.mark.parametrize(
    ("shape", "shorter", "expected"),
    [
        ((375, 500), 256, (256, 341)),
        ((500, 375), 256, (341, 256)),
        ((500, 500), 256, (256, 256)),
        ((1, 1000), 2, (2, 2000)),
        ((333, 500), 224, (224, 336)),
        ((256, 300), 256, (256, 300)),
    ],
)
def test_resized_shape(shape, shorter, expected):
    assert resized_shape(*shape, shorter) == expected


@pytest.mark.parametrize(("height", "width", "field"), [(96, 128, 0.5), (300, 200, 224 / 256)])
def test_random_windows_are_uniform_over_the_places_that_fit(height, width, field):
    centres = np.array([random_centre(3, i, height, width, field) for i in range(2000)])
    side = field * min(height, width)
    lowest = np.array([side / 2 / height, side / 2 / width])
    shares = (centres - lowest) / (1 - 2 * lowest)
    assert shares.min() >= 0
    assert shares.max() <= 1
    # Uniform: mean 1/2 and variance 1/12, each within four standard errors.
    np.testing.assert_allclose(shares.mean(axis=0), 0.5, atol=4 / np.sqrt(12 * 2000))
    np.testing.assert_allclose(shares.var(axis=0), 1 / 12, atol=4 / np.sqrt(180 * 2000))
    assert abs(np.corrcoef(shares.T)[0, 1]) < 4 / np.sqrt(2000)


def test_random_windows_depend_on_seed_and_image_only():
    one = random_centre(3, 1234, 96, 128, 0.5)
    assert one == random_centre(3, 1234, 96, 128, 0.5)
    assert one != random_centre(4, 1234, 96, 128, 0.5)
    assert one != random_centre(3, 1235, 96, 128, 0.5)


def test_errors_of_windows():
    with pytest.raises(ValueError, match="a window of side 11 doesn't fit an image of 10 x 20"):
        window(10, 20, 11, (0.5, 0.5))
    with pytest.raises(ValueError, match=r"centre is \(nan, 0.5\), but it must be finite"):
        window(10, 20, 5, (float("nan"), 0.5))
    with pytest.raises(ValueError, match="an image of 0 x 20 can't be resized to a shorter side"):
        resized_shape(0, 20, 5)
