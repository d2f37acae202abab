"""Thumbnails, sheets and heatmaps, laid out as the page's script expects."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxdesc.attention import CAMS, attention_maps
from jaxdesc.config import CropConfig
from jaxdesc.errors import UnusableImage
from jaxdesc.report.pictures import (
    CELL,
    LEVELS,
    Own,
    encode,
    in_thousandths,
    look,
    scaled,
)
from tests.plain_target import maps_and_logits, plain_target
from tests.report.made_up import SIZES, Colours, Pictures, colour

NAMES = tuple((f"name {label}", "other") for label in range(6))


def test_each_image_is_read_once_and_found_by_its_index():
    asked, done = [], []

    class Counting(Colours):
        def __getitem__(self, index):
            asked.append(index)
            return super().__getitem__(index)

    found = look(Counting(9), [7, 2, 7, 5], batch=2, seen=done.append)
    assert sorted(asked) == list(found) == [2, 5, 7]
    assert done == [2, 1]
    for index, picture in found.items():
        image = Image.open(io.BytesIO(picture.thumbnail))
        assert picture.size == SIZES[index % len(SIZES)]
        assert image.size == scaled(picture.size)
        assert max(image.size) == CELL
        np.testing.assert_allclose(np.asarray(image)[0, 0], colour(index), atol=4)
        assert picture.heat == ""
    with pytest.raises(UnusableImage, match=r"The image 'photos/colour 3\.jpg' can't be"):
        look(Colours(5, broken=3), [1, 3])


@pytest.mark.parametrize(
    "crop",
    [
        CropConfig(),
        CropConfig(cam="grad_cam_pp", cam_class="label"),
        CropConfig(cam_input="centre", field=1.0),
    ],
)
def test_a_heatmap_is_the_runs_own_map(crop):
    target, source = plain_target(classes=NAMES), Pictures(7)
    found = look(source, range(7), target, crop, batch=3)
    for index, picture in found.items():
        example = source[index]
        pixels = target.preprocess.squash(example.image)
        width, height = example.image.size
        area = (0, 0, width, height)
        if crop.cam_input == "centre":
            pixels, _ = target.preprocess.cut(example.image, (0.5, 0.5), crop.field)
            side = min(width, height)
            left, top = (width - side) / 2, (height - side) / 2
            area = (left, top, left + side, top + side)
        classes = np.array([example.label], np.int32) if crop.cam_class == "label" else None
        maps, (explained,) = attention_maps(target, pixels[None], classes, crop.cam)
        cam = np.asarray(maps)[0].astype(np.float64)
        if cam.max() > 0:
            rows = picture.heat.split(" ")
            heat = np.array([[LEVELS.index(letter) for letter in row] for row in rows])
            np.testing.assert_allclose(heat, 63 * cam / cam.max(), atol=0.5 + 1e-6)
            assert picture.explained == NAMES[explained][0]
        else:
            assert picture.heat == picture.explained == ""
        np.testing.assert_allclose(picture.area, area, atol=1.5)
    assert any(picture.heat for picture in found.values())


def test_units_have_maps_of_their_own():
    """Ten channels of an image take three programs' calls."""
    target, source = plain_target(classes=NAMES), Pictures(4)
    crop = CropConfig(of="unit")
    shown = {0: tuple(range(10)), 2: (7,)}
    found = look(source, range(4), target, crop, batch=4, own=Own("patches", "mean", shown))
    for index, picture in found.items():
        assert picture.heat == picture.explained == ""
        assert tuple(picture.heats) == shown.get(index, ())
        pixels = target.preprocess.normalise(target.preprocess.squash(source[index].image)[None])
        maps, _ = maps_and_logits(target, pixels)
        for unit, heat in picture.heats.items():
            assert heat == encode(np.asarray(maps, np.float64)[0, ..., unit])
    logits = look(source, [1], target, crop, batch=2, own=Own("fc", "mean", {1: (3,)}))
    pixels = target.preprocess.squash(source[1].image)[None]
    (cam,), _ = attention_maps(target, pixels, np.array([3]))
    assert logits[1].heats == {3: encode(np.asarray(cam))}


def test_a_map_of_no_class_explains_none(monkeypatch):
    monkeypatch.setitem(CAMS, "grad_cam", CAMS["grad_cam"]._replace(of_class=False))
    found = look(Pictures(7), range(7), plain_target(classes=NAMES), CropConfig(), batch=7)
    assert any(picture.heat for picture in found.values())
    assert not any(picture.explained for picture in found.values())


def test_a_map_of_nothing_is_none_and_a_box_is_in_thousandths():
    for empty in (np.zeros((2, 2)), np.array([[1.0, np.nan]]), np.array([[1.0, np.inf]])):
        assert encode(empty) == ""
    assert in_thousandths((16.0, 9.0, 80.0, 90.0), (160, 90)) == [100, 100, 500, 1000]
    assert in_thousandths((), (160, 90)) == []
