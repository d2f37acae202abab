import dataclasses
import math

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPImageProcessorPil

from jaxdesc.errors import InputError, UnusableImage
from jaxdesc.images.preprocess import PRESETS, Preprocess

IMAGENET, CLIP = PRESETS["imagenet"], PRESETS["openai"]
SMALL = dataclasses.replace(IMAGENET, size=56, field=56 / 64)
MIDDLE = (0.5, 0.5)

# (width, height): odd and even, portrait and landscape, tiny, flat, and exactly the target's sizes.
SIZES = [
    *((500, 375), (333, 501), (257, 255), (256, 256), (224, 224), (259, 256), (256, 267)),
    *((31, 47), (47, 31), (3, 2), (9, 1), (1, 9), (1, 1)),
]


def picture(width, height, seed=0):
    """Noise: a window that is off by a pixel differs everywhere."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def torchvision_centre(image, size=224, shorter=256, resample=Image.Resampling.BILINEAR):
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
    expected = torchvision_centre(image)
    np.testing.assert_array_equal(IMAGENET.cut(image, MIDDLE)[0], expected)
    np.testing.assert_array_equal(IMAGENET.cut(image, MIDDLE, 224 / 256)[0], expected)


@pytest.mark.parametrize(
    ("size", "centre"),
    [((100, 80), (0, 0)), ((80, 100), (1, 1)), ((64, 64), (0.5, 0.9)), ((67, 301), (0.31, 0.12))],
)
def test_windows_are_inside_and_match_their_boxes(size, centre):
    image, extent = picture(*size), np.array(size)
    pixels, box = SMALL.cut(image, centre)
    low, high = np.array(box[:2]), np.array(box[2:])
    assert (low >= 0).all()
    assert (low < high).all()
    assert (high <= extent).all()
    resized = np.array([64 * side // min(size) for side in size])
    pixel = extent / resized
    np.testing.assert_allclose(high - low, 56 * pixel)
    nearest = np.clip(centre[::-1] * extent, 28 * pixel, extent - 28 * pixel)
    assert (np.abs((low + high) / 2 - nearest) <= pixel / 2 + 1e-9).all()
    # The pixels are those of the box: the same window cut out of the resized image.
    x, y = np.round(low / pixel).astype(int)
    whole = np.asarray(image.resize(tuple(resized.tolist()), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(pixels, whole[y : y + 56, x : x + 56])


def test_a_smaller_field_shows_less():
    image = picture(128, 64)
    half, box = SMALL.cut(image, MIDDLE, 0.5)
    assert box == (48, 16, 80, 48)
    doubled = image.resize((224, 112), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(half, np.asarray(doubled)[28:84, 84:140])
    whole, _ = dataclasses.replace(SMALL, size=64, field=1.0).cut(image, (0.5, 0.0))
    np.testing.assert_array_equal(whole, np.asarray(image.crop((0, 0, 64, 64))))
    squashed = image.resize((56, 56), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(SMALL.squash(image), np.asarray(squashed))


@pytest.mark.parametrize("crop", [0.875, 0.965, 224 / 232, 1])
def test_the_resized_side_is_timm_s(crop):
    """timm's `transforms_imagenet_eval`: scale_size = floor(img_size / crop_pct)."""
    found, _ = Preprocess.from_timm({"crop_pct": crop}).cut(picture(300, 240), MIDDLE)
    expected = torchvision_centre(picture(300, 240), 224, math.floor(224 / crop))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [(300, 240), (240, 300), (224, 224), (64, 48), (448, 320)])
def test_clip_s_preprocessing_is_hugging_face_s(size):
    image = picture(*size)
    expected = CLIPImageProcessorPil()(image, return_tensors="np")["pixel_values"][0]
    found = np.asarray(CLIP.normalise(CLIP.cut(image, MIDDLE)[0][None]))[0]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.transpose(1, 2, 0), atol=1e-6)
    # With 3 pixels to spare OpenAI (torchvision's crop) cuts 2 off first, Hugging Face 1.
    image = picture(227, 224)
    expected = torchvision_centre(image, 224, 224, Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(CLIP.cut(image, MIDDLE)[0], expected)


def test_timm_s_defaults_are_imagenet_s():
    assert Preprocess.from_timm({}) == IMAGENET
    half = (0.5, 0.5, 0.5)
    given = {"input_size": [3, 160, 160], "crop_pct": 0.95, "interpolation": "bicubic"}
    given |= {"mean": [*half], "std": [*half], "crop_mode": "center"}
    assert Preprocess.from_timm(given) == Preprocess(160, 160 / 168, "bicubic", half, half)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"input_size": size} for size in (224, [3, 8, 9], [1, 8, 8], [8, 8])),
        *({"crop_pct": 0}, {"crop_pct": None}, {"mean": [0.5, 0.5]}, {"std": "wide"}),
    ],
)
def test_a_pretrained_cfg_that_can_t_be_read_is_refused(wrong):
    with pytest.raises(InputError, match=r"pretrained_cfg can't be read .*correct its config.json"):
        Preprocess.from_timm(wrong)


@pytest.mark.parametrize("size", [(500, 375), (256, 256), (9, 1), (1601, 1200), (33, 700)])
@pytest.mark.parametrize("field", [None, 0.3, 224 / 225])
def test_a_shrunk_photo_gives_the_same_windows(size, field):
    image = picture(*size)
    shrunk = IMAGENET.shrink(image, field)
    assert shrunk.width * shrunk.height <= image.width * image.height
    for centre in (MIDDLE, (0.31, 0.12)):
        pixels, box = IMAGENET.cut(image, centre, field)
        same, where = IMAGENET.cut(shrunk, centre, field, image.size)
        np.testing.assert_array_equal(same, pixels)
        assert where == box


def test_a_large_photo_is_shrunk():
    assert IMAGENET.shrink(picture(1601, 1200)).size == (341, 256)
    small = picture(31, 47)
    assert IMAGENET.shrink(small) is small
    with pytest.raises(UnusableImage, match=r"^The image of 9999 × 1 pixels would become 2559744"):
        IMAGENET.shrink(Image.new("RGB", (9999, 1)))


def made(**changes):
    """A preprocessing of any types, as a user may make one."""
    numbers = {"size": np.int64(8), "field": np.float32(0.5), "interpolation": "bilinear"}
    found = object.__new__(Preprocess)
    for name, value in (numbers | {"mean": [0.5] * 3, "std": np.ones(3) / 4} | changes).items():
        object.__setattr__(found, name, value)
    found.__post_init__()
    return found


def test_numbers_of_any_library():
    assert made() == Preprocess(8, 0.5, "bilinear", (0.5,) * 3, (0.25,) * 3)
    assert hash(made())
    for wrong in ({"mean": 0.5}, {"std": "abc"}, {"size": 8.5}, {"field": 1.5}):
        with pytest.raises(InputError, match=r"is not a preprocessing.*: expected a"):
            made(**wrong)
    with pytest.raises(InputError, match=r"Unknown interpolation 'lanczos'.*bilinear, bicubic"):
        made(interpolation="lanczos")
