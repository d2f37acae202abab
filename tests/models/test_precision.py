"""float32 products everywhere, for any default of an accelerator: read from the programs."""

import json
from collections import Counter
from dataclasses import asdict, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.lax import Precision
from safetensors.torch import save_file

import jaxdesc as jd
from jaxdesc.attention import attention_maps
from jaxdesc.models import encoder
from jaxdesc.models.resnet_config import TIMM_SIZES
from jaxdesc.models.taps import recorded
from tests.models.torch_checkpoints import torch_model
from tests.models.torch_resnets import relative

PRODUCTS = ("dot_general", "conv_general_dilated")
LOW, FULL = ("bfloat16", "bfloat16"), ("float32", "float32")
EXACT = FULL, (Precision.HIGHEST, Precision.HIGHEST)


def equations(program):
    """Every equation in a program and in the programs within it."""
    for equation in program.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values())):
            if isinstance(value, ClosedJaxpr | Jaxpr):
                yield from equations(getattr(value, "jaxpr", value))


def products(function, *arguments):
    """The types that each product takes, and its precision."""
    return [
        (tuple(str(v.aval.dtype) for v in equation.invars), equation.params["precision"])
        for equation in equations(jax.make_jaxpr(function)(*arguments).jaxpr)
        if equation.primitive.name in PRODUCTS
    ]


def towers(clip):
    """Both towers as functions of the parameters, and these."""
    pixels, ids = np.zeros((1, 48, 48, 3), np.float32), np.zeros((1, 8), np.int32)
    return (
        (lambda p: encoder._images(clip.images, p, pixels), clip.params),
        (lambda p: encoder._texts(clip.texts, p, ids, ids[:, 0]), clip.params),
    )


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


def test_a_target_s_products(pair):
    full, low = pair
    pixels = jnp.zeros((1, 112, 112, 3))
    found = products(full._everything, full.params, pixels)
    assert len(found) > 12
    assert set(found) == {EXACT}
    found = Counter(types for types, _ in products(low._everything, low.params, pixels))
    # The logits, twice: once with the gradient, which is of the linear layer alone.
    assert (set(found), found[FULL]) == ({LOW, FULL}, 3)
    assert found[LOW] >= 2 * 12
    _, values = recorded(low.apply, low.params, pixels, low.layers)
    assert {value.dtype for value in values.values()} == {jnp.dtype("bfloat16")}


VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "patch_size": 8}
ARCHITECTURES = {
    "ViT": ("ViTForImageClassification", VIT),
    "DINOv2": ("Dinov2ForImageClassification", VIT | {"use_swiglu_ffn": True}),
    "ConvNeXt": ("ConvNextForImageClassification", {"depths": [1, 1, 1, 1]}),
    "ConvNeXt V2": ("ConvNextV2ForImageClassification", {"depths": [1, 1, 1, 1]}),
}


def by_name(title, folder):
    """Write a small network of random weights, ResNet-D by its definition."""
    if title in ARCHITECTURES:
        name, entries = ARCHITECTURES[title]
        shared = {"image_size": 48, "num_labels": 7}
        shared |= {"hidden_sizes": [16, 24, 32, 40]} if "depths" in entries else {}
        torch_model(name, shared | entries).save_pretrained(folder)
        return
    sizes = {"layers": (1, 2, 1, 1), "channels": (16, 24, 32, 40), "num_classes": 7}
    config = replace(TIMM_SIZES["resnext50d_32x4d"], **sizes)
    save_file(relative(**asdict(config)).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config.to_timm()))


@pytest.mark.parametrize(
    "title",
    [
        *("ResNeXt-D", "ViT", "ConvNeXt"),
        *(pytest.param(title, marks=pytest.mark.full) for title in ("DINOv2", "ConvNeXt V2")),
    ],
)
def test_every_architecture_in_bfloat16(title, tmp_path):
    """Every tap has the weights' type, the logits are float32, and all are near float32's."""
    by_name(title, tmp_path)
    preprocess = jd.Preprocess(48, 1.0, "bicubic", (0.5,) * 3, (0.5,) * 3)
    full, low = (
        jd.load_target(tmp_path, precision=precision, preprocess=preprocess)
        for precision in ("float32", "bfloat16")
    )
    pixels = preprocess.normalise(SMALL_VIEWS)

    def run(target):
        see = jax.jit(lambda p, x: recorded(target.apply, p, x, target.layers))
        return see(target.params, pixels)

    (exact, values), (logits, rounded) = run(full), run(low)
    assert {x.dtype for x in rounded.values()} == {jnp.dtype("bfloat16")}
    assert exact.dtype == logits.dtype == jnp.float32
    for one, other in [(exact, logits), *((values[name], rounded[name]) for name in values)]:
        assert cosines(one, np.asarray(other, np.float32)).min() > 0.999
        assert not np.array_equal(one, other)


@pytest.mark.full
def test_activations_in_bfloat16_are_near(pair):
    for layers, pooling in ((("fc", "layer2"), "mean"), (("layer4",), "max")):
        found = [network.activate(VIEWS, layers, pooling)[0] for network in pair]
        for full, low in ([values[layer] for values in found] for layer in layers):
            assert full.dtype == low.dtype == jnp.float32
            assert cosines(full, low).min() > 0.999
            assert not np.array_equal(full, low)
            rounded = np.asarray(low, jnp.bfloat16).astype(np.float32)
            assert pooling == "max" or not np.array_equal(low, rounded)


@pytest.mark.full
def test_attention_in_bfloat16_is_near(pair):
    full, low = (attention_maps(network, VIEWS, np.arange(6))[0] for network in pair)
    assert low.dtype == jnp.float32
    seen = np.asarray(full).max(axis=(1, 2)) > 0
    assert seen.sum() > 2
    assert cosines(full[seen], low[seen]).min() > 0.999
    np.testing.assert_array_equal(full[~seen], low[~seen])


def test_a_clip_s_products(clips):
    full, low = (towers(clip) for clip in clips)
    # A layer: q, k, v, scores, mixing, out, fc1, fc2; and the patches and a projection.
    for exact, cast, count in zip(full, low, (4 * 8 + 2, 2 * 8 + 1), strict=True):
        assert products(*exact) == [EXACT] * count
        # All but the projection.
        assert Counter(types for types, _ in products(*cast)) == {LOW: count - 1, FULL: 1}


@pytest.mark.full
def test_unit_features_in_bfloat16_are_near(clips):
    words = ["a red star", "sky", "a photo of a cat"]
    for ask in (lambda clip: clip.encode_views(SMALL_VIEWS), lambda clip: clip.encode_texts(words)):
        full, low = map(ask, clips)
        assert low.dtype == jnp.float32
        assert cosines(full, low).min() > 0.999
        assert not np.array_equal(full, low)
        np.testing.assert_allclose(np.linalg.norm(low, axis=1), 1, atol=1e-6)


def test_softmax_and_layer_norm_stay_float32(clips):
    images, params = towers(clips[1])[0]
    program = str(jax.make_jaxpr(images)(params))
    for name in ("exp", "rsqrt", "div"):
        lines = [line for line in program.splitlines() if f"= {name}" in line]
        assert lines, name
        assert all(":f32[" in line.partition("=")[0] for line in lines), name


def test_the_precision_is_part_of_the_fingerprint(pair, clips):
    for full, low in (pair, clips):
        assert full.fingerprint != low.fingerprint
