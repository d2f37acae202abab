"""The report of results that are at hand."""

import numpy as np
import pytest

import jaxdesc as jd
from jaxdesc.config import CropConfig
from jaxdesc.report import report
from jaxdesc.report.data import Method
from tests.plain_target import plain_target
from tests.report.made_up import Colours, layer, page_at, piece_of


def test_a_result_becomes_a_page(tmp_path):
    found, other = layer(4, 9, 3), layer(4, 9, 2, seed=1)
    path = jd.write_report(
        found, tmp_path / "a", images=Colours(9), target=plain_target(), beside={"WWW": other}
    )
    assert path == tmp_path / "a" / "index.html"
    data = data_at(path)
    assert [method["name"] for method in data["methods"]] == ["this result", "WWW"]
    assert any(data["piece"]["images"]["heats"])
    path = jd.write_report(
        found, tmp_path / "own", images=Colours(9), target=plain_target(), of="unit"
    )
    piece = data_at(path)["piece"]
    (method,), images = piece["methods"], piece["images"]
    assert not any(images["heats"])
    assert all(images["areas"])
    heats = [heat for neuron in method for heat in neuron.get("heats", ())]
    assert len(heats) > 9
    assert 0 < heats.count("") < len(heats)  # of one image, some neurons have no map
    data = data_at(jd.write_report(found, str(tmp_path / "b"), images=Colours(9), title="<i>"))
    assert len(data["methods"]) == 1
    assert not any(data["piece"]["images"]["heats"])
    assert "<title>&lt;i&gt;</title>" in (tmp_path / "b" / "index.html").read_text()
    (tmp_path / "b" / "index.html").write_text("my page")
    with pytest.raises(jd.InputError, match=r"index\.html is not a report of jaxdesc and would be"):
        jd.write_report(found, tmp_path / "b", images=Colours(9))
    assert (tmp_path / "b" / "index.html").read_text() == "my page"


def data_at(path):
    return page_at(path.parent)


class Renamed(Colours):
    """The images of `Colours` under other names."""

    spec = "folder:photos"

    def __init__(self, names):
        super().__init__(len(names))
        self.names = names

    def identify(self, index):
        return self.names[index]


def bare(images):
    """A result of activations on three images, each of which excites one neuron."""
    axes = np.eye(4, dtype=np.float32)
    return jd.describe_activations(
        axes[:3, :3], axes[:3], axes[:3], axes[3], ["a", "b", "c"], exemplars=1, images=images
    )


@pytest.mark.parametrize("prefix", ["", "/data/", "val/"])
def test_bare_activations_are_shown_with_the_images_of_their_names(tmp_path, prefix):
    names = [f"{prefix}{folder}/x.jpg" for folder in "cba"]
    source = Renamed(["a/x.jpg", "other.jpg", "b/x.jpg", "c/x.jpg"])
    data = data_at(jd.write_report(bare(names), tmp_path, images=source))
    assert data["piece"]["images"]["sizes"] == [list(source[i].image.size) for i in (0, 2, 3)]
    shown = [neuron["exemplars"][0][0] for neuron in data["piece"]["methods"][0]]
    assert [data["piece"]["images"]["names"][place] for place in shown] == names


def test_names_that_are_not_in_the_folder_are_refused(tmp_path):
    source = Renamed(["a/x.jpg", "b/x.jpg", "c/y.jpg"])
    for names, message in (
        (None, r"^The exemplars have the numbers of rows for names, such as '0', which say noth"),
        (["a/x.jpg", "b/x.jpg", "z.jpg"], r"^1 of the exemplars' 3 images can't be found in fol"),
        (["x.jpg", "c/y.jpg", "b/x.jpg"], r"not one alone \('x\.jpg'\): give the images"),
        (["1/c/y.jpg", "2/c/y.jpg", "b/x.jpg"], r"\('1/c/y\.jpg', '2/c/y\.jpg'\): give the i"),
    ):
        with pytest.raises(jd.InputError, match=message):
            jd.write_report(bare(names), tmp_path / "a", images=source)
    assert not (tmp_path / "a").exists()


def test_images_that_have_moved_in_their_folder_are_found(tmp_path):
    found, names = layer(4, 9, 3), [Colours(9).identify(index) for index in range(9)]
    data = data_at(jd.write_report(found, tmp_path, images=Renamed(["new.jpg", *names])))
    images = data["piece"]["images"]
    assert set(images["names"]) == {e.image for neuron in found for e in neuron.exemplars}
    sizes = dict(zip(images["names"], images["sizes"], strict=True))
    best = found[0].exemplars[0]
    assert sizes[best.image] == list(Colours(10)[best.index + 1].image.size)


def sheets_of(folder, piece):
    """Which neurons of a piece have sheets; the files of all must be there."""
    content = (folder / "units" / f"{piece}.js").read_bytes()
    (neurons,) = piece_of({f"units/{piece}.js": content}, piece)["methods"]
    names = [neuron["sheet"] for neuron in neurons]
    assert all((folder / "sheets" / f"{name}.webp").exists() for name in names if name)
    return [place for place, name in enumerate(names) if name]


@pytest.mark.parametrize("of", ["class", "unit"])
def test_of_many_neurons_some_have_thumbnails_and_others_get_them_when_asked(
    of, tmp_path, monkeypatch
):
    monkeypatch.setattr(report, "ALL", 100)
    monkeypatch.setattr(report, "SOME", 3)
    source, target = Colours(4000), plain_target()
    found = layer(150, 4000, 2)
    jd.write_report(found, tmp_path, images=source, target=target, of=of)
    assert [sheets_of(tmp_path, piece) for piece in range(3)] == [[0, 1, 2], [], []]
    old = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    given = "title", [Method("a", found)], source, target, CropConfig(of=of)
    report.write(tmp_path, *given, thumbnails={1, 5, 70})
    assert [sheets_of(tmp_path, piece) for piece in range(3)] == [[0, 1, 2, 5], [6], []]
    report.write(tmp_path, *given, thumbnails={148})
    assert [sheets_of(tmp_path, piece) for piece in range(3)] == [[0, 1, 2, 5], [6], [20]]
    for file, content in old.items():
        assert file.suffix == ".js" or file.read_bytes() == content
    (tmp_path / "units" / "1.js").unlink()
    with pytest.raises(jd.InputError, match=r"1\.js can't be read .*: write the whole repo"):
        report.write(tmp_path, *given, thumbnails={70})
