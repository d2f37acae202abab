import numpy as np
import pytest
from PIL import Image

from jaxdesc.images.sources import Folder
from jaxdesc.report.figures import FRAME, exemplar_sheet
from jaxdesc.result import Exemplar, Neuron


def neuron(unit, *exemplars):
    return Neuron("fc", unit, (("café, bird", 0.5),), 0.5, 0.475, exemplars, names=("star",))


@pytest.mark.parametrize("size", [(300, 200), (2000, 3), (1, 900), (1, 1)])
def test_a_picture_of_any_shape(tmp_path, size):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", size).save(tmp_path / "photos" / "a.png")
    side = min(size)
    boxed = Exemplar("a.png", 1.0, (0.0, 0.0, float(side), float(side)))
    dead = Neuron("fc", 1, (), 0.0, 0.0, (Exemplar("a.png", 0.0),), ("dead",))
    path = tmp_path / "report" / "sheet.png"
    exemplar_sheet([neuron(0, boxed, boxed), dead], Folder(str(tmp_path / "photos")), path)
    pixels = np.asarray(Image.open(path))
    framed = (pixels == FRAME).all(axis=-1)
    assert framed[: len(framed) // 2].any()
    assert not framed[len(framed) // 2 :].any()
