"""Real networks on photos: windows, curves and names, against photos one by one."""

import math

import numpy as np
import pytest
from PIL import Image

import jaxdesc as jd
from jaxdesc.attention import attention_maps
from jaxdesc.commands import cli
from jaxdesc.evaluation.insertion import curves
from jaxdesc.evaluation.judging.scores import random_labels
from jaxdesc.evaluation.statistics import bootstrap, paired
from jaxdesc.evidence import real, real_names
from jaxdesc.evidence.real_names import Classifier
from jaxdesc.images.windows import peaks, random_centre
from jaxdesc.result import Exemplar, Neuron, Result
from tests import noun_file, plain_target
from tests.conftest import SIZES

COUNT = 11


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photos of six classes, each in its folder, with a spot where the class's colour is."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for index in range(COUNT):
        width, height = (max(48, side // 4) for side in SIZES[index % len(SIZES)])
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        place = folder / f"kind {index % 6}"
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(place / f"{index}.png")
    return f"folder:{folder}"


@pytest.fixture(scope="module")
def networks():
    classes = tuple((f"kind {label}",) for label in range(6))
    larger = jd.Preprocess(64, 0.875, "bilinear", (0.5,) * 3, (0.25,) * 3)

    def halved(params, pixels, tap):
        small = pixels.reshape(len(pixels), 32, 2, 32, 2, 3).mean(axis=(2, 4))
        return plain_target.apply(params, small, tap)

    targets = {
        "Lite0": plain_target.plain_target(classes=classes, name="first"),
        "Lite2": plain_target.plain_target(
            plain_target.parameters(seed=1), classes, apply=halved, preprocess=larger, name="second"
        ),
    }
    return {
        name: Classifier(target, lambda maps: maps, target.params["weight"].T)
        for name, target in targets.items()
    }


def right(target, judge, images, labels, view, field):
    """Whether the judge says each photo's label, a photo at a time."""
    found = []
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        if view == "full":
            window = judge.preprocess.squash(image)
        else:
            pixels = target.preprocess.squash(image)[None]
            classes = np.array([label]) if view == "unit" else None
            cam = view if view in real.CAMS else "grad_cam"
            maps, _ = attention_maps(target, pixels, classes, cam)
            ((y, x),), _ = peaks(np.asarray(maps))
            centre = {"centre": (0.5, 0.5), "random": None}.get(view, (y, x))
            centre = centre or random_centre(0, index, image.size, field)
            window, _ = judge.preprocess.cut(image, centre, field)
        found.append(int(np.argmax(judge.logits(window[None])[0])) == label)
    return np.array(found)


def check_areas(name, target, images, areas):
    """The rows of "photo curves", a photo at a time."""
    found = {}
    for index, image in enumerate(images):
        pixels = target.preprocess.squash(image)[None]
        maps, classes = attention_maps(target, pixels)
        rows, columns = maps.shape[1:]
        far = [
            [-math.hypot((y + 0.5) / rows - 0.5, (x + 0.5) / columns - 0.5) for x in range(columns)]
            for y in range(rows)
        ]
        noise = np.random.default_rng([0, index]).random((rows, columns))
        orders = {"grad_cam": maps, "centre": np.array([far]), "random": noise[None]}
        orders |= {cam: attention_maps(target, pixels, cam=cam)[0] for cam in real.CAMS}
        for order, map_ in orders.items():
            both = curves(target, pixels, map_, np.asarray(classes)).areas()
            found.setdefault(order, []).append(np.ravel(both))
    for order, each in found.items():
        for column, values, usual in zip(
            ("insertion", "deletion"), np.transpose(each), np.transpose(found["grad_cam"]),
            strict=True,
        ):  # fmt: skip
            cell = areas.at(column, network=name, map=order)
            # In other batches pixels whose maps are nearly equal may change places.
            np.testing.assert_allclose(cell, bootstrap(values), atol=2e-4)
            if order != "grad_cam":
                cell = areas.at(f"{column} − grad_cam", network=name, map=order)
                np.testing.assert_allclose(cell, paired(values, usual), atol=2e-4)


def check_names(name, targets, images, labels, names):
    """Count the first exemplars of whole images that are of their class, a logit at a time."""
    target = targets[name]
    pixels = np.stack([target.preprocess.squash(image) for image in images])
    logits = np.asarray(target.logits(pixels))
    shares = []
    for unit in range(6):
        count = labels.count(unit)
        best = np.argsort(-logits[:, unit], kind="stable")[: min(count, real_names.EXEMPLARS)]
        shares.append(np.mean([labels[index] == unit for index in best]))
    where = {"network": name, "layer": "logits", "window": "whole image"}
    np.testing.assert_allclose(
        names.at("class among exemplars", **where), bootstrap(np.array(shares))
    )
    assert names.at("units", **where) == 6


def test_a_classifier_is_a_name_encoder(networks, tmp_path, monkeypatch):
    """Compare its texts, classes and a hypernym of both, with the weights, and its images."""
    synsets = {"n00000500": ("thing", "any"), "n00001000": ("one",), "n00002000": ("two", "pair")}
    parents = {"n00000500": (), "n00001000": ("n00000500",), "n00002000": ("n00000500",)}
    noun_file.write(tmp_path / "data.noun", synsets, parents=parents)
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    params = plain_target.parameters(neurons=2)
    classes = (("one",), ("two", "pair"))
    target = plain_target.plain_target(params, classes, wnids=("n00001000", "n00002000"))
    classifier = Classifier(target, lambda maps: 2 * maps, params["weight"].T)
    assert [list(right) for right in real_names.kinds(target)] == [
        ["one", "thing"],
        ["two", "pair", "thing"],
    ]
    encoder, vocabulary = real_names.namer(classifier)
    assert vocabulary.concepts == ("one", "thing", "two")

    def unit(rows):
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    one, two = unit(params["weight"].T)
    texts = [f"A photo of a {concept}" for concept in (*vocabulary.concepts, "")]
    found = encoder.encode_texts([text.strip() for text in texts])
    np.testing.assert_allclose(found, unit(np.stack([one, one + two, two, one + two])), rtol=1e-5)
    pixels = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype(np.float32)
    means = plain_target.patches(params, pixels).mean(axis=(1, 2))
    np.testing.assert_allclose(encoder.encode_images(pixels), unit(means), rtol=1e-4)


def test_names_are_judged_by_labels():
    def neuron(unit, concept, *images):
        concepts = ((concept, 1.0),) if concept else ()
        exemplars = tuple(Exemplar(str(i), 1.0, (0.0, 0.0, 1.0, 1.0), i) for i in images)
        return Neuron("fc", unit, concepts, 1.0, 0.9, exemplars)

    labels = np.array([0, 0, 1, -1, 0])
    activations = np.array([[5, 1, 0], [4, 2, 0], [3, 5, 0], [9, 9, 0], [1, 3, 0]], float)
    neurons = (neuron(0, "thing", 0, 2, 1, 4), neuron(1, "one", 2), neuron(2, "", 0))
    found = Result(neurons, None)
    names, right = (("one",), ("two",), ("none",)), (["one", "thing"], ["two", "thing"], ["none"])
    judged = real_names.judge(found, activations, labels, names, right, True)
    np.testing.assert_allclose(judged.exemplars, [2 / 3, 1, np.nan])
    np.testing.assert_allclose(judged.named, [0, 0, np.nan])
    np.testing.assert_allclose(judged.right, [1, 0, np.nan])
    # All labelled photos are things; three of them are ones, which excite unit 1 less than the two.
    np.testing.assert_allclose(judged.auc, [np.nan, 0, np.nan])
    channels = real_names.judge(found, activations, labels, names, right, False)
    assert np.isnan(channels.exemplars).all()
    np.testing.assert_allclose(channels.auc, [np.nan, 0, np.nan])


def test_rows_are_windows_one_by_one(photos, networks, tmp_path, monkeypatch):
    monkeypatch.setattr(real, "BATCH", 4)
    source = jd.images.sources.open_source(photos)
    targets = {name: each.target for name, each in networks.items()}
    first = real.tables(tmp_path, source, networks)
    top1, gaps, maps, areas, names, _, judged = first
    examples = [jd.images.labels.matched(source, targets["Lite0"])[i] for i in range(COUNT)]
    images, labels = [e.image for e in examples], [e.label for e in examples]
    assert set(labels) == set(range(6))
    check_judged(targets, networks, images, labels, judged)
    for name, target in targets.items():
        check_areas(name, target, images, areas)
        check_names(name, targets, images, labels, names)
        for judge, judging in targets.items():
            where = {"network": name, "judge": "itself" if judge == name else "the other"}
            found = {
                view: right(target, judging, images, labels, view, 0.5)
                for view in (*real.VIEWS, *real.CAMS, "full")
            }
            for view in (*real.VIEWS, "full"):
                field = None if view == "full" else 0.5
                cell = top1.at("top-1", view=view, field=field, **where)
                np.testing.assert_allclose(cell, bootstrap(found[view]))
                if view != "attention":
                    gap = gaps.at("attention − view", view=view, field=0.5, **where)
                    np.testing.assert_allclose(gap, paired(found["attention"], found[view]))
            for cam in real.CAMS:
                gap = maps.at("cam − grad_cam", cam=cam, field=0.5, **where)
                np.testing.assert_allclose(gap, paired(found[cam], found["attention"]))
    # A second start reads what is kept.
    for step in ("_look", "_areas"):
        monkeypatch.setattr(real, step, None)
    assert real.tables(tmp_path, source, networks) == first


def check_judged(targets, networks, images, labels, judged):
    """Labels drawn at random, on the photos that chose the others: by hand."""
    target = targets["Lite0"]
    vocabulary = real_names.namer(networks["Lite2"])[1].concepts
    pixels = np.stack([target.preprocess.squash(image) for image in images])
    activations = np.asarray(target.logits(pixels))
    correlations = []
    for unit, label in random_labels(vocabulary, 6).items():
        shown = [label.concepts[0] == f"kind {of}" for of in labels]
        if any(shown):
            correlations.append(np.corrcoef(activations[:, unit], shown)[0, 1])
    where = {"layer": "logits", "photos": "the same", "labels": "random label"}
    np.testing.assert_allclose(
        judged.at("correlation", **where).mean, np.mean(correlations), atol=1e-5
    )
    assert judged.at("judged", **where) == len(correlations)
    where = {"layer": "channels", "photos": "kept aside", "labels": "WWW"}
    assert judged.at("right", **where) is None
    assert judged.at("iou@0.05", **where) is None


def test_photos_without_labels_and_networks_that_are_missing(tmp_path, networks, monkeypatch):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    source = jd.images.sources.open_source(f"folder:{tmp_path}")
    with pytest.raises(jd.InputError, match=r"^No image of folder:.* has a label among"):
        real.tables(tmp_path / "w", source, networks)
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(jd.InputError, match=r"^EfficientNet-Lite0 can't be loaded .*: run pip"):
        real.lite(0)


def test_the_command_asks_for_photos(tmp_path, capsys):
    (tmp_path / "evidence.json").write_text('{"facts": {"seconds": {}}, "tables": []}')
    with pytest.raises(SystemExit):
        cli.main(["evidence", f"--workdir={tmp_path}", "--real"])
    assert "--images is missing: --real needs labelled photos" in capsys.readouterr().err
