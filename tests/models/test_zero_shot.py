"""Classes by name, and networks without any: units of image towers are described."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import jaxdesc as jd
from jaxdesc.attention import attention_maps
from jaxdesc.images.sources import open_source
from jaxdesc.scenes.world import CLASSES
from tests.models.torch_checkpoints import torch_model
from tests.models.torch_namers import write_siglip

NAMES = [names[:2] for names in CLASSES.values()]
CONCEPTS = ["star", "moth", "key", "red", "blue", "brick wall"]
SMALL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "mlp_ratio": 2,
    "image_size": 24, "patch_size": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def namer():
    return jd.load_namer("scenes")


@pytest.fixture(scope="module")
def target(namer):
    return jd.zero_shot(namer, NAMES)


def views(preprocess, count):
    source = open_source(f"scenes:count={count}")
    images = [source[index] for index in range(count)]
    pixels = [preprocess.cut(example.image, (0.5, 0.5))[0] for example in images]
    return np.stack(pixels), np.array([example.label for example in images])


def test_logits_are_scaled_cosines(namer, target):
    pixels, labels = views(namer.preprocess, 24)
    texts = namer.encode_texts([f"A photo of a {names[0]}" for names in NAMES])
    wanted = namer.logit_scale * np.asarray(namer.encode_views(pixels)) @ texts.T
    logits = np.asarray(target.logits(pixels))
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-5 * namer.logit_scale)
    assert (logits.argmax(axis=1) == labels).mean() > 0.15  # of 32 classes
    assert target.classes == tuple(map(tuple, NAMES))


def test_a_sigmoid_s_logits_have_its_bias(tmp_path, rng):
    write_siglip(tmp_path)
    namer = jd.load_namer(tmp_path)
    target = jd.zero_shot(namer, ["cat", "dog", "star"], template="the {concept}")
    pixels = rng.integers(0, 256, (2, 24, 24, 3), dtype=np.uint8)
    texts = namer.encode_texts(["the cat", "the dog", "the star"])
    wanted = namer.logit_scale * np.asarray(namer.encode_views(pixels)) @ texts.T
    wanted = wanted + namer.logit_bias
    np.testing.assert_allclose(target.logits(pixels), wanted, rtol=0, atol=1e-5)
    maps, _ = attention_maps(target, pixels)
    assert maps.shape == (2, 3, 3)


def test_its_layers_are_those_of_the_image_tower(namer, target):
    tower = jd.load_target("scenes:clip")
    assert target.layers == ("fc", *tower.layers)
    assert target.attention_layer == tower.attention_layer == "blocks.3/norm1"
    pixels, _ = views(namer.preprocess, 2)
    found, wanted = (net.activations(pixels, "blocks.2", "max") for net in (target, tower))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.full
def test_its_classes_are_described_by_attention(namer, target, tmp_path):
    options = {"images": "scenes:count=64", "concepts": "scenes", "exemplars": 3, "quiet": True}
    found = jd.describe(target, namer, **options, workdir=tmp_path)
    assert len(found) == len(NAMES)
    assert found.metrics.values["hit"].mean() > 0.1
    layer = jd.describe(target, namer, **options, layer="blocks.2", workdir=tmp_path)
    assert len(layer) == 128


@pytest.mark.parametrize("view", ["full", "centre", "random"])
def test_units_without_classes_are_described(view, namer, tmp_path):
    torch_model("Dinov2Model", SMALL).save_pretrained(tmp_path)
    target = jd.load_target(tmp_path, preprocess=jd.Preprocess(24, 1.0, "bicubic", *HALF))
    assert target.logit_count == 0
    options = {"images": "scenes:count=12", "concepts": CONCEPTS, "exemplars": 4, "quiet": True}
    found = jd.describe(target, namer, **options, layer="blocks.1", view=view)
    assert len(found) == 32
    assert any(neuron.concepts for neuron in found)
    if view == "full":
        with pytest.raises(jd.InputError, match=r"has no classes, so it has no attention map"):
            jd.describe(target, namer, **options, layer="blocks.1")
        with pytest.raises(jd.InputError, match=r"Unknown layer 'fc'"):
            jd.describe(target, namer, **options, view=view)


HALF = (0.5,) * 3, (0.5,) * 3


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("cat", r"^classes are 'cat': give a list"),
        (["cat", ""], r"^class 1 is '': give its name"),
        (["cat", ("cat", "dog")], r"^classes 0 and 1 are both 'cat'"),
        (["cat"], r"give at least two"),
    ],
)
def test_names_that_are_none_are_refused(classes, message, namer):
    with pytest.raises(jd.InputError, match=message):
        jd.zero_shot(namer, classes)


def test_an_encoder_without_layers_is_refused(namer):
    with pytest.raises(jd.InputError, match=r"clip does not offer the layers of its image tower"):
        jd.zero_shot(replace(namer, apply=None, name="clip"), NAMES)


def test_two_of_the_same_are_one(namer, target):
    other = jd.zero_shot(namer, NAMES)
    assert other.fingerprint == target.fingerprint
    assert jd.zero_shot(namer, NAMES[::-1]).fingerprint != target.fingerprint
    assert jax.tree.leaves(other.params["namer"])[0] is jax.tree.leaves(namer.params)[0]
