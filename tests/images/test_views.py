from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from jaxdesc.attention.cams import CAMS, attend_as
from jaxdesc.config import Config, CropConfig
from jaxdesc.errors import InputError, UnusableImage
from jaxdesc.images import views
from jaxdesc.images.example import Example
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.images.views import cut_views, relevant_options
from jaxdesc.images.windows import VIEWS
from tests import plain_target
from tests.album import Album
from tests.reference.pipeline import _centre as oracle_centre
from tests.reference.pipeline import _cut as oracle_cut

PREPROCESS = plain_target.PREPROCESS
COUNT, BATCH = 11, 4


@pytest.fixture(scope="module")
def target():
    return plain_target.plain_target()


class Counting(Album):
    """Counts how often each image is decoded; some are unusable, and one shows no object."""

    boxless = 5

    def __init__(self, count, broken=()):
        super().__init__(count)
        self.broken, self.decoded = broken, Counter()

    def __getitem__(self, index):
        self.decoded[index] += 1
        if index in self.broken:
            raise UnusableImage(f"number {index}", f"is broken at {index}")
        example = super().__getitem__(index)
        return replace(example, box=None) if index == self.boxless else example


def cut(target, source, crop, names, batch=BATCH):
    def attend(*seen):
        return attend_as(crop, target, *seen)[0]

    images = range(len(source))
    return cut_views(target.preprocess, source, crop, names, images, batch, attend)


def collect(target, source, crop, names, batch=BATCH):
    """Every view of every image: {view: (pixels, boxes, centres, fallback)}, and the reasons."""
    found = {name: [] for name in names}
    reasons, first = [], 0
    for chunk in cut(target, source, crop, names, batch):
        assert chunk.images == range(len(source))[first : first + len(chunk.skipped)]
        count = len(chunk.skipped)
        first += count
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


class Networks:
    """Networks as the oracle's `_centre` takes them."""

    preprocess = PREPROCESS

    def __init__(self, target):
        self.weight = target.params["weight"].T.astype(np.float64)
        self.bias = target.params["bias"].astype(np.float64)
        self.run = target

    def target(self, pixels):
        maps, logits = plain_target.maps_and_logits(self.run, pixels[None])
        return np.asarray(maps[0]), {}, np.asarray(logits)[0]


CROPS = {
    "default": CropConfig(),
    "small windows": CropConfig(field=0.3, seed=3),
    "Grad-CAM on the centre": CropConfig(cam_input="centre", field=0.6),
    "one pixel to spare": CropConfig(field=32 / 33),
    "another map": CropConfig(cam="layer_cam", field=0.4),
}


@pytest.mark.parametrize("name", CROPS)
def test_every_view_is_the_oracle_s_pixel_for_pixel(name, target):
    """One pass over shrunk photos equals cutting each view from the photo itself."""
    crop, source = CROPS[name], Counting(COUNT)
    found, reasons = collect(target, source, crop, VIEWS)
    assert reasons == [""] * COUNT
    assert source.decoded == dict.fromkeys(range(COUNT), 1)
    networks = Networks(target)
    for view in VIEWS:
        config = Config(crop=replace(crop, view=view))
        pixels, boxes, centres, fallback = found[view]
        for index in range(COUNT):
            example = source[index]
            if view == "box" and index == source.boxless:
                centre, ok = (0.5, 0.5), False
            else:
                centre, ok = oracle_centre(config, networks, source, example, index)
            expected, box = oracle_cut(config, PREPROCESS, example.image, centre)
            np.testing.assert_array_equal(pixels[index], expected, err_msg=f"{view} {index}")
            np.testing.assert_allclose(boxes[index], box, rtol=1e-6)
            np.testing.assert_allclose(centres[index], centre, rtol=1e-12)
            assert fallback[index] == (not ok)
    assert len({pixels.tobytes() for pixels, *_ in found.values()}) == len(VIEWS)


