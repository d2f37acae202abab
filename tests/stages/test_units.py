"""Windows of units: each unit's own, on each of its exemplars."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxdesc as jd
from jaxdesc.attention import units
from jaxdesc.exemplars import Exemplars
from jaxdesc.images.example import Example
from jaxdesc.models.taps import recorded
from jaxdesc.pipeline import describe, describe_each, probe_pass
from jaxdesc.scenes.source import Scenes
from tests import plain_target
from tests.album import Album, Counting
from tests.reference import units as reference
from tests.runs import CONFIG, IMAGES, SIX, artifact, begin, changed

OWN = changed(CONFIG, crop={"of": "unit", "field": 0.5}, score={"exemplars": 3})
LINEAR, CURVED = "linear", "curved"


def curved(params, maps):
    return plain_target.head(params, jnp.tanh(maps))


TARGETS = {
    LINEAR: plain_target.plain_target(classes=SIX),
    CURVED: plain_target.plain_target(classes=SIX, apply=plain_target.network(head=curved)),
}


def one_by_one(kind):
    """The plain target in float64, an image at a time, as the oracle takes it."""
    params = {name: np.asarray(p, np.float64) for name, p in TARGETS[kind].params.items()}
    bend = np.tanh if kind == CURVED else np.asarray

    def head(name, maps):
        assert name == "patches"
        return bend(maps).mean(axis=(0, 1)) @ params["weight"] + params["bias"]

    def network(pixels):
        colours = pixels.astype(np.float64).reshape(4, 8, 4, 8, 3).mean(axis=(1, 3))
        maps = np.maximum(colours @ params["mix"], 0)
        return {"patches": maps}, head("patches", maps), head

    return network


@pytest.mark.parametrize("kind", [LINEAR, CURVED])
@pytest.mark.parametrize(
    ("layer", "pooling", "changes"),
    [
        ("fc", "mean", {}),
        ("fc", "mean", {"rank": "image"}),
        ("fc", "mean", {"cam": "layer_cam", "candidates": 3}),
        ("patches", "mean", {"field": 0.8}),
        ("patches", "max", {"rank": "image", "field": 1.0}),
    ],
    ids=["logits", "by image", "layer_cam", "channels", "whole side"],
)
def test_equals_the_oracle(kind, layer, pooling, changes, tmp_path, clip):
    config = changed(OWN, crop=changes, target={"layer": layer, "pooling": pooling})
    run = begin(tmp_path, config, TARGETS[kind], clip, Album(IMAGES))
    result, config = describe(run), run.config  # whose map is named
    crop, count = config.crop, config.score.exemplars
    units_of = one_by_one(kind), plain_target.PREPROCESS, Album(IMAGES), layer, pooling
    asked = crop.cam, crop.field, count, crop.candidates, crop.rank
    wanted = reference.unit_windows(*units_of, *asked)
    for neuron, rows in zip(result, wanted.exemplars, strict=True):
        assert [each.index for each in neuron.exemplars] == [image for image, _, _ in rows]
        boxes = [box for _, box, _ in rows]
        np.testing.assert_allclose([e.box for e in neuron.exemplars], boxes, rtol=1e-6)
        values = [value for _, _, value in rows]
        np.testing.assert_allclose([e.activation for e in neuron.exemplars], values, rtol=1e-4)
    assert result.fallbacks == wanted.fallbacks
    looked = artifact(tmp_path, result, "look")
    assert len(looked.read("images")) == len(wanted.keys)
    # The second pass is for maps that the first does not give.
    at_once = layer != "fc" or (kind == LINEAR and config.crop.cam == "grad_cam")
    assert any(tmp_path.glob("artifacts/maps-*")) != at_once


class TwoSpots(Album):
    """A red spot at the top left of each picture and a blue one at the bottom right."""

    def __getitem__(self, index):
        pixels = np.full((96, 96, 3), 128, np.uint8)
        pixels[4:20, 4:20] = 200 + index, 0, 0
        pixels[76:92, 76:92] = 0, 0, 240 + index
        return Example(Image.fromarray(pixels))


def colours(params, pixels, tap):
    maps = tap("colours", jnp.maximum(plain_target.patches(params, pixels), 0))
    return maps.mean(axis=(1, 2))


def test_two_units_look_at_different_objects_of_an_image(tmp_path, clip):
    """One unit sees red and the other blue, which is always the class that is predicted."""
    contrasts = np.array([[1, -1, -1], [-1, -1, 1]], np.float32).T
    target = jd.Target({"mix": contrasts}, colours, plain_target.PREPROCESS)
    config = changed(OWN, crop={"field": 0.4}, target={"layer": "colours"})
    source = TwoSpots(8)
    red, blue = describe(begin(tmp_path, config, target, clip, source))
    for exemplars, inside in ((red.exemplars, (12, 12)), (blue.exemplars, (84, 84))):
        assert len(exemplars) == 3
        for left, top, right, bottom in (e.box for e in exemplars):
            assert left <= inside[0] <= right
            assert top <= inside[1] <= bottom
            assert right - left < 48
    shared = changed(config, crop={"of": "class"})
    red, blue = describe(begin(tmp_path, shared, target, clip, source))
    assert blue.exemplars
    assert all(e.box[0] > 48 for neuron in (red, blue) for e in neuron.exemplars)


def test_peaks_of_the_first_pass_are_those_of_the_maps():
    target = TARGETS[LINEAR]
    pixels = np.stack([target.preprocess.squash(Album(9)[i].image) for i in range(9)])
    weights = units.weights_at_once(target, ("fc", "patches"), "mean", "grad_cam")
    look = units.looking_at_once(target, ("fc", "patches"), "mean", True, weights)
    found, classes, peaks = look(pixels)
    usual, same = target.activate(pixels, ("fc", "patches"), "mean", True)
    np.testing.assert_array_equal(classes, same)
    for layer, values in usual.items():
        np.testing.assert_allclose(found[layer], values, rtol=1e-5, atol=1e-6)
    for unit in range(target.logit_count):
        classes = np.full(len(pixels), unit)
        cams, _ = jd.attention.attention_maps(target, pixels, classes)
        flat = np.asarray(cams).reshape(len(cams), -1)
        wanted = np.where(flat.max(axis=1) > 0, flat.argmax(axis=1), units.NOWHERE)
        np.testing.assert_array_equal(peaks["fc"][:, unit], wanted)
    assert units.known_at_once(TARGETS[CURVED], "patches", "mean", "grad_cam")
    assert not units.known_at_once(TARGETS[CURVED], "fc", "mean", "grad_cam")
    assert not units.known_at_once(target, "fc", "mean", "layer_cam")


@pytest.mark.full
def test_maps_of_several_units_in_one_forward_pass():
    """A vision transformer's logits, and the units at its class token."""
    target = jd.load_target("scenes:vit")
    scenes = Scenes("count=3")
    pixels = np.stack([target.preprocess.squash(scenes[i].image) for i in range(3)])
    chosen = np.array([[0, 5], [7, 7], [31, 2]])
    for cam in ("grad_cam", "legrad"):
        maps = units.unit_maps(target, pixels, chosen, "fc", "mean", cam)
        for column in range(2):
            alone, _ = jd.attention.attention_maps(target, pixels, chosen[:, column], cam)
            np.testing.assert_allclose(maps[:, column], alone, rtol=1e-4, atol=1e-7)

    last = target.layers[-1]
    maps = units.unit_maps(target, pixels, chosen, last, "class")

    def value(params, pixels, tap):
        kept = {}

        def keep(name, x):
            kept[name] = tap(name, x)
            return kept[name]

        target.apply(params, pixels, keep)
        return kept[last][:, 0]

    reader = replace(target, apply=value, classes=())
    alone, _ = jd.attention.attention_maps(reader, pixels, chosen[:, 0])
    np.testing.assert_allclose(maps[:, 0], alone, rtol=1e-4, atol=1e-7)
    found = units.unit_maps(target, pixels, chosen, "blocks.1")
    _, values = recorded(
        target.apply, target.params, target.preprocess.normalise(pixels), ["blocks.1"]
    )
    tokens = np.asarray(values["blocks.1"])[:, target.prefix :]
    for image, pair in enumerate(chosen):
        for column, unit in enumerate(pair):
            wanted = np.maximum(tokens[image, :, unit], 0).reshape(10, 10)
            np.testing.assert_allclose(found[image, column], wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(jd.InputError, match=r"^Units at the class token of 'blocks.0' of .* 'max'"):
        units.check_units(target, "blocks.0", "class", "grad_cam")
    with pytest.raises(jd.InputError, match=r"^The attention map 'class_attention' is the same"):
        units.check_units(target, "fc", "mean", "class_attention")


def test_each_image_is_decoded_once_a_pass_and_each_window_encoded_once(tmp_path, clip):
    source = Counting(IMAGES)
    run = begin(tmp_path, changed(OWN, clip={"batch": 100}), TARGETS[LINEAR], clip, source)
    result = describe(run)
    # The look at one batch, the first pass, the windows, and their features.
    assert max(source.decoded.values()) <= 4
    distinct = {(e.index, e.box) for neuron in result for e in neuron.exemplars}
    assert len(artifact(tmp_path, result, "embed").read("features")) == len(distinct)


def test_window_and_whole_image_together(tmp_path, clip):
    features = {}
    for seen in ("view", "image", "both"):
        run = begin(tmp_path, changed(OWN, clip={"input": seen}), TARGETS[LINEAR], clip, Album(12))
        features[seen] = artifact(tmp_path, describe(run), "embed").read("features")
    mean = features["view"] + features["image"]
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(features["both"], mean, rtol=0, atol=1e-6)


def test_several_layers_are_those_of_runs_of_their_own(tmp_path, clip):
    asked = changed(OWN, target={"layers": ("fc", "patches")})
    together = describe_each(begin(tmp_path, asked, TARGETS[CURVED], clip, Album(IMAGES)))
    for part, result in together:
        alone = changed(OWN, target={"layer": part.config.target.layer})
        other = describe(begin(tmp_path / "alone", alone, TARGETS[CURVED], clip, Album(IMAGES)))
        assert result.neurons == other.neurons


class Killed(Exception):
    pass


@pytest.mark.parametrize("kind", [pytest.param(LINEAR, marks=pytest.mark.full), CURVED])
def test_a_run_that_was_killed_ends_the_same(kind, tmp_path, clip):
    config = changed(OWN, images={"batch": 7}, clip={"batch": 5})
    undisturbed = describe(begin(tmp_path / "whole", config, TARGETS[kind], clip, Album(IMAGES)))
    commits, results = 0, []
    while not results:
        run = begin(tmp_path, config, TARGETS[kind], clip, Album(IMAGES))
        left = iter(range(4))

        def committed(left=left):
            if next(left, None) is None:
                raise Killed

        run.store.committed = committed
        try:
            results.append(describe(run))
        except Killed:
            commits += 1
    assert commits > 3
    assert results[0].neurons == undisturbed.neurons
    assert results[0].fingerprints == undisturbed.fingerprints


def test_methods_are_compared_on_the_windows(tmp_path, clip):
    run = begin(tmp_path, OWN, TARGETS[LINEAR], clip, Album(IMAGES))
    probe = probe_pass(run)
    assert len(probe.images) == IMAGES
    rows = probe.exemplars.rows[probe.exemplars.taken]
    assert probe.windows is not None
    assert probe.views is probe.windows
    assert rows.max() + 1 == len(probe.windows)


def test_ranking_again():
    images = np.array([[7, 3, 5], [1, 0, 0]], np.int32)
    values = np.array([[9, 8, 7], [4, 0, 0]], np.float32)
    zeros = np.zeros(2, np.float32)
    whole = zeros, np.array([9, 4], np.float32), np.zeros(2, bool), zeros, zeros
    first = Exemplars(images, values, np.array([3, 1], np.int32), *whole)
    again = first.again(np.array([[1, 11, 1], [2, 99, 99]], np.float32), 2)
    assert list(again.ranked()) == [[(3, 11.0), (5, 1.0)], [(1, 2.0)]]
    assert again.highest.tolist() == [11, 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cam_input": "centre"}, r"^config.crop.of is 'unit', .*cam_input is 'centre': choose"),
        ({"cam_class": "label"}, r"^config.crop.of is 'unit', .*cam_class is 'label': choose"),
        ({"rank": "window", "candidates": 65}, r"^config.crop.candidates is 65: expected an int"),
    ],
)
def test_what_can_t_be_is_said(changes, message, tmp_path, clip):
    with pytest.raises(jd.InputError, match=message):
        describe(begin(tmp_path, changed(OWN, crop=changes), TARGETS[LINEAR], clip, Album(9)))


def test_units_without_any_candidate(tmp_path, clip):
    """Dead units have no exemplars, and so no windows."""
    dead = SimpleNamespace(**plain_target.parameters())
    params = {"mix": 0 * dead.mix, "weight": dead.weight, "bias": dead.bias}
    target = plain_target.plain_target(params, classes=SIX)
    for kind in ({}, {"rank": "image"}, {"cam": "layer_cam"}):
        config = changed(OWN, crop=kind)
        result = describe(begin(tmp_path, config, target, clip, Album(IMAGES)))
        assert all("dead" in neuron.flags for neuron in result)
        assert jax.tree.leaves([neuron.exemplars for neuron in result]) == []
