from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from jaxdesc.attention.cams import attend_as
from jaxdesc.config import Config, CropConfig
from jaxdesc.errors import UnusableImage
from jaxdesc.images import views
from jaxdesc.images.example import Example
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.images.views import cut_views, relevant_options
from jaxdesc.images.windows import VIEWS
from tests import plain_target
from tests.album import Album, Counting
from tests.reference import pipeline as reference

PREPROCESS = plain_target.PREPROCESS
COUNT, BATCH = 11, 4


@pytest.fixture(scope="module")
def target():
    return plain_target.plain_target()


class Damaged(Counting):
    """Some of its images are unusable, and one shows no object."""

    boxless = 5

    def __init__(self, count, broken=()):
        super().__init__(count)
        self.broken = broken

    def __getitem__(self, index):
        example = super().__getitem__(index)
        if index in self.broken:
            raise UnusableImage(f"number {index}", f"is broken at {index}")
        return replace(example, box=None) if index == self.boxless else example


def cut(target, source, crop, names, batch=BATCH):
    def attend(*seen):
        return attend_as(crop, target, *seen)[0]

    images = range(len(source))
    return cut_views(target.preprocess, source, crop, names, images, batch, attend)


def collect(target, source, crop, names, batch=BATCH):
    """Every view of every image: {view: (pixels, boxes, centres, fallback)}, and the reasons."""
    found = {name: [] for name in names}
    reasons = []
    for chunk in cut(target, source, crop, names, batch):
        count, first = len(chunk.skipped), len(reasons)
        assert chunk.images == range(len(source))[first : first + count]
        reasons += chunk.skipped
        for name in names:
            pixels, *rest = chunk.views[name]
            assert pixels.shape == (batch, 32, 32, 3)
            assert (pixels[count:] == pixels[count - 1]).all()
            found[name].append((pixels[:count], *rest))
    parts = {
        name: [np.concatenate(part) for part in zip(*chunks, strict=True)]
        for name, chunks in found.items()
    }
    return parts, reasons


def networks(target):
    """The target as the oracle takes it."""

    def single(pixels):
        maps, logits = plain_target.maps_and_logits(target, pixels[None])
        return np.asarray(maps[0]), {}, np.asarray(logits)[0]

    head = target.params["weight"].T.astype(np.float64), target.params["bias"].astype(np.float64)
    return reference.Networks(single, *head, PREPROCESS, None, None, None)


CROPS = {
    "small windows": CropConfig(field=0.3, seed=3),
    "Grad-CAM on the centre": CropConfig(cam_input="centre", field=0.6),
    "one pixel to spare": CropConfig(field=32 / 33),
    "another map": CropConfig(cam="layer_cam", field=0.4),
}


@pytest.mark.parametrize("name", CROPS)
def test_every_view_is_the_oracle_s_pixel_for_pixel(name, target):
    """One pass over shrunk photos equals cutting each view from the photo itself."""
    crop, source = CROPS[name], Damaged(COUNT)
    found, reasons = collect(target, source, crop, VIEWS)
    assert reasons == [""] * COUNT
    assert source.decoded == dict.fromkeys(range(COUNT), 1)
    for view in VIEWS:
        config = Config(crop=replace(crop, view=view))
        pixels, boxes, centres, fallback = found[view]
        for index in range(COUNT):
            example = source[index]
            if view == "box" and index == source.boxless:
                centre, ok = (0.5, 0.5), False
            else:
                centre, ok = reference.centre(config, networks(target), source, example, index)
            expected, box = reference.cut(config, PREPROCESS, example.image, centre)
            np.testing.assert_array_equal(pixels[index], expected, err_msg=f"{view} {index}")
            np.testing.assert_allclose(boxes[index], box, rtol=1e-6)
            np.testing.assert_allclose(centres[index], centre, rtol=1e-12)
            assert fallback[index] == (not ok)
    assert len({pixels.tobytes() for pixels, *_ in found.values()}) == len(VIEWS)


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_alone_is_the_same(view, target):
    crop, source = CropConfig(field=0.6), Damaged(COUNT, broken=(2,))
    together, reasons = collect(target, source, crop, VIEWS)
    alone, same = collect(target, source, crop, [view], batch=5)
    assert reasons == same
    for single, joint in zip(alone[view], together[view], strict=True):
        np.testing.assert_array_equal(single, joint)


@pytest.mark.parametrize(
    ("broken", "cam_class"),
    [((0, COUNT - 1), "predicted"), ((4, 5, 6, 7), "label"), (range(COUNT), "label")],
)
def test_a_black_picture_stands_in(broken, cam_class):
    """First and last, a whole batch, all: the views of all other images don't change."""
    target = plain_target.plain_target(plain_target.parameters(neurons=32))
    crop, source = CropConfig(cam_class=cam_class), Damaged(COUNT, broken)
    found, reasons = collect(target, source, crop, VIEWS)
    assert reasons == [f"is broken at {i}" if i in broken else "" for i in range(COUNT)]
    whole, _ = collect(target, Damaged(COUNT), crop, VIEWS)
    good = np.array([i not in broken for i in range(COUNT)])
    for view in VIEWS:
        for given, expected in zip(found[view], whole[view], strict=True):
            np.testing.assert_array_equal(given[good], expected[good])
        assert (found[view][0][~good] == 0).all()


def test_the_device_is_kept_busy(target, monkeypatch):
    """Grad-CAM of a batch is started before the windows of the previous batch are cut."""
    events, stack = [], views._stacked

    def attend(*seen):
        events.append("look")
        return attend_as(CropConfig(), target, *seen)[0]

    def stacked(windows, batch):
        events.append("cut")
        return stack(windows, batch)

    monkeypatch.setattr(views, "_stacked", stacked)
    crop, images = CropConfig(), range(COUNT)
    for _ in cut_views(PREPROCESS, Album(COUNT), crop, ["attention"], images, BATCH, attend):
        events.append("batch")
    assert events == ["look", *["look", "cut", "batch"] * 2, "cut", "batch"]


class Photos(Album):
    """Large photos, which may not be kept until their windows are cut."""

    def __getitem__(self, index):
        return Example(Image.new("RGB", (1000, 600), (index, 0, 0)))


def test_photos_are_not_held(target, monkeypatch):
    held, shrink = [], Preprocess.shrink
    monkeypatch.setattr(
        Preprocess, "shrink", lambda *given: held.append(shrink(*given)) or held[-1]
    )
    found, _ = collect(target, Photos(3), CropConfig(), ["attention"])
    assert [image.size for image in held] == [(61, 37)] * 3
    assert found["attention"][1].max() <= 1000


@pytest.mark.parametrize("view", VIEWS)
def test_relevant_options(view):
    crop, album = CropConfig(view=view), Album(3)
    attention = {"cam": "layer_cam", "cam_input": "centre", "cam_class": "label"}
    before = relevant_options(crop, album)
    counts = {
        key
        for key, value in ({"seed": 1, "field": 0.5} | attention).items()
        if relevant_options(replace(crop, **{key: value}), album) != before
    }
    assert counts == {"attention": {*attention}, "random": {"seed"}}.get(view, set()) | {"field"}
