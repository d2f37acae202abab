"""A folder of photos in a bucket, next to the same folder on a disk."""

import io
from itertools import chain

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import jaxdesc as jd
from jaxdesc.errors import InputError, UnusableImage
from jaxdesc.images.folder import BucketFolder, Folder
from jaxdesc.images.loader import batches
from jaxdesc.images.sources import open_source
from jaxdesc.store.workdir import DRAWN
from tests.plain_target import parameters, plain_target
from tests.store.bucket import Bucket

PAGE = b'<!doctype>\n<meta name="generator" content="jaxdesc">'


def photo(seed, drawn=False):
    file, about = io.BytesIO(), PngImagePlugin.PngInfo()
    for key, value in DRAWN.items() if drawn else ():
        about.add_text(key, value)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 44 + seed, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG", pnginfo=about)
    return file.getvalue()


PHOTOS = {f"{name}/{i}.png": photo(i) for i, name in enumerate(["cat", "dog", "Zebra"] * 4)}
OTHERS = {
    "notes.txt": b"",
    ".hidden.png": photo(0),
    ".git/x.png": photo(0),
    "cat/@eaDir/0.png": photo(0),
    "cat/x.MOV": b"",
    "exemplars.png": photo(1, drawn=True),
    "dog/run/artifacts/activate-0123456789abcdef/manifest.json": b"{}",
    "dog/run/a.png": photo(2),
    "page/index.html": PAGE,
    "page/sheets/0.png": photo(3),
}


@pytest.fixture
def bucket(server):
    """Fill the bucket with files."""
    Bucket.objects.clear()
    Bucket.locked.clear()

    def fill(files):
        for name, content in files.items():
            Bucket.writes += 1
            Bucket.objects[f"photos/{name}"] = (Bucket.writes, content)

    return fill


def test_it_is_read_as_a_folder_on_a_disk(bucket, tmp_path):
    bucket(PHOTOS | OTHERS)
    for name, content in (PHOTOS | OTHERS).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    found, expected = open_source("folder:gs://bucket/photos"), Folder(str(tmp_path))
    assert isinstance(found, BucketFolder)
    assert found.spec == "folder:gs://bucket/photos"
    names, same = ([each.identify(i) for i in range(len(each))] for each in (found, expected))
    assert names == same
    assert set(names) == set(PHOTOS)
    assert found.namings == expected.namings == (("Zebra", "cat", "dog"),)
    assert found.passed_over == expected.passed_over
    assert len(found.passed_over) == 7
    for index in range(len(names)):
        np.testing.assert_array_equal(found[index].image, expected[index].image)
        assert found[index].categories == expected[index].categories


def test_its_fingerprint_has_the_versions_of_its_photos(bucket):
    def fingerprint():
        return open_source("folder:gs://bucket/photos").fingerprint()

    bucket(PHOTOS)
    before = fingerprint()
    bucket({"notes.txt": b""})
    assert fingerprint() == before
    bucket({"cat/0.png": PHOTOS["cat/0.png"]})  # written again
    after = fingerprint()
    assert after != before
    bucket({"cat/new.png": photo(0)})
    assert fingerprint() not in (before, after)


def test_photos_that_can_t_be_used_are_left_out(bucket):
    bucket(PHOTOS | {"cat/0.png": b"text"})
    source = open_source("folder:gs://bucket/photos")
    Bucket.locked.add("photos/dog/1.png")
    del Bucket.objects["photos/dog/4.png"]
    read = batches(source, range(12), lambda i, e: "", 5, lambda i, error: error.reason)
    reasons = {source.identify(i): text for i, text in enumerate(chain(*read)) if text}
    assert reasons == {
        "cat/0.png": "can't be decoded (no image)",
        "dog/1.png": "may not be read (permission denied)",
        "dog/4.png": "does not exist",
    }
    with pytest.raises(UnusableImage, match=r"^The image 'gs://bucket/photos/cat/0.png' can't be "):
        source[[source.identify(i) for i in range(12)].index("cat/0.png")]


def test_a_bucket_that_fails_ends_the_run(bucket, monkeypatch):
    bucket(PHOTOS)
    source = open_source("folder:gs://bucket/photos")
    monkeypatch.setattr(Bucket, "do_GET", lambda self: self.answer(400))
    with pytest.raises(InputError, match=r"^gs://bucket/photos can't be read \(") as error:
        source[0]
    assert not isinstance(error.value, UnusableImage)


def test_a_bucket_without_photos(bucket):
    bucket({"a.heic": b"", "notes.txt": b""})
    with pytest.raises(InputError, match=r"^The image folder 'gs://bucket/photos' holds no image:"):
        open_source("folder:gs://bucket/photos")


def test_neurons_are_described_from_a_bucket(bucket, clip):
    bucket(PHOTOS)
    options = {"concepts": ["cat", "dog", "zebra"], "exemplars": 3, "quiet": True}
    target = plain_target(parameters(3), classes=(("cat",), ("dog",), ("zebra",)))
    found = jd.describe(target, clip, images="folder:gs://bucket/photos", **options)
    assert {exemplar.image for neuron in found for exemplar in neuron.exemplars} <= set(PHOTOS)
    assert found.top1.images == 12
