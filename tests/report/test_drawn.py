"""The figures of a run: each has its neurons' own arrays and images."""

from dataclasses import replace

import numpy as np
import pytest

from jaxdesc.attention import attention_maps
from jaxdesc.config import Config, CropConfig
from jaxdesc.report import plots
from jaxdesc.report.files import Saved
from jaxdesc.result import Result
from jaxdesc.store import Store
from tests.plain_target import plain_target
from tests.report.made_up import Colours, Pictures, layer

IMAGES, NEURONS, EXEMPLARS = 12, 5, 3
FIRST = 4  # images before it are nobody's exemplar; their shapes come round after four


@pytest.fixture
def arrays(rng):
    features = rng.normal(size=(IMAGES, 4)).astype(np.float32)
    concepts = rng.normal(size=(9, 4)).astype(np.float32)
    chosen = [
        [exemplar.index + FIRST for exemplar in neuron.exemplars]
        for neuron in layer(NEURONS, IMAGES, EXEMPLARS)
    ]
    return {
        "activate": {"activations": rng.normal(size=(IMAGES, NEURONS)).astype(np.float32)},
        "select": {"images": np.array(chosen)},
        # As embed leaves them: only the exemplars' images, in order.
        "embed": {"rows": np.arange(IMAGES) + FIRST, "features": features},
        "encode": {"features": concepts, "base": concepts[0]},
    }


def _later(exemplar):
    index = exemplar.index + FIRST
    return replace(exemplar, index=index, image=Colours(1).identify(index))


@pytest.fixture
def run(tmp_path, arrays):
    found, store = {}, Store(tmp_path / "artifacts")
    for stage, named in arrays.items():

        def compute(drafts, named=named):
            for name, values in named.items():
                drafts["it"].write(name, values)

        found[stage] = store.stages(stage, {"it": {"stage": stage}}, compute)["it"].name
    neurons = tuple(
        replace(neuron, exemplars=tuple(map(_later, neuron.exemplars)))
        for neuron in layer(NEURONS, IMAGES, EXEMPLARS)
    )
    return Saved(Config(crop=CropConfig(field=0.9)), {}, Result(neurons, fingerprints=found), {})


@pytest.fixture
def asked(monkeypatch):
    """Arguments of each figure."""
    found = {}
    for name in ("methods", "views", "activations", "scores"):
        usual = getattr(plots, name)

        def listening(*given, name=name, usual=usual):
            found.setdefault(name, []).append(given)
            return usual(*given)

        monkeypatch.setattr(plots, name, listening)
    return found


def test_the_map_that_the_run_used(run, asked, tmp_path):
    """It covers the part of the image that it looked at, and the window is around its peak.

    Figures of other neurons are not replaced.
    """
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "methods.svg").write_bytes(b"of other neurons")
    crop = CropConfig(field=0.5, cam="layer_cam", cam_input="centre")
    run, target = replace(run, config=Config(crop=crop)), plain_target()
    source = Pictures(IMAGES + FIRST)
    written = plots.draw(tmp_path / "f", tmp_path, [run], source, target, [2])
    assert {path.parent.name for path in written} == {"f-2"}
    assert [path.read_bytes() for path in (tmp_path / "f").iterdir()] == [b"of other neurons"]
    (((look,), name),) = asked["views"]
    assert name == "LayerCAM"
    image = source[run.result[2].exemplars[0].index].image
    pixels, area = target.preprocess.cut(image, (0.5, 0.5), 0.5)
    left, top, right, bottom = (round(edge) for edge in area)
    (cam,) = np.asarray(attention_maps(target, pixels[None], cam="layer_cam")[0])
    expected = np.zeros(image.size[::-1])
    expected[top:bottom, left:right] = plots.enlarged(cam, (right - left, bottom - top))
    np.testing.assert_allclose(look.heat, expected, atol=1e-5)
    row, column = np.unravel_index(cam.argmax(), cam.shape)
    y = (top + (row + 0.5) / 4 * (bottom - top)) / image.height
    x = (left + (column + 0.5) / 4 * (right - left)) / image.width
    _, window = target.preprocess.cut(image, (y, x), 0.5)
    np.testing.assert_allclose(look.attention, window, atol=1)


def test_every_figure_of_its_own_neurons(run, asked, arrays, tmp_path):
    source = Colours(IMAGES + FIRST)
    paths = plots.draw(tmp_path / "f", tmp_path, [run, run], source, plain_target(), [4, 1])
    names = ("methods", "views", "activations", "scores_fc_4", "scores_fc_1")
    ends = ("svg", "png")
    assert {path.name for path in paths} == {f"{name}.{end}" for name in names for end in ends}

    ((rows, methods),) = asked["methods"]
    assert methods == ["attention view, t-vMF κ=16"] * 2
    assert [[neuron.unit for neuron, _ in row] for row in rows] == [[4, 4], [1, 1]]
    for neuron, views in (pair for row in rows for pair in row):
        colours = [view[80, 80].tolist() for view in views]
        images = [source[exemplar.index].image for exemplar in neuron.exemplars]
        assert colours == [list(image.getpixel((0, 0))) for image in images]

    ((titles, values, marked),) = asked["activations"]
    assert titles == ["fc[4] thing 4", "fc[1] thing 1"]
    np.testing.assert_array_equal(values, arrays["activate"]["activations"][:, [4, 1]])
    assert marked[1] == [exemplar.activation for exemplar in run.result[1].exemplars]

    for unit, (_, features, concepts, base, *options) in zip([4, 1], asked["scores"], strict=True):
        rows = [exemplar.index - FIRST for exemplar in run.result[unit].exemplars]
        np.testing.assert_array_equal(features, arrays["embed"]["features"][rows])
        np.testing.assert_array_equal(concepts, arrays["encode"]["features"])
        np.testing.assert_array_equal(base, arrays["encode"]["base"])
        assert options == ["t_vmf", 16.0, 0.95]

    ((looks, map_name),) = asked["views"]
    assert map_name == "Grad-CAM"
    for unit, look in zip([4, 1], looks, strict=True):
        width, height = source[run.result[unit].exemplars[0].index].image.size
        left, top, right, bottom = look.centre
        middle = (left + right) / 2, (top + bottom) / 2
        np.testing.assert_allclose(middle, (width / 2, height / 2), atol=1.5)
        assert look.pixels.shape == (height, width, 3)
        assert look.heat.shape == (height, width)
