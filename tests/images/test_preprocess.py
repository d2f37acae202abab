import dataclasses
import math

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPImageProcessorPil

from jaxdesc.errors import InputError, UnusableImage
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.images.windows import peaks

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET = Preprocess(224, 224 / 256, "bilinear", MEAN, STD)
SMALL = Preprocess(56, 56 / 64, "bilinear", MEAN, STD)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

# (width, height): odd and even, portrait and landscape, tiny, flat, and exactly the target's sizes.
SIZES = [
    (500, 375),
    (375, 500),
    (333, 501),
    (641, 480),
    (257, 255),
    (256, 256),
    (224, 224),
    (259, 256),
    (256, 267),
    (31, 47),
    (47, 31),
    (3, 2),
    (9, 1),
    (1, 9),
    (1, 1),
]


def picture(width, height, seed=0):
    """Noise: a window that is off by a pixel differs everywhere."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def torchvision_centre(image, size, shorter, resample=Image.Resampling.BILINEAR):
    """`Resize(shorter)`, `CenterCrop(size)` of torchvision 0.2x on PIL images, from its formulas.

    `_compute_resized_output_size`: the longer side is int(shorter * long / short).
    `functional.center_crop`: int(round((height - size) / 2.0)), the same for the width.
    """
    width, height = image.size
    short, long = min(width, height), max(width, height)
    new_short, new_long = shorter, int(shorter * long / short)
    new_size = (new_short, new_long) if width <= height else (new_long, new_short)
    resized = image.resize(new_size, resample)
    top = int(round((resized.height - size) / 2.0))  # noqa: RUF046
    left = int(round((resized.width - size) / 2.0))  # noqa: RUF046
    return np.asarray(resized.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize("size", SIZES)
def test_the_centre_view_is_torchvision_s(size):
    image = picture(*size)
    expected = torchvision_centre(image, 224, 256)
    np.testing.assert_array_equal(IMAGENET.cut(image, (0.5, 0.5))[0], expected)
    np.testing.assert_array_equal(IMAGENET.cut(image, (0.5, 0.5), 224 / 256)[0], expected)


def test_the_centre_view_of_photos_is_torchvision_s(photos):
    for path in photos[:12]:
        image = Image.open(path).convert("RGB")
        expected = torchvision_centre(image, 224, 256)
        np.testing.assert_array_equal(IMAGENET.cut(image, (0.5, 0.5))[0], expected)


def test_a_centred_peak_gives_the_centre_view():
    maps = np.zeros((1, 7, 7), np.float32)
    maps[0, 3, 3] = 1
    centres, found = peaks(maps)
    assert found.all()
    image = picture(501, 333)
    pixels, box = IMAGENET.cut(image, tuple(centres[0]), 224 / 256)
    np.testing.assert_array_equal(pixels, torchvision_centre(image, 224, 256))
    assert box == IMAGENET.cut(image, (0.5, 0.5))[1]


@pytest.mark.parametrize(
    ("size", "centre"),
    [((100, 80), (0, 0)), ((80, 100), (1, 1)), ((64, 64), (0.5, 0.9)), ((67, 301), (0.31, 0.12))],
)
def test_windows_are_inside_and_match_their_boxes(size, centre):
    image = picture(*size)
    pixels, box = SMALL.cut(image, centre)
    left, top, right, bottom = box
    assert 0 <= left < right <= image.width
    assert 0 <= top < bottom <= image.height
    shorter = 64
    width, height = (
        (shorter, int(shorter * image.height / image.width))
        if image.width <= image.height
        else (int(shorter * image.width / image.height), shorter)
    )
    across, down = image.width / width, image.height / height
    assert (right - left, bottom - top) == pytest.approx((56 * across, 56 * down))
    wanted = (centre[1] * image.width, centre[0] * image.height)
    found = ((left + right) / 2, (top + bottom) / 2)
    reach = ((image.width - 56 * across) / 2, (image.height - 56 * down) / 2)
    for goal, middle, room, length, pixel in zip(
        wanted, found, reach, image.size, (across, down), strict=True
    ):
        nearest = np.clip(goal, length / 2 - room, length / 2 + room)
        assert abs(middle - nearest) <= pixel / 2 + 1e-9
    # The pixels are those of the box: the same window cut out of the resized image.
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    x, y = round(left / across), round(top / down)
    np.testing.assert_array_equal(pixels, np.asarray(resized)[y : y + 56, x : x + 56])


def test_a_smaller_field_shows_less():
    image = picture(128, 64)
    half = SMALL.cut(image, (0.5, 0.5), 0.5)
    assert half[1] == (48, 16, 80, 48)
    doubled = image.resize((224, 112), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(half[0], np.asarray(doubled)[28:84, 84:140])
    whole = Preprocess(64, 1.0, "bilinear", MEAN, STD)
    np.testing.assert_array_equal(
        whole.cut(image, (0.5, 0.0))[0], np.asarray(image.crop((0, 0, 64, 64)))
    )


@pytest.mark.parametrize("crop", [0.875, 0.965, 224 / 232, 1])
def test_the_resized_side_is_timm_s(crop):
    """timm's `transforms_imagenet_eval`: scale_size = floor(img_size / crop_pct)."""
    preprocess = Preprocess.from_timm({"crop_pct": crop})
    image = picture(300, 240)
    expected = torchvision_centre(image, 224, math.floor(224 / crop))
    np.testing.assert_array_equal(preprocess.cut(image, (0.5, 0.5))[0], expected)


