"""Data sets of Hugging Face that its own library makes of photos: in a folder, or cached."""

import json
import os
import pickle
import shutil
import subprocess
import sys

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Features, Image, Value

from jaxdesc.errors import InputError, UnusableImage
from jaxdesc.images.example import Source
from jaxdesc.images.folder import Folder
from jaxdesc.images.hugging_face import HuggingFace
from jaxdesc.images.loader import batches
from jaxdesc.images.sources import open_source
from tests.conftest import ROOT

COUNT = 5
CLASSES = ["tench", "goldfish", "shark"]
LABELLED = Features(
    {"image": Image(), "label": ClassLabel(names=CLASSES), "file_name": Value("string")}
)
PAIRS = Features(
    {
        **dict.fromkeys(("left", "right"), Image()),
        "kind": ClassLabel(names=["n01440764", "n02102040"]),
        "coarse": ClassLabel(names=["fish", "dog"]),
    }
)


def labelled(paths, part):
    """Rows as those of Parquet files: each image's bytes, its class and its file's name."""
    for index in part:
        image = {"bytes": paths[index].read_bytes(), "path": None}
        yield {"image": image, "label": index % 3, "file_name": paths[index].name}


class Photos(datasets.GeneratorBasedBuilder):
    """A data set as the library caches it, of images in separate files."""

    BUILDER_CONFIGS = [datasets.BuilderConfig(name) for name in ("plain", "other")]  # noqa: RUF012

    def _info(self):
        return datasets.DatasetInfo(features=Features({"image": Image(), "label": Value("int8")}))

    def _split_generators(self, manager):
        return [datasets.SplitGenerator("train")]

    def _generate_examples(self):
        for index, path in enumerate(sorted(PHOTOS.glob("*.JPEG"))):
            yield index, {"image": str(path), "label": index}


@pytest.fixture(scope="module")
def data(tmp_path_factory, photos):
    """A folder with a few small sets."""
    folder = tmp_path_factory.mktemp("data")

    def made(features, rows):
        return datasets.Dataset.from_list(list(rows), features=features)

    damaged = {"image": {"bytes": b"no image", "path": None}, "label": 0, "file_name": "bad.jpg"}
    missing = {"image": None, "label": None, "file_name": None}
    splits = {
        "train": made(LABELLED, labelled(photos, range(2))),
        "validation": made(LABELLED, labelled(photos, range(COUNT))),
        "damaged": made(LABELLED, [*labelled(photos, [3]), damaged, missing]),
    }
    datasets.DatasetDict(splits).save_to_disk(folder / "photos")
    pairs = [
        {"left": str(photos[i]), "right": str(photos[i + 1]), "kind": i - 1, "coarse": i % 2}
        for i in range(2)
    ]
    made(PAIRS, pairs).save_to_disk(folder / "pairs")
    made(Features({"label": Value("int8")}), [{"label": 0}]).save_to_disk(folder / "numbers")
    return folder


def names_of(source):
    return [source.identify(i) for i in range(len(source))]


def test_pixels_labels_and_names(data, photos, tmp_path):
    """They equal those of a folder of the same files, in threads too."""
    source = open_source(f"hf:{data}/photos/validation")
    for path in photos[:COUNT]:
        shutil.copy(path, tmp_path)
    folder = Folder(str(tmp_path))
    assert isinstance(source, Source)
    assert not source.has_labels  # until they are matched with a target's classes
    assert source.namings == (tuple(CLASSES),)
    assert names_of(source) == names_of(folder)
    categories = [CLASSES[index % 3] for index in range(COUNT)]
    for index in range(COUNT):
        example = source[index]
        np.testing.assert_array_equal(example.image, folder[index].image)
        assert example.image.mode == "RGB"
        assert example.categories == (categories[index],)
    found = batches(source, [*range(COUNT)] * 10, lambda i, example: example.categories[0], 16)
    assert [category for batch in found for category in batch] == categories * 10


def test_parts_of_a_split(data):
    train, whole, *parts = (
        names_of(open_source(f"hf:{data}/photos/{split}"))
        for split in ("train", "validation", "validation[:3]", "train+validation[-1:]")
    )
    assert parts == [whole[:3], [*train, whole[-1]]]
    assert names_of(HuggingFace(f"{data}/pairs/train[1:],image=left")) == [
        "pairs/train[1:]/00000000"
    ]


def test_one_of_two_images(data):
    left, right = (HuggingFace(f"{data}/pairs/train,image={each}") for each in ("left", "right"))
    assert left.fingerprint() != right.fingerprint()
    assert np.array_equal(left[1].image, right[0].image)
    assert left.namings == (("fish", "dog"), ("n01440764", "n02102040"))
    assert [left[i].categories for i in range(2)] == [("fish", None), ("dog", "n01440764")]


