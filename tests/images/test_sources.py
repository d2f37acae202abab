import pytest
from PIL import Image

from jaxdesc.errors import InputError
from jaxdesc.images.folder import Folder
from jaxdesc.images.sources import open_source
from tests.album import Album


def test_a_folder_in_every_form(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    for images in (f"folder:{tmp_path}", str(tmp_path), tmp_path):
        source = open_source(images)
        assert isinstance(source, Folder)
        assert source.spec == f"folder:{tmp_path}"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("fingerprint", lambda self: "", r"fingerprint\(\) of 'album of 3, 0' is '': expected a t"),
        ("identify", lambda self, index: index, r"identify\(0\) of 'album .*' is 0: expected a te"),
        ("identify", lambda self: "a", r"identify\(0\) of 'album .*' fails \(TypeError"),
    ],
)
def test_a_source_without_names(name, value, message, monkeypatch):
    monkeypatch.setattr(Album, name, value)
    with pytest.raises(InputError, match=message):
        open_source(Album(3))