def test_maps_of_attention_choose_other_windows(target):
    """Except CAM, which equals Grad-CAM behind a mean and one linear layer."""
    found = {
        cam: collect(target, Album(40), CropConfig(cam=cam, field=0.4), ["attention"], batch=40)
        for cam in CAMS
    }
    boxes = {cam: views["attention"][1].tobytes() for cam, (views, _) in found.items()}
    assert boxes["cam"] == boxes["grad_cam"]
    assert len(set(boxes.values())) == len(CAMS) - 1


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_alone_is_the_same(view, target):
    crop, source = CropConfig(field=0.6), Counting(COUNT, broken=(2,))
    together, reasons = collect(target, source, crop, VIEWS)
    alone, same = collect(target, source, crop, [view], batch=5)
    assert reasons == same
    for single, joint in zip(alone[view], together[view], strict=True):
        np.testing.assert_array_equal(single, joint)


@pytest.mark.parametrize(
    ("broken", "cam_class"),
    [((0, COUNT - 1), "predicted"), ((4, 5, 6, 7), "label"), (range(COUNT), "label")],
)
def test_a_black_picture_stands_in(broken, cam_class, target):
    """First and last, a whole batch, all: the views of all other images don't change."""
    if cam_class == "label":
        target = plain_target.plain_target(plain_target.parameters(neurons=32))
    crop, source = CropConfig(cam_class=cam_class), Counting(COUNT, broken)
    found, reasons = collect(target, source, crop, VIEWS)
    assert reasons == [f"is broken at {i}" if i in broken else "" for i in range(COUNT)]
    whole, _ = collect(target, Counting(COUNT), crop, VIEWS)
    good = np.array([i not in broken for i in range(COUNT)])
    for view in VIEWS:
        for given, expected in zip(found[view], whole[view], strict=True):
            np.testing.assert_array_equal(given[good], expected[good])
        assert (found[view][0][~good] == 0).all()


def test_another_error_stops_the_pass(target):
    class Strange(Album):
        def __getitem__(self, index):
            raise InputError("This is not an image source.")

    with pytest.raises(InputError, match=r"^This is not an image source\."):
        next(cut(target, Strange(3), CropConfig(), ["centre"]))


def test_the_device_is_kept_busy(target, monkeypatch):
    """Grad-CAM of a batch is started before the windows of the previous batch are cut."""
    events = []

    def attend(*seen):
        events.append(f"look {len([e for e in events if 'look' in e])}")
        return attend_as(CropConfig(), target, *seen)[0]

    def stacked(windows, batch):
        events.append(f"cut {len([e for e in events if 'cut' in e])}")
        return stack(windows, batch)

    stack, images = views._stacked, range(COUNT)
    monkeypatch.setattr(views, "_stacked", stacked)
    started = cut_views(
        PREPROCESS, Album(COUNT), CropConfig(), ["attention"], images, BATCH, attend
    )
    for number, _ in enumerate(started):
        events.append(f"batch {number}")
    assert events == [
        *("look 0", "look 1", "cut 0", "batch 0"),
        *("look 2", "cut 1", "batch 1"),
        *("cut 2", "batch 2"),
    ]


class Photos:
    """Large photos, which may not be kept until their windows are cut."""

    spec, has_boxes, has_labels = "photos", False, False

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return Example(Image.new("RGB", (1000, 600), (index, 0, 0)))

    def identify(self, index):
        return str(index)

    def fingerprint(self):
        return "photos"


def test_photos_are_not_held(target, monkeypatch):
    held = []

    def shrink(preprocess, image, field):
        held.append(whole_shrink(preprocess, image, field))
        return held[-1]

    whole_shrink = Preprocess.shrink
    monkeypatch.setattr(Preprocess, "shrink", shrink)
    found, _ = collect(target, Photos(), CropConfig(), ["attention"])
    assert [image.size for image in held] == [(61, 37)] * 3
    assert found["attention"][1].max() <= 1000


def test_relevant_options():
    album = Album(3)
    for view in VIEWS:
        crop = CropConfig(view=view)
        attention = {"cam": "layer_cam", "cam_input": "centre", "cam_class": "label"}
        changed = {"seed": 1, "field": 0.5} | attention
        counts = {
            key
            for key, value in changed.items()
            if relevant_options(crop, album)
            != relevant_options(replace(crop, **{key: value}), album)
        }
        expected = {"attention": set(attention), "random": {"seed"}}.get(view, set())
        assert counts == expected | {"field"}
