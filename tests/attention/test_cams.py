"""Attention maps against the papers' equations in float64, and as the pipeline computes them."""

import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdesc as jd
from jaxdesc.attention import CAMS, attention_maps
from jaxdesc.attention.cams import GRAD_CAM, OF_TOKENS, cam_fingerprint, check_cam, suited
from jaxdesc.images.windows import peaks
from tests import plain_target
from tests.conftest import ROOT
from tests.reference import attention as reference

CLASSES, CHANNELS = 5, 6
LABELS = np.array([4, 0, 2])


def patches(params, pixels, maximum=jnp.maximum):
    """A layer of 4 × 4 patches after a ReLU; one of its channels is nowhere 0."""
    count, height, width, _ = pixels.shape
    cells = pixels.reshape(count, height // 4, 4, width // 4, 4, 3).swapaxes(2, 3)
    cells = cells.reshape(count, height // 4, width // 4, 48)
    return maximum(cells @ params["mix"], 0) + params["offset"][None, None, None]


def linear(params, maps, tanh=jnp.tanh):
    return maps.mean(axis=(1, 2)) @ params["weight"] + params["bias"][None]


def curved(params, maps, tanh=jnp.tanh):
    return tanh(maps.reshape(len(maps), -1) @ params["within"]) @ params["curved"]


def target_of(head=linear, seed=1, **changes):
    rng = np.random.default_rng(seed)
    params = {
        "offset": np.array([0.4, 0, 0, 0, 0, 0]),
        "mix": rng.normal(size=(48, CHANNELS)) / 4,
        "weight": rng.normal(size=(CHANNELS, CLASSES)),
        "bias": rng.normal(size=CLASSES),
        "within": rng.normal(size=(3 * 3 * CHANNELS, 12)) / 8,
        "curved": rng.normal(size=(12, CLASSES)),
    }
    params["mix"][:, 2] = 0  # a channel without differences, which has no weight in Score-CAM
    return jd.Target(
        params={name: value.astype(np.float32) for name, value in params.items()},
        apply=plain_target.network(patches, head),
        preprocess=replace(plain_target.PREPROCESS, size=12),
        **changes,
    )


def images(seed=1, count=3):
    return np.random.default_rng(seed + 10).normal(size=(count, 12, 12, 3)).astype(np.float32)


def expected(name, target, head, pixels, maps, label):
    """One image's map by the oracle, in float64."""
    params = jax.tree.map(lambda x: x.astype(np.float64), target.params)

    def logits(maps):
        return head(params, maps[None], np.tanh)[0]

    def whole(pixels):
        return logits(patches(params, pixels[None], np.maximum)[0])

    if name == "cam":
        return reference.cam(target.params["weight"].T, maps, label)
    if name == "score_cam":
        return reference.score_cam(whole, pixels, maps, label)
    return getattr(reference, name)(logits, maps, label)


OF_A_LAYER = [name for name, cam in CAMS.items() if not cam.probabilities]


@pytest.mark.parametrize(
    ("name", "head"), [("cam", linear), *((name, curved) for name in OF_A_LAYER if name != "cam")]
)
def test_it_equals_the_definition(name, head):
    target, pixels = target_of(head), images()
    maps, logits = map(np.asarray, plain_target.maps_and_logits(target, pixels))
    found, _ = attention_maps(target, pixels, LABELS, name)
    assert np.asarray(found).max() > 0
    for index, label in enumerate(LABELS):
        wanted = expected(name, target, head, pixels[index], maps[index], label)
        np.testing.assert_allclose(found[index], wanted, rtol=1e-4, atol=2e-6)
    predicted = logits.argmax(axis=1)
    unasked, classes = attention_maps(target, pixels, cam=name)
    np.testing.assert_array_equal(classes, predicted)
    asked = attention_maps(target, pixels, predicted, name)[0]
    np.testing.assert_allclose(unasked, asked, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["grad_cam", "score_cam"])
def test_images_of_a_batch_are_independent(name):
    target, pixels = target_of(), images(count=21)  # more than one piece
    together = np.asarray(attention_maps(target, pixels, np.arange(21) % CLASSES, name)[0])
    for image in (0, 15, 20):
        alone = attention_maps(target, pixels[[image]], np.array([image % CLASSES]), name)[0]
        np.testing.assert_allclose(together[image], alone[0], rtol=1e-5, atol=1e-6)
    pixels[1] = np.nan
    poisoned = np.asarray(attention_maps(target, pixels, np.arange(21) % CLASSES, name)[0])
    assert np.isnan(poisoned[1]).all()
    assert not peaks(poisoned)[1][1]
    others = np.arange(21) != 1
    np.testing.assert_array_equal(poisoned[others], together[others])


def test_the_backward_pass_ends_at_the_layer():
    @jax.custom_jvp
    def undifferentiable(maps):
        return maps

    @undifferentiable.defjvp
    def _(primals, tangents):
        raise AssertionError("differentiated before the layer")

    def early(params, pixels):
        return undifferentiable(patches(params, pixels))

    target, pixels = target_of(), images()
    bent = replace(target, apply=plain_target.network(early, linear))
    assert np.array_equal(attention_maps(bent, pixels)[0], attention_maps(target, pixels)[0])


def two_layers(params, pixels, tap):
    first = tap("first", patches(params, pixels))
    return linear(params, tap("second", jax.nn.relu(first @ params["square"])))


def test_any_layer_has_a_map():
    """At the first of two layers, against the gradient of what follows it, by differences."""
    target = target_of()
    square = np.random.default_rng(3).normal(size=(CHANNELS, CHANNELS)).astype(np.float32)
    target = replace(target, params=target.params | {"square": square}, apply=two_layers)
    assert target.attention_layer == "second"
    assert replace(target, attention="first").attention_layer == "first"
    pixels, params = images(count=1), target.params
    (maps,) = np.asarray(patches(params, pixels))

    def behind(maps):
        second = np.maximum(maps @ square.astype(np.float64), 0)
        return linear(params, second[None])[0]

    wanted = reference.grad_cam(behind, maps, 3)
    found, _ = attention_maps(target, pixels, np.array([3]), layer="first")
    np.testing.assert_allclose(found[0], wanted, rtol=1e-4, atol=1e-5)


def test_without_a_name_the_map_is_what_suits_the_network():
    grids, tokens = target_of(), jd.load_target("scenes:vit")
    assert (suited(grids), suited(tokens), suited(tokens, "legrad")) == (
        GRAD_CAM,
        OF_TOKENS,
        "legrad",
    )
    for target, pixels in ((grids, images()), (tokens, np.zeros((1, 64, 64, 3), np.float32))):
        wanted, _ = attention_maps(target, pixels, cam=suited(target))
        np.testing.assert_array_equal(attention_maps(target, pixels)[0], wanted)


def views(seed, count=9):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("name", ["cam", "score_cam"])
def test_one_trace_per_shape(name):
    traced = []

    def counted(params, pixels):
        traced.append(pixels.shape)
        return plain_target.patches(params, pixels)

    target = plain_target.plain_target(apply=plain_target.network(counted))
    found, _ = attention_maps(target, views(2), None, name)
    pixels = target.preprocess.normalise(views(2))  # as uint8 views are, too
    np.testing.assert_allclose(
        attention_maps(target, pixels, None, name)[0], found, rtol=1e-5, atol=1e-6
    )
    doubled = replace(target, params=jax.tree.map(lambda x: 2 * x, target.params))
    assert doubled.layers  # its shapes take a trace of their own
    check_cam(doubled, name)
    before = len(traced)
    attention_maps(doubled, views(3), None, name)
    assert len(traced) == before


PROGRAM = """
import jax
import numpy as np
from jaxdesc.attention import attention_maps
from jaxdesc.runtime.mesh import local_mesh
from tests import plain_target
from tests.attention.test_cams import views

jax.config.update("jax_num_cpu_devices", 8)
target = plain_target.plain_target()
shared, labels = target.on(local_mesh()), np.arange(16, dtype=np.int32) % 6
for name, classes in (("grad_cam", None), ("score_cam", labels)):
    eight, _ = attention_maps(shared, views(4, 16), classes, name)
    assert len(eight.sharding.device_set) == 8
    assert not eight.sharding.is_fully_replicated
    one = np.asarray(attention_maps(target, views(4, 16), classes, name)[0])
    np.testing.assert_allclose(np.asarray(eight), one, rtol=1e-5, atol=1e-6)
print("same")
"""


@pytest.mark.full
def test_eight_devices_share_the_views_out():
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "same\n"


def test_what_a_map_from_outside_computes_names_the_artifacts(monkeypatch):
    def brightest(seen):
        return jax.nn.relu(seen.maps.max(axis=3) * power)

    monkeypatch.setitem(CAMS, "brightest", jd.attention.Cam("Brightest channel", brightest))
    target, prints = target_of(), set()
    for power in (1.0, 2.0, 1.0):  # noqa: B007
        prints.add(cam_fingerprint(target, "brightest"))
    assert len(prints) == 2
    assert cam_fingerprint(target, "grad_cam") == "grad_cam"


def relus(params, maps):
    """Doubles with its input, but is not linear."""
    return jax.nn.relu(linear(params, maps))


NOT_LINEAR = "^target: CAM needs logits that are one linear layer"


@pytest.mark.parametrize(
    ("head", "arguments", "message"),
    [
        (linear, {"cam": "gradcam"}, r"^Unknown attention map 'gradcam': expected one of cam, "),
        (linear, {"classes": np.array([0, 5, 1])}, r"^Classes are 0 to 5, but .* classes 0 to 4"),
        (linear, {"classes": np.array([-1, 2, 3])}, r"^Classes are -1 to 3, but .* has classes"),
        (linear, {"layer": "layer4"}, "^Unknown layer 'layer4'"),
        (linear, {"layer": "fc"}, "^Layer 'fc' of .* has no rows and columns"),
        (curved, {"cam": "cam"}, NOT_LINEAR),
        (relus, {"cam": "cam"}, NOT_LINEAR),
        (lambda params, maps: None, {}, "^target has no classes, so it has no"),
    ],
)
def test_errors(head, arguments, message):
    with pytest.raises(jd.InputError, match=message):
        attention_maps(target_of(head), images(), **arguments)
