import numpy as np
import pytest
from PIL import Image

from jaxdesc.images.folder import Folder
from jaxdesc.report.pictures import CAPTION, FRAME, MARGIN, exemplar_sheet
from jaxdesc.report.pictures import VIEW as CELL
from jaxdesc.result import Exemplar, Neuron


def neuron(unit, *exemplars):
    return Neuron("fc", unit, (("café, bird", 0.5),), 0.5, 0.475, exemplars, names=("star",))


@pytest.mark.parametrize("size", [(2000, 3), (1, 900), (1, 1)])
def test_a_picture_of_any_shape(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "a.png")
    side = float(min(size))
    boxed = Exemplar("a.png", 1.0, (0.0, 0.0, side, side))
    dead = Neuron("fc", 1, (), 0.0, 0.0, (Exemplar("a.png", 0.0),), ("dead",))
    sheet = tmp_path / "report" / "sheet.png"
    exemplar_sheet([neuron(0, boxed, boxed), dead], Folder(str(tmp_path)), sheet)
    framed = (np.asarray(Image.open(sheet)) == FRAME).all(axis=-1)
    upper, lower = np.split(framed, [len(framed) // 2])
    assert upper.any()
    assert not lower.any()


def test_each_exemplar_is_its_own_image(tmp_path):
    """Found by its index: names may repeat, and reading them all may take long."""
    folder = tmp_path / "photos"
    folder.mkdir()
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    for name, colour in zip("abc", colours, strict=True):
        Image.new("RGB", (50, 50), colour).save(folder / f"{name}.png")
    exemplars = [Exemplar("same", 1.0, index=index) for index in (2, 0, 1)]
    exemplar_sheet([neuron(0, *exemplars)], Folder(str(folder)), tmp_path / "sheet.png")
    pixels = np.asarray(Image.open(tmp_path / "sheet.png"))
    middle = pixels[CAPTION + CELL // 2]
    shown = [middle[MARGIN + CELL // 2 + column * (CELL + MARGIN)] for column in range(3)]
    np.testing.assert_array_equal(shown, [colours[index] for index in (2, 0, 1)])
