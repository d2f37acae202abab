import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

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

ROOT = Path(__file__).parents[2]
COUNT = 7
# Modes of photos: grey, CMYK, palette, PNG among JPEG.
MODES = [("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("P", "PNG"), ("RGBA", "PNG")]
OBJECTS = [[(0.1, 0.2, 0.2, 0.3), (0.25, 0.5, 0.75, 1.0)], [], [(0.0, 0.0, 0.5, 0.25)]]


def encoded(index):
    """The file of image `index`."""
    mode, kind = MODES[index % len(MODES)]
    pixels = np.random.default_rng(index).integers(0, 256, (20 + index, 32, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


class _Photos(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version("1.2.0")
    code_path = None  # otherwise TFDS looks for citations next to this file

    def _split_generators(self, manager):
        return {"train": self._generate_examples(2), "validation": self._generate_examples(COUNT)}

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(self.features())
        )

    def _generate_examples(self, count):
        for index in range(count):
            yield index, self.example(index)


class LabelledPhotos(_Photos, skip_registration=True):
    """Like imagenet2012: image, label and file name."""

    def features(self):
        return {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=["tench", "goldfish", "shark"]),
            "file_name": tfds.features.Text(),
        }

    def example(self, index):
        image = encoded(index) if index != self.damaged else b"no image"
        return {"image": io.BytesIO(image), "label": index % 3, "file_name": f"photo_{index}.jpg"}

    damaged = None


class DamagedPhotos(LabelledPhotos, skip_registration=True):
    damaged = 4


class BoxedPhotos(_Photos, skip_registration=True):
    """Like coco and open_images: several objects, and two configs."""

    BUILDER_CONFIGS = (tfds.core.BuilderConfig(name="2014"), tfds.core.BuilderConfig(name="2017"))

    def features(self):
        return {
            "picture": tfds.features.Image(),
            "mask": tfds.features.LabeledImage(labels=2, shape=(None, None, 1)),
            "objects": tfds.features.Sequence(
                {"bbox": tfds.features.BBoxFeature(), "label": tfds.features.ClassLabel(names="ab")}
            ),
        }

    def example(self, index):
        boxes = [tfds.features.BBox(*box) for box in OBJECTS[index % 3]]
        return {
            "picture": io.BytesIO(encoded(index)),
            "mask": io.BytesIO(b"never decoded"),
            "objects": [{"bbox": box, "label": 0} for box in boxes],
        }


class OneBox(_Photos, skip_registration=True):
    """Like caltech_birds2011: one box per image."""

    def features(self):
        return {"image": tfds.features.Image(), "bbox": tfds.features.BBoxFeature()}

    def example(self, index):
        return {
            "image": io.BytesIO(encoded(index)),
            "bbox": tfds.features.BBox(0.25, 0.5, 0.75, 1.0),
        }


class TwoImages(_Photos, skip_registration=True):
    """Like pairs of a stereo camera, or of before and after; some labels are hidden."""

    def features(self):
        return {
            "left": tfds.features.Image(),
            "right": tfds.features.Image(),
            "kind": tfds.features.ClassLabel(names=["n01440764", "n02102040"]),
            "coarse": tfds.features.ClassLabel(names=["fish", "dog"]),
        }

    def example(self, index):
        images = {"left": io.BytesIO(encoded(index)), "right": io.BytesIO(encoded(index + 1))}
        return images | {"kind": index % 3 - 1, "coarse": index % 2}


class NoImage(_Photos, skip_registration=True):
    def features(self):
        return {"label": tfds.features.ClassLabel(names="ab")}

    def example(self, index):
        return {"label": 0}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data directory with a few small sets, built by TFDS itself."""
    folder = tmp_path_factory.mktemp("tfds")
    for kind in (LabelledPhotos, DamagedPhotos, OneBox, TwoImages, NoImage):
        kind(data_dir=folder, file_format="array_record").download_and_prepare()
    for config in ("2014", "2017"):
        builder = BoxedPhotos(config=config, data_dir=folder, file_format="array_record")
        builder.download_and_prepare()
    return folder


@pytest.fixture
def labelled(data):
    return Tfds(f"labelled_photos/validation,data_dir={data}")


def number(name):
    return int(name.removeprefix("photo_").removesuffix(".jpg"))


def test_pixels_labels_and_names(labelled, tmp_path):
    """They equal those of a folder of the same files."""
    for index in range(COUNT):
        (tmp_path / f"photo_{index}.jpg").write_bytes(encoded(index))
    folder = Folder(str(tmp_path))
    assert isinstance(labelled, Source)
    assert not labelled.has_labels  # until they are matched with a target's classes
    assert labelled.namings[0] == ("tench", "goldfish", "shark")
    assert not labelled.has_boxes
    names = [labelled.identify(i) for i in range(len(labelled))]
    assert sorted(names) == [folder.identify(i) for i in range(COUNT)]
    for index, name in enumerate(names):
        example = labelled[index]
        np.testing.assert_array_equal(example.image, folder[number(name)].image)
        assert example.image.mode == "RGB"
        assert example.categories[0] == labelled.namings[0][number(name) % 3]
        assert (example.label, example.box) == (None, None)


def test_in_threads_too(labelled):
    names = [labelled.identify(i) for i in range(COUNT)]
    wanted = [labelled.namings[0][number(name) % 3] for name in names] * 20
    found = batches(labelled, [*range(COUNT)] * 20, lambda i, example: example.categories[0], 16)
    assert [category for batch in found for category in batch] == wanted


def test_parts_of_a_split(data):
    def names(split):
        source = Tfds(f"labelled_photos/{split},data_dir={data}")
        return [source.identify(i) for i in range(len(source))]

    whole = names("validation")
    assert names("validation[:3]") == whole[:3]
    assert names("validation[50%:]") == whole[4:]
    assert names("train+validation[-1:]") == [*names("train"), whole[-1]]


def test_search_path(data, monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(data))
    source = open_source("tfds:labelled_photos:1.2.0/train")
    assert source.spec == "tfds:labelled_photos:1.2.0/train"
    assert len(source) == 2
    with pytest.raises(InputError, match=f"not prepared in '{tmp_path}'"):
        Tfds(f"labelled_photos/train,data_dir={tmp_path}")


def test_boxes_of_objects(data):
    source = Tfds(f"boxed_photos/2017/validation,data_dir={data}")
    assert source.has_boxes
    assert source.namings == ()
    boxes = set()
    for index in range(COUNT):
        example = source[index]
        width, height = example.image.size
        shown = example.box and tuple(
            share / side for share, side in zip(example.box, (width, height) * 2, strict=True)
        )
        boxes.add(shown)
    # (left, top, right, bottom) of the largest object; None if there is no object.
    assert boxes == {(0.5, 0.25, 1.0, 0.75), None, (0.0, 0.0, 0.25, 0.5)}
    assert source.identify(3) == "boxed_photos/2017/1.2.0/validation/00000003"


def test_one_box_per_image(data):
    example = Tfds(f"one_box/train,data_dir={data}")[1]
    width, height = example.image.size
    assert example.box == (width / 2, height / 4, width, 3 * height / 4)


def test_one_of_two_images(data):
    left, right = (
        Tfds(f"two_images/train,image={side},data_dir={data}") for side in ("left", "right")
    )
    assert left.fingerprint() != right.fingerprint()
    shapes = {(left[i].image.height, right[i].image.height) for i in range(2)}
    assert shapes == {(20, 21), (21, 22)}
    assert left.namings == (("fish", "dog"), ("n01440764", "n02102040"))
    assert [left[i].categories for i in range(2)] == [("fish", None), ("dog", "n01440764")]


def test_an_incomplete_set_is_named(data, tmp_path):
    """Like the result of an interrupted copy."""
    shutil.copytree(data / "labelled_photos", tmp_path / "labelled_photos")
    (file,) = tmp_path.rglob("*validation*")
    train = next(file.parent.glob("*train*"))
    spec = f"labelled_photos/validation,data_dir={tmp_path}"
    named = rf"^The TFDS set labelled_photos/1\.2\.0 in {re.escape(str(tmp_path))}.*"
    whole = r"prepare it again, or copy all of it\.$"
    file.write_bytes(train.read_bytes())
    message = r"holds 2 records of validation, but its dataset_info\.json lists 7: "
    with pytest.raises(InputError, match=f"{named} {message}{whole}"):
        Tfds(spec)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=f"{named} has a damaged file .*{whole}"):
        Tfds(spec)
    file.unlink()
    message = r"lacks the file labelled_photos-validation.*, which its dataset_info\.json lists"
    with pytest.raises(InputError, match=f"{named} {message}: {whole}"):
        Tfds(spec)


def test_a_damaged_record_is_named(data):
    source = Tfds(f"damaged_photos/validation,data_dir={data}")
    names = [source.identify(i) for i in range(COUNT)]
    message = r"^The image 'photo_4\.jpg' of tfds:damaged_photos/.* can't be decoded \(no im"
    with pytest.raises(UnusableImage, match=message):
        source[names.index("photo_4.jpg")]
    assert source[names.index("photo_3.jpg")].categories == ("tench",)


def test_a_damaged_file_is_named(data, tmp_path):
    """Not only the image: the record itself can't be read."""
    shutil.copytree(data / "labelled_photos", tmp_path / "labelled_photos")
    (file,) = tmp_path.rglob("*validation*")
    source = Tfds(f"labelled_photos/validation,data_dir={tmp_path}")
    file.write_bytes(file.read_bytes()[:2000])
    message = (
        r"^The image 'labelled_photos/1\.2\.0/validation/00000002' can't be read from its record "
        r"\(.*\): repair or remove it\.$"
    )
    with pytest.raises(UnusableImage, match=message):
        source[2]
    assert source.identify(2) == "labelled_photos/1.2.0/validation/00000002"


def test_a_set_s_fingerprint(data, labelled):
    def fingerprint(spec):
        return Tfds(f"{spec},data_dir={data}").fingerprint()

    before = labelled.fingerprint()
    assert fingerprint("labelled_photos:1.2.0/validation") == before
    others = {
        fingerprint(spec)
        for spec in (
            "labelled_photos/train",
            "labelled_photos/validation[:3]",
            "damaged_photos/validation",
            "boxed_photos/2014/validation",
            "boxed_photos/2017/validation",
        )
    }
    assert len(others | {before}) == 6
    (file,) = (data / "labelled_photos" / "1.2.0").glob("*validation*")
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert labelled.fingerprint() != before


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "labelled_photos",
            r"'tfds:labelled_photos.*' can't be read: expected tfds:NAME\[/CONFIG\]",
        ),
        ("labelled_photos/", r"can't be read: expected tfds:NAME"),
        (
            "imagenet2012/validation",
            r"^The TFDS set 'imagenet2012' is not prepared in '.*': run `tfds build imagenet2012 "
            r"--file_format=array_record --data_dir=.*`, or give its folder in TFDS_DATA_DIR or",
        ),
        ("boxed_photos/2015/validation", r"The TFDS set 'boxed_photos/2015' is not prepared"),
        (
            "labelled_photos/test",
            r"^The TFDS set labelled_photos/1\.2\.0 can't be split as 'test': expected one of "
            r"train, validation, or a part such as validation\[:1000\]\.",
        ),
        ("labelled_photos/validation[:", r"can't be split as 'validation\[:'"),
        (
            "labelled_photos/validation[:0]",
            r"split 'validation\[:0\]' of the TFDS set .* is empty: g",
        ),
        (
            "two_images/train",
            r"^The TFDS set two_images/1\.2\.0 has 2 images, left, right: choose one with "
            r"',image=left' after the split\.",
        ),
        ("two_images/train,image=up", r"no image 'up': expected one of left, right\."),
        (
            "no_image/train",
            r"^The TFDS set no_image/1\.2\.0 has no image among its features label: give another\.",
        ),
    ],
)
def test_what_can_t_be_opened(data, spec, message):
    with pytest.raises(InputError, match=message):
        Tfds(f"{spec},data_dir={data}")


def test_a_set_without_random_access(data, tmp_path):
    """TFDS's default format; only the description is read."""
    folder = tmp_path / "labelled_photos" / "1.2.0"
    folder.mkdir(parents=True)
    for path in (data / "labelled_photos" / "1.2.0").iterdir():
        (folder / path.name.replace("array_record", "tfrecord")).write_bytes(path.read_bytes())
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    message = (
        r"^The TFDS set labelled_photos/1\.2\.0 was prepared as tfrecord, which has no random "
        rf"access: run `tfds convert_format --dataset_version_dir={folder} --out_file_f"
    )
    with pytest.raises(InputError, match=message):
        Tfds(f"labelled_photos/train,data_dir={tmp_path}")


WITHOUT_TENSORFLOW = """
import importlib.abc, importlib.machinery, json, sys

class Refuse(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "torch"):
            return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        raise AssertionError(f"{module.__name__} was imported")

sys.meta_path.insert(0, Refuse())
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
