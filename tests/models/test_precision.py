"""float32 products everywhere, for any default of an accelerator: read from the programs."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.lax import Precision

import jaxdesc as jd
from jaxdesc.attention import attention_maps
from jaxdesc.models import encoder
from jaxdesc.models.taps import recorded

PRODUCTS = ("dot_general", "conv_general_dilated")


def products(program):
    """Every product in a program and in the programs within it."""
    for equation in program.eqns:
        if equation.primitive.name in PRODUCTS:
            yield equation
        for value in jax.tree.leaves(list(equation.params.values())):
            if isinstance(value, ClosedJaxpr):
                yield from products(value.jaxpr)
            elif isinstance(value, Jaxpr):
                yield from products(value)


def precisions(function, *arguments):
    found = products(jax.make_jaxpr(function)(*arguments).jaxpr)
    return [equation.params["precision"] for equation in found]


def types(function, *arguments):
    """Count products by the types that they take."""
    found = products(jax.make_jaxpr(function)(*arguments).jaxpr)
    return Counter(tuple(str(v.aval.dtype) for v in equation.invars) for equation in found)


@pytest.fixture(scope="module")
def clip():
    return jd.load_clip("scenes")


HIGHEST = {(Precision.HIGHEST, Precision.HIGHEST)}


def test_a_target_and_its_attention():
    network = jd.load_target("scenes")
    found = precisions(network._everything, network.params, np.zeros((1, 112, 112, 3), np.float32))
    assert len(found) > 12
    assert set(found) == HIGHEST


def test_clip_s_towers(clip):
    pixels, ids = np.zeros((1, 48, 48, 3), np.float32), np.zeros((1, 8), np.int32)
    images = precisions(lambda p: encoder._images(clip.images, p, pixels), clip.params)
    texts = precisions(lambda p: encoder._texts(clip.texts, p, ids), clip.params)
    # A layer: q, k, v, scores, mixing, out, fc1, fc2; and the patches and a projection.
    assert (len(images), len(texts)) == (4 * 8 + 2, 2 * 8 + 1)
    assert {*images, *texts} == HIGHEST


def test_without_it_precision_would_be_the_device_s(clip):
    """Show that the test above can fail: a layer called past its tower has no precision."""
    from flax import nnx

    model = nnx.merge(clip.images.graph, clip.params)
    found = precisions(model.vision.layers[0], jnp.zeros((1, 4, 128)))
    assert set(found) == {None}


# bfloat16, if it is asked for.

LOW, FULL = ("bfloat16", "bfloat16"), ("float32", "float32")
VIEWS = np.random.default_rng(0).integers(0, 256, (6, 112, 112, 3), dtype=np.uint8)
SMALL_VIEWS = VIEWS[:, :48, :48]


def cosines(one, other):
    rows = [np.asarray(a, np.float64).reshape(len(a), -1) for a in (one, other)]
    norms = [np.linalg.norm(a, axis=1) for a in rows]
    return (rows[0] * rows[1]).sum(axis=1) / (norms[0] * norms[1])


@pytest.fixture(scope="module")
def pair(networks):
    """A target of random weights in both precisions."""
    load = jd.load_target
    return load(str(networks.target)), load(str(networks.target), precision="bfloat16")


@pytest.fixture(scope="module")
def clips(networks):
    load = jd.load_clip
    return load(str(networks.clip)), load(str(networks.clip), precision="bfloat16")


def test_a_target_in_bfloat16(pair):
    full, low = pair
    pixels = jnp.zeros((1, 112, 112, 3))
    assert set(types(full._everything, full.params, pixels)) == {FULL}
    found = types(low._everything, low.params, pixels)
    # The logits, twice: once with the gradient, which is of the linear layer alone.
    assert (set(found), found[FULL]) == ({LOW, FULL}, 3)
    assert found[LOW] >= 2 * 12
    _, values = recorded(low.apply, low.params, pixels, low.layers)
    assert {value.dtype for value in values.values()} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize(
    ("layer", "pooling"), [("fc", "mean"), ("layer2", "mean"), ("layer4", "max")]
)
def test_activations_in_bfloat16_are_near(pair, layer, pooling):
    full, low = (network.activations(VIEWS, layer, pooling) for network in pair)
    assert full.dtype == low.dtype == jnp.float32
    assert cosines(full, low).min() > 0.999
    assert not np.array_equal(full, low)
    rounded = np.asarray(low, jnp.bfloat16).astype(np.float32)
    assert pooling == "max" or not np.array_equal(low, rounded)


def test_attention_in_bfloat16_is_near(pair):
    full, low = (attention_maps(network, VIEWS, np.arange(6))[0] for network in pair)
    assert low.dtype == jnp.float32
    seen = np.asarray(full).max(axis=(1, 2)) > 0
    assert seen.sum() > 2
    assert cosines(full[seen], low[seen]).min() > 0.999
    np.testing.assert_array_equal(full[~seen], low[~seen])


def test_a_clip_in_bfloat16(clips):
    full, low = clips
    ids = np.zeros((1, 8), np.int32)
    pixels = np.zeros((1, 48, 48, 3), np.float32)
    images = types(lambda p: encoder._images(low.images, p, pixels), low.params)
    texts = types(lambda p: encoder._texts(low.texts, p, ids), low.params)
    # All but the projection.
    assert (images[FULL], texts[FULL]) == (1, 1)
    assert (images[LOW], texts[LOW]) == (4 * 8 + 1, 2 * 8)
    assert set(types(lambda p: encoder._images(full.images, p, pixels), full.params)) == {FULL}


def test_unit_features_in_bfloat16_are_near(clips):
    words = ["a red star", "sky", "a photo of a cat"]
    for ask in (lambda clip: clip.encode_views(SMALL_VIEWS), lambda clip: clip.encode_texts(words)):
        full, low = map(ask, clips)
        assert low.dtype == jnp.float32
        assert cosines(full, low).min() > 0.999
        assert not np.array_equal(full, low)
        np.testing.assert_allclose(np.linalg.norm(low, axis=1), 1, atol=1e-6)


def test_softmax_and_layer_norm_stay_float32(clips):
    _, low = clips
    pixels = np.zeros((1, 48, 48, 3), np.float32)
    program = str(jax.make_jaxpr(lambda p: encoder._images(low.images, p, pixels))(low.params))
    for name in ("exp", "rsqrt", "div"):
        lines = [line for line in program.splitlines() if f"= {name}" in line]
        assert lines, name
        assert all(":f32[" in line.partition("=")[0] for line in lines), name


def test_the_precision_is_part_of_the_fingerprint(pair, clips):
    for full, low in (pair, clips):
        assert full.fingerprint != low.fingerprint


@pytest.mark.parametrize("load", [jd.load_target, jd.load_clip])
def test_another_precision_is_refused(load):
    message = r"^Unknown precision 'float16': expected one of float32, bfloat16\.$"
    with pytest.raises(jd.InputError, match=message):
        load("scenes", precision="float16")
