"""Figures: the numbers that they show, their files, and names with any characters."""

import re

import matplotlib
import numpy as np
import pytest
from PIL import Image

from jaxdesc.report import plots
from tests.reference import scoring as reference

HOSTILE = "$\\frac{1$ <b>&"


def test_a_window_is_cut_and_resized(rng):
    pixels = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    found = plots.cut(Image.fromarray(pixels), (10.0, 0.0, 50.0, 40.0))
    size = (plots.SIDE, plots.SIDE)
    expected = Image.fromarray(pixels[:, 10:50]).resize(size, Image.Resampling.BICUBIC)
    # A window's border mixes with the pixels next to it.
    np.testing.assert_allclose(found[:, 8:-8].astype(int), np.asarray(expected)[:, 8:-8], atol=1)
    # It may end a hair outside its image.
    hair = plots.cut(Image.new("RGB", (30, 20), (9, 8, 7)), (-1e-6, 0.0, 30.000002, 20.000001))
    assert (hair == (9, 8, 7)).all()


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
