import threading
import warnings

import numpy as np
import pytest
from PIL import Image

from jaxdesc.errors import InputError, UnusableImage
from jaxdesc.images.example import Example
from jaxdesc.images.folder import Folder
from jaxdesc.images.loader import batches, even


@pytest.fixture
def folder(tmp_path):
    for index in range(11):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / f"{index:02d}.png")
    return tmp_path


def red(index, example):
    return index, np.asarray(example.image)[0, 0, 0]


def test_batches_keep_the_order_of_the_indices(folder):
    source = Folder(str(folder))
    found = list(batches(source, range(11), red, 4))
    assert found == [[(i, i) for i in part] for part in ((0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10))]
    found = list(batches(source, [9, 0, 0, 5, 2], red, 2))
    assert found == [[(9, 9), (0, 0)], [(0, 0), (5, 5)], [(2, 2)]]
    assert list(batches(source, [], red, 2)) == []


class Slow:
    """A source whose first image is ready last."""

    spec, has_boxes, has_labels = "slow", False, False
    identify, fingerprint = str, str

    def __init__(self):
        self.others = threading.Semaphore(0)

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index == 0:
            assert self.others.acquire(timeout=10), "images are not decoded in parallel"
        self.others.release()
        return Example(Image.new("RGB", (4, 4), (index, 0, 0)))


def test_a_late_image_keeps_its_position(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert list(batches(Slow(), range(4), red, 2)) == [[(0, 0), (1, 1)], [(2, 2), (3, 3)]]


def test_an_image_that_can_t_be_used_is_an_error_or_has_a_stand_in(folder):
    (folder / "03.png").write_bytes(b"")
    (folder / "10.png").write_bytes(b"text")
    source = Folder(str(folder))
    with pytest.raises(UnusableImage) as error:
        list(batches(source, range(11), red, 4))
    assert str(error.value) == f"The image '{folder}/03.png' is empty: repair or remove it."
    reasons = {3: "is empty", 10: "can't be decoded (no image)"}
    found = batches(source, range(11), red, 4, lambda index, error: (index, error.reason))
    flat = [pair for batch in found for pair in batch]
    assert flat == [(i, reasons.get(i, i)) for i in range(11)]


def test_another_error_has_no_stand_in(folder):
    def refuse(index, example):
        raise InputError(f"Image {index} is refused.")

    with pytest.raises(InputError, match=r"^Image 0 is refused\."):
        next(batches(Folder(str(folder)), range(11), refuse, 4, pytest.fail))


@pytest.mark.parametrize(
    ("count", "largest", "size"),
    [(200, 64, 50), (13, 4, 4), (5, 4, 3), (3, 64, 3), (1, 1, 1)],
)
def test_even_batches_are_few_and_hardly_padded(count, largest, size):
    assert even(count, largest) == size


def test_a_library_s_warning_names_the_image(folder, capsys):
    """Like Pillow's about broken EXIF; the caller's warnings are not caught."""

    def prepare(index, example):
        if index in (4, 9):
            warnings.warn("Corrupt EXIF data.  Expecting 2 bytes", stacklevel=1)
        return index

    def read():
        for batch in batches(Folder(str(folder)), range(11), prepare, 4):
            if 7 in batch:
                warnings.warn("from the caller", stacklevel=1)

    with pytest.warns(UserWarning, match="from the caller") as others:
        read()
    assert len(others) == 1
    said = "warning of '04.png' and 1 more: Corrupt EXIF data. Expecting 2 bytes"
    assert capsys.readouterr().err.splitlines() == [said]
