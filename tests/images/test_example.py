import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxdesc.errors import InputError, UnusableImage
from jaxdesc.images.example import Example, load
from jaxdesc.images.sources import open_source

RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
GREY = RGB[..., 0]
BOX = np.array([0, 0, 8.5, 6], np.float32)


def example(image, label=None, box=None):
    """An `Example` of any types, as a user may make one."""
    found = object.__new__(Example)
    for name, value in {"image": image, "label": label, "box": box, "categories": ()}.items():
        object.__setattr__(found, name, value)
    return found


class OneImage:
    """A user's source with one image."""

    spec, has_boxes, has_labels = "one", True, True

    def __init__(self, given, names=("one.jpg",)):
        self.given, self.names = given, names

    def __len__(self):
        return 1

    def __getitem__(self, index):
        if isinstance(self.given, type | Exception):
            raise self.given
        return self.given

    def identify(self, index):
        return self.names[index]

    def fingerprint(self):
        return "one"


@pytest.mark.parametrize(
    ("given", "colour"),
    [
        (example(Image.fromarray(RGB)), True),
        (Image.fromarray(RGB), True),
        (RGB, True),
        (example(Image.fromarray(RGB).convert("RGBA")), True),
        (np.dstack([RGB, GREY]), True),
        (Image.fromarray(GREY), False),
        (GREY, False),
        (Image.fromarray(GREY.astype(np.uint16) << 8), False),
    ],
)
def test_images_and_arrays_become_rgb(given, colour):
    found = load(OneImage(given), 0)
    assert found.image.mode == "RGB"
    np.testing.assert_array_equal(found.image, RGB if colour else np.dstack([GREY] * 3))


@pytest.mark.parametrize("label", [np.int64(3), np.asarray(3), jnp.int32(3), np.uint8(3)])
def test_labels_and_boxes_of_any_library(label):
    found = load(OneImage(example(RGB, label, BOX)), 0)
    assert (found.label, found.box) == (3, (0.0, 0.0, 8.5, 6.0))
    assert type(found.label) is int


OUTSIDE = r"has the box .*, which is not within its 8 × 6 pixels"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (StopIteration, r"can't be read \(StopIteration\(\)\)"),
        (RGB / np.float32(255), r"is float32 of shape \(6, 8, 3\): expected a PIL image or uint8"),
        (RGB.transpose(2, 0, 1), r"is uint8 of shape \(3, 6, 8\): expected a PIL image or uint8"),
        (None, "is None: expected a PIL image"),
        ("one.jpg", r"is 'one\.jpg': expected a PIL image"),
        (Image.new("RGB", (0, 4)), r"has mode RGB and size \(0, 4\): expected pixels of 8 bits"),
        (Image.new("F", (4, 4)), r"has mode F and size \(4, 4\): expected pixels of 8 bits"),
        (Image.new("La", (4, 4)), "can't be decoded"),
        (example(RGB, label=True), "has the label True, which is not an index of a class"),
        (example(RGB, box=(0, 0, 10, 6)), OUTSIDE),
        (example(RGB, box=(5, 0, 4, 6)), OUTSIDE),
        (example(RGB, box=(0, 0, float("nan"), 6)), OUTSIDE),
        (example(RGB, box=(0, 0, 4)), r"has the box \(0, 0, 4\): expected \(left, top, right, bot"),
    ],
)
def test_other_values_are_named(given, message):
    with pytest.raises(UnusableImage, match=rf"^The image 'one\.jpg' {message}"):
        load(OneImage(given), 0)


def test_failures_of_pillow_and_of_the_source_name_the_image(tmp_path):
    """Pillow opens a file without decoding it."""
    path = tmp_path / "half.png"
    Image.fromarray(RGB).resize((90, 90)).save(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UnusableImage, match=r"The image 'one\.jpg' can't be decoded"):
        load(OneImage(example(Image.open(path))), 0)
    with pytest.raises(UnusableImage, match=r"The image 'image 0 of one' can't be read .IndexE"):
        load(OneImage(RGB, names=()), 0)
    with pytest.raises(InputError, match=r"lacks being an instance"):
        open_source(OneImage)
    with pytest.raises(InputError) as stopped:  # a source's own error, not an image's
        load(OneImage(InputError("Stop.")), 0)
    assert stopped.type is InputError
