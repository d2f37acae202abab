"""Figures: the numbers that they show, their files, and names with any characters."""

import re

import matplotlib
import numpy as np
import pytest
from PIL import Image

from jaxdesc.report import plots
from jaxdesc.report.pictures import warmed
from jaxdesc.result import Neuron
from tests.reference import scoring as reference

HOSTILE = "$\\frac{1$ <b>&"


def neuron(unit, *texts, flags=()):
    return Neuron("fc", unit, tuple((text, 0.5) for text in texts), 0.5, 0.4, (), flags, ("star",))


def test_neurons_and_methods():
    view = np.zeros((plots.SIDE, plots.SIDE, 3), np.uint8)
    rows = [
        [(neuron(0, HOSTILE), [view] * 3), (neuron(0, flags=("dead",)), [view])],
        [(neuron(1, "a" * 90), [view] * 2), (neuron(1, "b", "c", "d", "e"), [])],
    ]
    drawn = plots.methods(rows, ["ours", "WWW"])
    assert len(drawn.axes) == 6
    texts = {text.get_text() for text in drawn.findobj(matplotlib.text.Text)}
    named = {f"fc[0] star: {HOSTILE}", "fc[0] star: dead", "fc[1] star: b, c, d"}
    assert {"ours", "WWW", *named} <= texts
    assert max(map(len, texts)) == 3 * 13


def test_both_views_of_an_image(rng):
    pixels = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    windows = (10.0, 0.0, 50.0, 40.0), (20.0, 0.0, 60.0, 40.0)
    look = plots.Look(pixels, np.ones((40, 60)), *windows)
    whole, _, centre, _, attention, _ = plots.views([look, look]).axes
    (frame,) = whole.patches
    assert frame.get_xy() == (19.5, -0.5)
    assert (frame.get_width(), frame.get_height()) == (40, 40)
    for panel, left in ((centre, 10), (attention, 20)):
        small = Image.fromarray(pixels[:, left : left + 40]).resize(
            (plots.SIDE, plots.SIDE), Image.Resampling.BICUBIC
        )
        shown = panel.images[0].get_array().astype(int)
        # A window's border mixes with the pixels next to it.
        np.testing.assert_allclose(shown[:, 8:-8], np.asarray(small)[:, 8:-8], atol=1)


def test_windows_and_maps():
    # A window may end a hair outside its image.
    found = plots.cut(Image.new("RGB", (30, 20), (9, 8, 7)), (-1e-6, 0.0, 30.000002, 20.000001))
    assert np.unique(found.reshape(-1, 3), axis=0).tolist() == [[9, 8, 7]]
    large = plots.enlarged(np.array([[0.0, 0.5], [0.0, 0.25]]), (6, 4))
    assert large.shape == (4, 6)
    assert (large.max(), large[0, 0], large[-1, -1]) == (1, 0, 0.5)
    assert plots.enlarged(np.zeros((2, 2)), (3, 3)).max() == 0
    # 0: 40 % of the picture, the rest black; 1: 78 % of it, 22 % of (255, 110, 30).
    warm = warmed(np.full((1, 2, 3), 100, np.uint8), np.array([[0.0, 1.0]]))
    np.testing.assert_array_equal(warm, [[[40, 40, 40], [134, 102, 85]]])


@pytest.mark.parametrize("kappa", [0.0, 16.0])
def test_scores_are_those_of_the_definition(rng, kappa):
    def unit(*shape):
        rows = rng.normal(size=shape).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    exemplars, concepts, base = unit(5, 8), unit(30, 8), unit(8)
    found = plots.mean_scores(exemplars, concepts, base, "t_vmf", kappa)
    wanted = reference.scores(exemplars, [range(5)], concepts, base, kappa)[0]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    panel = plots.scores(HOSTILE, exemplars, concepts, base, "t_vmf", 16.0, 0.95).axes[kappa > 0]
    name = "t-vMF κ=16" if kappa else "cosine"
    selected = (found > 0.95 * found.max()).sum()
    assert panel.get_title() == f"{name}: {selected} of 30 selected"
    assert sum(bar.get_height() for bar in panel.patches) == 30


def test_activations_and_their_files(tmp_path, rng):
    before = dict(matplotlib.rcParams)
    values = rng.normal(size=(50, 4))
    values[3] = np.nan  # an image that was skipped
    marks = [np.sort(column[~np.isnan(column)])[::-1][:6].tolist() for column in values.T]

    def drawn():
        return plots.activations(["a", "b", "c", HOSTILE], values, marks)

    for panel, marked in zip(drawn().axes, marks, strict=False):
        assert sum(bar.get_height() for bar in panel.patches) == 49
        np.testing.assert_array_equal(panel.lines[0].get_xdata(), marked)
    first, second = (plots.save(drawn(), tmp_path / name, "a") for name in ("first", "second"))
    assert [path.name for path in first] == ["a.svg", "a.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    svg = first[0].read_text()
    assert "$\\frac{1$ &lt;b&gt;&amp;" in svg
    assert not re.search(r"mathdefault|<script", svg)
    assert dict(matplotlib.rcParams) == before
