import numpy as np
import pytest
from PIL import Image

from jaxdesc.errors import UnusableImage
from jaxdesc.images.example import Example, load

RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def example(image, label=None, box=None):
    """As a user may make one: nothing checks its types."""
    found = object.__new__(Example)
    for name, value in {"image": image, "label": label, "box": box, "category": None}.items():
        object.__setattr__(found, name, value)
    return found


class Own:
    """A source of a user's own, of one image."""

    spec, has_boxes, has_labels = "own", True, True

    def __init__(self, given):
        self.given = given

    def __len__(self):
        return 1

    def __getitem__(self, index):
        if isinstance(self.given, type):
            raise self.given
        return self.given

    def identify(self, index):
        return "one.jpg"

    def fingerprint(self):
        return "own"


@pytest.mark.parametrize(
    ("given", "pixels"),
    [
        (example(Image.fromarray(RGB)), RGB),
        (Image.fromarray(RGB), RGB),
        (RGB, RGB),
        (example(Image.fromarray(RGB).convert("RGBA")), RGB),
        (np.dstack([RGB, RGB[..., :1]]), RGB),
        (Image.fromarray(RGB[..., 0]), RGB[..., :1].repeat(3, axis=2)),
        (RGB[..., 0], RGB[..., :1].repeat(3, axis=2)),
        (Image.fromarray(RGB[..., 0].astype(np.uint16) << 8), RGB[..., :1].repeat(3, axis=2)),
    ],
)
def test_what_is_plain_becomes_rgb(given, pixels):
    found = load(Own(given), 0)
    assert found.image.mode == "RGB"
    np.testing.assert_array_equal(found.image, pixels)


def test_labels_and_boxes_of_numpy():
    box = np.array([0, 0, 8.5, 6], np.float32)
    found = load(Own(example(RGB, np.int64(3), box)), 0)
    assert (found.label, found.box) == (3, (0.0, 0.0, 8.5, 6.0))
    assert type(found.label) is int


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (StopIteration, r"can't be read \(StopIteration\(\)\)"),
        (KeyError, r"can't be read \(KeyError\(\)\)"),
        (RGB / np.float32(255), r"is float32 of shape \(6, 8, 3\), where a PIL image or uint8 of"),
        (
            RGB.transpose(2, 0, 1),
            r"is uint8 of shape \(3, 6, 8\), where a PIL image or uint8 of sh",
        ),
        (None, r"is None, where a PIL image"),
        ("one.jpg", r"is 'one\.jpg', where a PIL image"),
        (Image.new("RGB", (0, 4)), r"has mode RGB and size \(0, 4\): expected pixels of 8 bits"),
        (Image.new("F", (4, 4)), r"has mode F and size \(4, 4\): expected pixels of 8 bits"),
        (example(RGB, label=True), r"has the label True, no index of a class"),
        (example(RGB, label="cat"), r"has the label 'cat', no index of a class"),
        (
            example(RGB, box=(0, 0, 10, 6)),
            r"has the box \(0, 0, 10, 6\), which does not lie in its",
        ),
        (example(RGB, box=(5, 0, 4, 6)), r"has the box .* does not lie in its 8 × 6 pixels"),
        (
            example(RGB, box=(0, 0, float("nan"), 6)),
            r"has the box .* does not lie in its 8 × 6 pix",
        ),
        (
            example(RGB, box=(0, 0, 4)),
            r"has the box \(0, 0, 4\): expected \(left, top, right, bott",
        ),
    ],
)
def test_what_is_not_is_named(given, message):
    with pytest.raises(UnusableImage, match=rf"^The image 'one\.jpg' {message}"):
        load(Own(given), 0)
