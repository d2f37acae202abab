import io
import json
import os
import re
import shutil
import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxdesc.errors import InputError, UnusableImage
from jaxdesc.images.example import Source
from jaxdesc.images.folder import Folder
from jaxdesc.images.loader import batches
from jaxdesc.images.sources import open_source
from jaxdesc.images.tfds import Tfds
from tests.conftest import ROOT

COUNT = 7
CLASSES = ("tench", "goldfish", "shark")
# Modes of photos: grey, CMYK, palette, PNG among JPEG.
MODES = [("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("P", "PNG"), ("RGBA", "PNG")]
SIDES = ("left", "right")
OBJECTS = [[(0.1, 0.2, 0.2, 0.3), (0.25, 0.5, 0.75, 1.0)], [], [(0.0, 0.0, 0.5, 0.25)]]


def encoded(index):
    """The file of image `index`."""
    mode, kind = MODES[index % len(MODES)]
    pixels = np.random.default_rng(index).integers(0, 256, (20 + index, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(file := io.BytesIO(), kind)
    return file.getvalue()


def photo(index):
    return io.BytesIO(encoded(index))


class _Set(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version("1.2.0")
    code_path = None  # otherwise TFDS looks for citations next to this file

    def _split_generators(self, manager):
        parts = {"train": range(2), "validation": range(COUNT)}
        return {name: self._generate_examples(part) for name, part in parts.items()}

    def _info(self):
        features = tfds.features.FeaturesDict(self.FEATURES)
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _generate_examples(self, part):
        for index in part:
            yield index, self.example(index)


class LabelledPhotos(_Set, skip_registration=True):
    """Like imagenet2012: image, label and file name. One more split holds a damaged image."""

    def _split_generators(self, manager):
        return super()._split_generators(manager) | {"damaged": self._generate_examples([3, -1])}

    FEATURES: ClassVar = {
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=CLASSES),
        "file_name": tfds.features.Text(),
    }

    def example(self, index):
        image = photo(index) if index >= 0 else io.BytesIO(b"no image")
        return {"image": image, "label": index % 3, "file_name": f"photo_{index}.jpg"}


class BoxedPhotos(_Set, skip_registration=True):
    """Like coco and open_images: several objects, and a config."""

    BUILDER_CONFIGS = (tfds.core.BuilderConfig(name="2017"),)

    FEATURES: ClassVar = {
        "picture": tfds.features.Image(),
        "mask": tfds.features.LabeledImage(labels=2, shape=(None, None, 1)),
        "objects": tfds.features.Sequence({"bbox": tfds.features.BBoxFeature()}),
    }

    def example(self, index):
        boxes = [tfds.features.BBox(*box) for box in OBJECTS[index % 3]]
        mask = io.BytesIO(b"never decoded")
        return {"picture": photo(index), "mask": mask, "objects": [{"bbox": box} for box in boxes]}


class TwoImages(_Set, skip_registration=True):
    """Like pairs of a stereo camera, with a box as in caltech_birds2011; some labels are hidden."""

    FEATURES: ClassVar = {
        **dict.fromkeys(SIDES, tfds.features.Image()),
        "bbox": tfds.features.BBoxFeature(),
        "kind": tfds.features.ClassLabel(names=["n01440764", "n02102040"]),
        "coarse": tfds.features.ClassLabel(names=["fish", "dog"]),
    }

    def example(self, index):
        images = {"left": photo(index), "right": photo(index + 1)}
        box = tfds.features.BBox(0.25, 0.5, 0.75, 1.0)
        return images | {"bbox": box, "kind": index % 3 - 1, "coarse": index % 2}


class NoImage(_Set, skip_registration=True):
    FEATURES: ClassVar = {"label": tfds.features.ClassLabel(names="ab")}

    def example(self, index):
        return {"label": 0}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data directory with a few small sets, built by TFDS itself."""
    folder = tmp_path_factory.mktemp("tfds")
    for kind in (LabelledPhotos, BoxedPhotos, TwoImages, NoImage):
        kind(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


@pytest.fixture
def labelled(data):
    return Tfds(f"labelled_photos/validation,data_dir={data}")


def names_of(source):
    return [source.identify(i) for i in range(len(source))]


def number(name):
    return int(name.removeprefix("photo_").removesuffix(".jpg"))


def test_pixels_labels_and_names(labelled, tmp_path):
    """They equal those of a folder of the same files, in threads too."""
    for index in range(COUNT):
        (tmp_path / f"photo_{index}.jpg").write_bytes(encoded(index))
    folder = Folder(str(tmp_path))
    assert isinstance(labelled, Source)
    assert not labelled.has_labels  # until they are matched with a target's classes
    assert not labelled.has_boxes
    assert labelled.namings == (CLASSES,)
    names = names_of(labelled)
    assert sorted(names) == names_of(folder)
    categories = [CLASSES[number(name) % 3] for name in names]
    for index, name in enumerate(names):
        example = labelled[index]
        np.testing.assert_array_equal(example.image, folder[number(name)].image)
        assert example.image.mode == "RGB"
        assert example.categories == (categories[index],)
        assert (example.label, example.box) == (None, None)
    found = batches(labelled, [*range(COUNT)] * 20, lambda i, example: example.categories[0], 16)
    assert [category for batch in found for category in batch] == categories * 20


def test_parts_of_a_split_on_the_search_path(data, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(data))
    train, whole, *parts = (
        names_of(open_source(f"tfds:labelled_photos:1.2.0/{split}"))
        for split in ("train", "validation", "validation[:3]", "train+validation[-1:]")
    )
    assert parts == [whole[:3], [*train, whole[-1]]]


def test_boxes_of_objects(data):
    """In pixels: the largest object's, None if there is no object; or the only one."""
    source = Tfds(f"boxed_photos/2017/validation,data_dir={data}")
    assert source.has_boxes
    assert source.namings == ()
    boxes = set()
    for example in map(source.__getitem__, range(COUNT)):
        sides = example.image.size * 2
        boxes.add(example.box and tuple(np.divide(example.box, sides).tolist()))
    assert boxes == {(0.5, 0.25, 1.0, 0.75), None, (0.0, 0.0, 0.25, 0.5)}
    assert source.identify(3) == "boxed_photos/2017/1.2.0/validation/00000003"
    example = Tfds(f"two_images/train,image=left,data_dir={data}")[1]
    width, height = example.image.size
    assert example.box == (width / 2, height / 4, width, 3 * height / 4)


def test_one_of_two_images(data):
    left, right = (Tfds(f"two_images/train,image={each},data_dir={data}") for each in SIDES)
    assert left.fingerprint() != right.fingerprint()
    assert {(left[i].image.height, right[i].image.height) for i in range(2)} == {(20, 21), (21, 22)}
    assert left.namings == (("fish", "dog"), ("n01440764", "n02102040"))
    assert [left[i].categories for i in range(2)] == [("fish", None), ("dog", "n01440764")]


@pytest.fixture
def copied(data, tmp_path):
    """A copy of the labelled set, the file of its validation split, and how it is opened."""
    folder = shutil.copytree(data / "labelled_photos", tmp_path / "labelled_photos")
    (file,) = folder.rglob("*validation*")
    return folder / "1.2.0", file, f"labelled_photos/validation,data_dir={tmp_path}"


def test_an_incomplete_set_is_named(copied):
    """Like the result of an interrupted copy."""
    folder, file, spec = copied
    (train,) = folder.glob("*train*")
    named = rf"^The TFDS set labelled_photos/1\.2\.0 in {re.escape(str(folder))}.*"
    whole = r"prepare it again, or copy all of it\.$"
    for damage, message in (
        (lambda: file.write_bytes(train.read_bytes()), "holds 2 records of validation, but .* 7: "),
        (lambda: file.write_bytes(file.read_bytes()[:100]), r"has a damaged file \(.*\): "),
        (file.unlink, "lacks the file labelled_photos-validation.*, which its dataset_info.* lis"),
    ):
        damage()
        with pytest.raises(InputError, match=f"{named} {message}.*{whole}"):
            Tfds(spec)


def test_a_damaged_record_is_named(data, copied):
    source = Tfds(f"labelled_photos/damaged,data_dir={data}")
    damaged = names_of(source).index("photo_-1.jpg")
    message = r"^The image 'photo_-1\.jpg' of tfds:labelled_photos/.* can't be decoded \(no image"
    with pytest.raises(UnusableImage, match=message):
        source[damaged]
    assert source[1 - damaged].categories == ("tench",)
    # Not only the image: the record itself can't be read.
    _, file, spec = copied
    source = Tfds(spec)
    file.write_bytes(file.read_bytes()[:2000])
    name = "labelled_photos/1.2.0/validation/00000002"
    with pytest.raises(UnusableImage, match=f"^The image '{name}' can't be read from its record"):
        source[2]
    assert source.identify(2) == name


def test_a_set_s_fingerprint(copied):
    _, file, spec = copied
    assert Tfds(spec).fingerprint() == Tfds(spec.replace("/", ":1.2.0/", 1)).fingerprint()
    splits = ("validation", "train", "validation[:3]")
    prints = {Tfds(spec.replace("validation", split)).fingerprint() for split in splits}
    assert len(prints) == 3
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert Tfds(spec).fingerprint() not in prints


LABELLED = r"The TFDS set labelled_photos/1\.2\.0"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("labelled_photos/test", f"^{LABELLED} can't be split as 'test': expected one of train,"),
        ("labelled_photos/validation[:", r"can't be split as 'validation\[:'"),
        ("labelled_photos/validation[:0]", r"^The split 'validation\[:0\]' of .* is empty: "),
        ("two_images/train", "has 2 images, left, right: choose one with ',image=left' after"),
        ("two_images/train,image=up", "no image 'up': expected one of left, right"),
        ("no_image/train", "has no image among its columns label: give another"),
    ],
)
def test_what_can_t_be_opened(data, spec, message):
    with pytest.raises(InputError, match=message):
        Tfds(f"{spec},data_dir={data}")


def test_a_set_without_random_access(copied):
    """TFDS's default format; only the description is read."""
    folder, _, spec = copied
    for path in folder.glob("*array_record*"):
        path.rename(folder / path.name.replace("array_record", "tfrecord"))
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    message = (
        rf"^{LABELLED} was prepared as tfrecord, which has no random access: run `tfds "
        f"convert_format --dataset_version_dir={folder} --out_file_f"
    )
    with pytest.raises(InputError, match=message):
        Tfds(spec)


WITHOUT_TENSORFLOW = """
import json, sys
from jaxdesc.images.loader import batches
from jaxdesc.images.sources import open_source

source = open_source(sys.argv[1])
(names,) = batches(source, range(len(source)), lambda i, example: example.categories[0], 100)
print(json.dumps([names, source.fingerprint(), source.identify(0)]))
assert not {"tensorflow", "torch"} & set(sys.modules)
"""


def test_nothing_needs_tensorflow(labelled):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, labelled.spec],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    categories = [labelled[i].categories[0] for i in range(COUNT)]
    assert json.loads(done.stdout) == [categories, labelled.fingerprint(), labelled.identify(0)]
