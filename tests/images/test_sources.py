import numpy as np
import pytest
from PIL import Image

from jaxdesc.errors import InputError
from jaxdesc.images.example import Example
from jaxdesc.images.folder import Folder
from jaxdesc.images.sources import SOURCES, open_source


class Grey:
    """A source from outside the package."""

    has_boxes = has_labels = False

    def __init__(self, rest):
        self.spec, self.count = f"grey:{rest}", int(rest)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return Example(Image.new("RGB", (8, 8), (index, index, index)))

    def identify(self, index):
        return f"grey {index}"

    def fingerprint(self):
        return self.spec


def test_a_registered_source(monkeypatch):
    monkeypatch.setitem(SOURCES, "grey", Grey)
    source = open_source("grey:3")
    assert (len(source), source.spec) == (3, "grey:3")
    np.testing.assert_array_equal(np.asarray(source[2].image), 2)
    assert open_source(source) is source


def test_a_folder_in_every_form(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    for images in (f"folder:{tmp_path}", str(tmp_path), tmp_path):
        source = open_source(images)
        assert isinstance(source, Folder)
        assert source.spec == f"folder:{tmp_path}"


@pytest.mark.parametrize("spec", ["", "photos", "imagenet2012", "web:photos"])
def test_an_unknown_kind(spec):
    with pytest.raises(
        InputError, match=f"source '{spec}': expected KIND:REST, KIND one of folder, tfds, scenes"
    ):
        open_source(spec)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("fingerprint", lambda self: "", r"fingerprint\(\) of 'grey:3' is '': expected a text"),
        ("identify", lambda self, index: index, r"identify\(0\) of 'grey:3' is 0: expected a text"),
        ("identify", lambda self: "a", r"identify\(0\) of 'grey:3' fails \(TypeError"),
    ],
)
def test_a_source_without_names(name, value, message, monkeypatch):
    monkeypatch.setattr(Grey, name, value)
    with pytest.raises(InputError, match=message):
        open_source(Grey("3"))