def test_squash_keeps_everything():
    image = picture(40, 20)
    expected = image.resize((56, 56), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(SMALL.squash(image), np.asarray(expected))
    left_half = Image.new("RGB", (40, 20))
    left_half.paste((255, 255, 255), (0, 0, 20, 20))
    squashed = SMALL.squash(left_half)
    assert (squashed[:, :25] == 255).all()
    assert (squashed[:, 31:] == 0).all()


def test_normalise():
    pixels = np.asarray(picture(56, 56))[None]
    expected = (pixels.astype(np.float64) / 255 - MEAN) / STD
    found = np.asarray(SMALL.normalise(pixels))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("size", [(300, 240), (240, 300), (224, 224), (64, 48), (448, 320)])
def test_clip_s_preprocessing_is_hugging_face_s(size):
    image = picture(*size)
    ours = Preprocess(224, 1.0, "bicubic", CLIP_MEAN, CLIP_STD)
    expected = CLIPImageProcessorPil()(image, return_tensors="np")["pixel_values"][0]
    found = np.asarray(ours.normalise(ours.cut(image, (0.5, 0.5))[0][None]))[0]
    np.testing.assert_allclose(found, expected.transpose(1, 2, 0), atol=1e-6)


def test_cropping_rounds_as_in_openai_s_clip():
    """OpenAI's CLIP (torchvision's crop) cuts 2 of 3 extra pixels off first, Hugging Face 1."""
    image = picture(227, 224)
    ours = Preprocess(224, 1.0, "bicubic", CLIP_MEAN, CLIP_STD)
    expected = torchvision_centre(image, 224, 224, Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(ours.cut(image, (0.5, 0.5))[0], expected)


def test_timm_s_defaults_are_imagenet_s():
    assert Preprocess.from_timm({}) == IMAGENET
    given = {
        "input_size": [3, 160, 160],
        "crop_pct": 0.95,
        "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "crop_mode": "center",
    }
    half = (0.5, 0.5, 0.5)
    assert Preprocess.from_timm(given) == Preprocess(160, 160 / 168, "bicubic", half, half)


def test_an_unknown_interpolation_is_refused():
    with pytest.raises(InputError, match=r"Unknown interpolation 'lanczos'.*bilinear, bicubic"):
        Preprocess.from_timm({"interpolation": "lanczos"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_size": 224},
        {"input_size": []},
        {"crop_pct": 0},
        {"crop_pct": None},
        {"mean": [0.5, 0.5]},
        {"std": "wide"},
    ],
)
def test_a_pretrained_cfg_that_can_t_be_read_is_refused(wrong):
    with pytest.raises(InputError, match=r"pretrained_cfg can't be read .*correct its config.json"):
        Preprocess.from_timm(wrong)


@pytest.mark.parametrize("change", [{"size": 0}, {"field": 1.5}, {"std": (1.0, 0.0, 1.0)}])
def test_an_impossible_preprocessing_is_refused(change):
    with pytest.raises(InputError, match="is not a preprocessing: expected a size in"):
        dataclasses.replace(IMAGENET, **change)


@pytest.mark.parametrize(
    "statistics",
    [
        {"mean": (123.675, 116.28, 103.53)},
        {"std": (58.395, 57.12, 57.375)},
    ],
)
def test_statistics_of_bytes_are_refused(statistics):
    with pytest.raises(
        InputError, match=r"neither exceeds 1: divide those of pixels in \[0, 255\]"
    ):
        dataclasses.replace(IMAGENET, **statistics)
    with pytest.raises(InputError, match=r"divide those of pixels in \[0, 255\] by 255"):
        Preprocess.from_timm(statistics)


@pytest.mark.parametrize(
    "size", [(500, 375), (256, 256), (31, 47), (9, 1), (1601, 1200), (33, 700)]
)
@pytest.mark.parametrize("field", [None, 0.3, 224 / 225])
def test_a_shrunk_photo_gives_the_same_windows(size, field):
    image = picture(*size)
    shrunk = IMAGENET.shrink(image, field)
    assert shrunk.width * shrunk.height <= image.width * image.height
    for centre in ((0.5, 0.5), (0.31, 0.12)):
        pixels, box = IMAGENET.cut(image, centre, field)
        same, where = IMAGENET.cut(shrunk, centre, field, image.size)
        np.testing.assert_array_equal(same, pixels)
        assert where == box


def test_a_large_photo_is_shrunk():
    assert IMAGENET.shrink(picture(1601, 1200)).size == (341, 256)
    small = picture(31, 47)
    assert IMAGENET.shrink(small) is small
    with pytest.raises(UnusableImage, match=TOO_LONG):
        IMAGENET.shrink(Image.new("RGB", (9999, 1)))


TOO_LONG = (
    "^The image of 9999 × 1 pixels would become 2559744 × 256, too long for its shorter side: "
    "repair or remove it"
)


def test_numbers_of_any_library():
    numpy = {
        "size": np.int64(8),
        "field": np.float32(0.5),
        "mean": [0.5] * 3,
        "std": np.ones(3) / 4,
    }

    def made(**changes):
        """A preprocessing of any types, as a user may make one."""
        found = object.__new__(Preprocess)
        for name, value in (numpy | {"interpolation": "bilinear"} | changes).items():
            object.__setattr__(found, name, value)
        found.__post_init__()
        return found

    given = made()
    assert given == Preprocess(8, 0.5, "bilinear", (0.5,) * 3, (0.25,) * 3)
    assert hash(given)
    for changes in ({"mean": 0.5}, {"std": "abc"}, {"size": (8, 8)}, {"size": 8.5}):
        with pytest.raises(InputError, match=r"is not a preprocessing \(.*\): expected a whole"):
            made(**changes)
    for size in ([3, 8, 9], [1, 8, 8], [8, 8]):
        with pytest.raises(InputError, match=r"A network's pretrained_cfg can't be read"):
            Preprocess.from_timm({"input_size": size})
