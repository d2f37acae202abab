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
    """Counts how often each image is decoded; some can't be used, and one shows no object."""

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


def collect(target, source, crop, names, batch=BATCH):
    """Every view of every image: {view: (pixels, boxes, centres, fallback)}, and the reasons."""
    found = {name: [] for name in names}
    reasons, first = [], 0

    def attend(*seen):
        return attend_as(crop, target, *seen)[0]

    pictures = range(len(source))
    for chunk in cut_views(target.preprocess, source, crop, names, pictures, batch, attend):
        assert chunk.images == range(len(source))[first : first + len(chunk.skipped)]
        count = len(chunk.skipped)
        first += count
        reasons += chunk.skipped
        for name in names:
            own = chunk.views[name]
            assert own.pixels.shape == (batch, 32, 32, 3)
            assert (own.pixels[count:] == own.pixels[count - 1]).all()
            found[name].append((own.pixels[:count], own.boxes, own.centres, own.fallback))
    parts = {
        name: [np.concatenate(a) for a in zip(*own, strict=True)] for name, own in found.items()
    }
    return parts, reasons


class Networks:
    """What the oracle's `_centre` asks of networks."""

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
    **{cam: CropConfig(cam=cam, field=0.4) for cam in CAMS},
}


@pytest.mark.parametrize("name", CROPS)
def test_every_view_is_the_oracle_s_pixel_for_pixel(name, target):
    """In one pass, with photos that are held shrunk, against each cut from the photo itself."""
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
    assert len({own[0].tobytes() for own in found.values()}) == len(VIEWS)


def test_maps_of_attention_choose_other_windows(target):
    """But for CAM, which is Grad-CAM behind a mean and one linear layer."""
    places = {
        cam: collect(target, Album(40), CropConfig(cam=cam, field=0.4), ["attention"], batch=40)
        for cam in CAMS
    }
    boxes = {cam: found["attention"][1].tobytes() for cam, (found, _) in places.items()}
    assert boxes["cam"] == boxes["grad_cam"]
    assert len(set(boxes.values())) == len(CAMS) - 1


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_alone_is_the_same(view, target):
    crop, source = CropConfig(field=0.6), Counting(COUNT, broken=(2,))
    together, reasons = collect(target, source, crop, VIEWS)
    alone, same = collect(target, source, crop, [view], batch=5)
    assert reasons == same
    for one, other in zip(alone[view], together[view], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("broken", [(0,), (COUNT - 1,), (4, 5, 6, 7), range(COUNT)])
@pytest.mark.parametrize("cam_class", ["predicted", "label"])
def test_a_black_picture_stands_in(broken, cam_class, target):
    """First, last, a whole batch, all: every other image's views stay what they are."""
    if cam_class == "label":
        target = plain_target.plain_target(plain_target.parameters(neurons=32))
    crop, source = CropConfig(cam_class=cam_class), Counting(COUNT, broken)
    found, reasons = collect(target, source, crop, VIEWS)
    assert reasons == [f"is broken at {i}" if i in broken else "" for i in range(COUNT)]
    whole, _ = collect(target, Counting(COUNT), crop, VIEWS)
    good = np.array([i not in broken for i in range(COUNT)])
    for view in VIEWS:
        for one, other in zip(found[view], whole[view], strict=True):
            np.testing.assert_array_equal(one[good], other[good])
        assert (found[view][0][~good] == 0).all()


def test_another_error_stops_the_pass(target):
    class Strange(Album):
        def __getitem__(self, index):
            raise InputError("I am no image source.")

    with pytest.raises(InputError, match=r"^I am no image source\."):
        next(cut_views(PREPROCESS, Strange(3), CropConfig(), ["centre"], range(3), 2))


def test_the_device_is_kept_busy(target, monkeypatch):
    """Grad-CAM of a batch is started before the windows of the one before are cut."""
    events = []

    def attend(*seen):
        events.append(f"look {len([e for e in events if 'look' in e])}")
        return attend_as(CropConfig(), target, *seen)[0]

    def stacked(windows, batch):
        events.append(f"cut {len([e for e in events if 'cut' in e])}")
        return stack(windows, batch)

    stack = views._stacked
    monkeypatch.setattr(views, "_stacked", stacked)
    for number, _ in enumerate(
        cut_views(
            PREPROCESS, Album(COUNT), CropConfig(), ["attention"], range(COUNT), BATCH, attend
        )
    ):
        events.append(f"batch {number}")
    assert events == [
        *("look 0", "look 1", "cut 0", "batch 0"),
        *("look 2", "cut 1", "batch 1"),
        *("cut 2", "batch 2"),
    ]


class Photos:
    """Large photos: what is kept of them until their windows are cut must be small."""

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

    def cut(preprocess, field, attended, peak):
        held.append((attended.shrunk.size, attended.size))
        return whole_cut(preprocess, field, attended, peak)

    whole_cut = views._cut_attended
    monkeypatch.setattr(views, "_cut_attended", cut)
    found, _ = collect(target, Photos(), CropConfig(), ["attention"])
    assert held == [((61, 37), (1000, 600))] * 3
    assert found["attention"][1].max() <= 1000


def test_what_a_view_depends_on():
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
        own = {"attention": set(attention), "random": {"seed"}}.get(view, set())
        assert counts == own | {"field"}