def test_a_damaged_image_is_named(data):
    source = HuggingFace(f"{data}/photos/damaged")
    with pytest.raises(UnusableImage, match=r"^The image 'bad\.jpg' of hf:.* can't be decoded"):
        source[1]
    with pytest.raises(UnusableImage, match=r"'photos/damaged/00000002' of .* missing in its row"):
        source[2]
    assert source[0].categories == ("tench",)


@pytest.fixture
def copied(data, tmp_path):
    """The Arrow file of a copy of the photos' training split, and how that is opened."""
    folder = shutil.copytree(data / "photos", tmp_path / "photos")
    (file,) = (folder / "train").glob("*.arrow")
    return file, f"{folder}/train"


@pytest.mark.parametrize("change", ["cut", "removed"])
def test_an_incomplete_set_is_named(copied, change):
    """Like the result of an interrupted copy."""
    file, spec = copied
    file.write_bytes(file.read_bytes()[:-5000]) if change == "cut" else file.unlink()
    with pytest.raises(
        InputError, match=r"^The data set '.*photos' can't be read \(.*all of it\.$"
    ):
        HuggingFace(spec)


def test_a_set_s_fingerprint(copied):
    file, spec = copied
    source = HuggingFace(spec)
    assert pickle.loads(pickle.dumps(source)).fingerprint() == source.fingerprint()
    prints = {HuggingFace(f"{spec}{part}").fingerprint() for part in ("", "[:1]", "+validation")}
    assert len(prints) == 3
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert HuggingFace(spec).fingerprint() not in prints


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("photos/test", "can't be split as 'test': expected one of train, validation, damaged, or"),
        ("photos/train[:", r"can't be split as 'train\[:': expected one of train"),
        ("photos/train[:0]", r"has no row in the split 'train\[:0\]': give another"),
        ("pairs/train", "has 2 images, left, right: choose one with ',image=left' after"),
        ("pairs/train,image=up", "has no image 'up': expected one of left, right"),
        ("numbers/train", "has no image among its columns label: give another"),
        ("photos/train/x", "can't be split as 'x': expected one of train"),
        ("none/train", r"can't be read \(FileNotFoundError: .*\): give a folder that save_to_disk"),
    ],
)
def test_what_can_t_be_opened(data, spec, message):
    with pytest.raises(InputError, match=f"^The data set '{data}.*' {message}"):
        HuggingFace(f"{data}/{spec}")


@pytest.fixture
def cache(tmp_path, photos, monkeypatch):
    """A folder of photos, and a cache of two data sets of them, the second with two configs."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setitem(globals(), "PHOTOS", tmp_path)
    for path in photos[:3]:
        shutil.copy(path, tmp_path)
    for name, configs in {"owner/photos": ["plain"], "two": ["plain", "other"]}.items():
        for config in configs:
            identity = {"repo_id": name, "dataset_name": name.split("/")[-1], "hash": "0"}
            Photos(
                cache_dir=tmp_path / "cache", config_name=config, **identity
            ).download_and_prepare()
    return tmp_path


def test_a_cached_set_of_files(cache):
    """Changes of a file that holds an image change the fingerprint; without it, it is skipped."""
    source = open_source("hf:owner/photos/train")
    folder = Folder(str(cache))
    for index in range(3):
        np.testing.assert_array_equal(source[index].image, folder[index].image)
    assert source.identify(1) == "photos/train/00000001"
    before, first = source.fingerprint(), folder.files[0]
    os.utime(first, ns=(0, 0))
    assert source.fingerprint() != before
    first.unlink()
    with pytest.raises(UnusableImage, match=r"is not in its row but in '.*\.JPEG', not a file"):
        source[0]
    other = open_source("hf:two/train,config=other")
    assert len(other) == 3


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "owner/none/train",
            r"from the cache '.*cache' \(ValueError: .*\): run datasets\.load_data",
        ),
        ("two/train", r"\(ValueError: There are multiple 'two' configurations .*',config=NAME'"),
        (
            "two/train,config=third",
            r"\(ValueError: .* for config 'third' Available configs .*plain",
        ),
    ],
)
def test_what_is_not_in_the_cache(cache, spec, message):
    with pytest.raises(InputError, match=f"^The data set '.*' can't be read .*{message}"):
        HuggingFace(spec)


def test_without_the_library_the_sentence_says_what_to_install(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"run pip install 'jaxdesc\[datasets\]'\.$"):
        HuggingFace(f"{data}/photos/train")


ALONE = """
import json, sys
from jaxdesc.images.sources import open_source

source = open_source(sys.argv[1])
print(json.dumps([source[0].categories[0], source.fingerprint(), source.identify(0)]))
assert not {"tensorflow", "torch"} & set(sys.modules)
"""


def test_nothing_needs_pytorch_or_tensorflow(data):
    source = HuggingFace(f"{data}/photos/train")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, source.spec], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = [source[0].categories[0], source.fingerprint(), source.identify(0)]
    assert json.loads(done.stdout) == found
