"""Top-1 on windows of photos, against windows cut one by one."""

import numpy as np
import pytest
from PIL import Image

import jaxdesc as jd
from jaxdesc.attention import attention_maps
from jaxdesc.commands import cli
from jaxdesc.evaluation.statistics import bootstrap, paired
from jaxdesc.evidence import real
from jaxdesc.images.windows import peaks, random_centre
from tests import plain_target
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

    return {
        "Lite0": plain_target.plain_target(classes=classes, name="first"),
        "Lite2": plain_target.plain_target(
            plain_target.parameters(seed=1), classes, apply=halved, preprocess=larger, name="second"
        ),
    }


def right(target, judge, images, labels, view, field):
    """Whether the judge says each photo's label, a photo at a time."""
    found = []
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        if view == "full":
            window = judge.preprocess.squash(image)
        else:
            pixels = target.preprocess.squash(image)[None]
            classes = np.array([label]) if view == "label's" else None
            cam = view if view in real.CAMS else "grad_cam"
            maps, _ = attention_maps(target, pixels, classes, cam)
            ((y, x),), _ = peaks(np.asarray(maps))
            centre = {"centre": (0.5, 0.5), "random": None}.get(view, (y, x))
            centre = centre or random_centre(0, index, image.size, field)
            window, _ = judge.preprocess.cut(image, centre, field)
        found.append(int(np.argmax(judge.logits(window[None])[0])) == label)
    return np.array(found)


def test_rows_are_windows_one_by_one(photos, networks, tmp_path, monkeypatch):
    monkeypatch.setattr(real, "BATCH", 4)
    source = jd.images.sources.open_source(photos)
    top1, gaps, maps = real.tables(tmp_path, source, networks)
    examples = [jd.images.labels.matched(source, networks["Lite0"])[i] for i in range(COUNT)]
    images, labels = [e.image for e in examples], [e.label for e in examples]
    assert set(labels) == set(range(6))
    for name, target in networks.items():
        for judge, judging in networks.items():
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
    monkeypatch.setattr(real, "_look", None)
    assert real.tables(tmp_path, source, networks)[0] == top1


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
