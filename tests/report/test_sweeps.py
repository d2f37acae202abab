"""A sweep's file, table and figure, from made-up cells."""

import csv
from itertools import product

import numpy as np
import pytest

from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.pipeline import Cell
from jaxdesc.report import sweeps
from jaxdesc.store import Place
from tests.report.made_up import rows_of

BEST = Metrics({"hit": np.array((1.0, 1.0)), "f1": np.array((0.5, 1.0))})


def cell(probe, view, kappa, alpha, exemplars, values=None):
    """One cell of two neurons, whose metrics identify it."""
    value = kappa / 100 + exemplars / 50 + alpha / 10 + (probe == "b") / 20
    hit, f1 = values or ((value, value + 0.2), (value / 2, value / 2))
    metrics = Metrics({"hit": np.array(hit), "f1": np.array(f1)})
    return Cell("words", probe, view, kappa, alpha, exemplars, metrics, BEST)


def cells(probes=("a", "b")):
    grid = product(probes, ("centre", "box"), (0.0, 4.0, 16.0), (0.9, 0.95), (2, 8))
    return [cell(*where) for where in grid]


def test_the_files(tmp_path):
    first = cells()
    assert sweeps.write(Place(tmp_path), first) == ["sweep.csv", "sweep.png", "sweep.svg"]
    with (tmp_path / "sweep.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == [
        "probe", "view", "kappa", "alpha", "exemplars",
        "metric", "mean", "standard_error", "ceiling", "neurons",
    ]  # fmt: skip
    assert len(lines) == 2 * len(first)
    for line, swept in zip(lines[::2], first, strict=True):
        where = (swept.probe, swept.view, swept.kappa, swept.alpha, swept.exemplars)
        assert list(line.values())[:6] == [*map(str, where), "hit"]
        values = swept.metrics.values["hit"]
        # The population's standard deviation of two values is half their distance.
        expected = values.mean(), abs(values[0] - values[1]) / 2 / np.sqrt(2), 1.0, 2
        np.testing.assert_allclose([float(v) for v in list(line.values())[6:]], expected, rtol=1e-5)
    assert {line["ceiling"] for line in lines[1::2]} == {"0.75"}


def test_the_table_shows_all_or_the_best_by_f1():
    shown = [
        cell("a", "centre", 0.0, 0.9, 4, ((0.0, 0.5), (0.0, 0.0))),
        cell("a", "centre", 16.0, 0.95, 8, ((1.0, 1.0), (0.5, 0.5))),
    ]
    # Hit: mean 0.25, population std 0.25, over √2: 0.1768.
    assert rows_of(sweeps.table(shown))[1:] == [
        ["centre", "0", "0.9", "4", "25.0 ± 17.7", "0.0 ± 0.0"],
        ["centre", "16", "0.95", "8", "100.0 ± 0.0", "50.0 ± 0.0"],
    ]
    assert "best" not in sweeps.table(shown)
    text = sweeps.table(cells())
    assert text.endswith("\n\nThe 10 best of 24 by F1; the CSV file has them all.")
    rows = rows_of(text)[1:]
    f1 = [float(row[5].split()[0]) for row in rows]
    # The largest κ, exemplar count and α: (0.16 + 0.16 + 0.095) / 2, on b 0.025 more.
    assert f1[0] == pytest.approx(100 * (0.2075 + 0.0125), abs=0.06)
    assert f1 == sorted(f1, reverse=True)
    assert (len(f1), rows[0][1:4]) == (10, ["16", "0.95", "8"])
    assert "[" in rows[0][5]  # an interval over the two probe sets


def test_one_cell_is_a_sweep_too():
    (hit, _) = sweeps.figure([cell("a", "centre", 0.0, 0.9, 4)]).axes
    assert hit.lines[0].get_xydata().tolist() == [[0, pytest.approx(27)]]


@pytest.mark.parametrize("probes", [("a",), ("a", "b")])
def test_the_figure_shows_what_was_measured(probes):
    drawn = sweeps.figure(cells(probes))
    assert len(drawn.axes) == 2 * 4  # metrics; views × α
    titles = [panel.get_title() for panel in drawn.axes[:4]]
    assert titles == ["centre, α = 0.9", "centre, α = 0.95", "box, α = 0.9", "box, α = 0.95"]
    assert drawn.axes[0].get_ylabel() == "Hit Rate × 100\n(ceiling 100.0)"
    assert drawn.axes[4].get_ylabel() == "F1 × 100\n(ceiling 75.0)"
    (legend,) = drawn.legends
    over = "2 probe sets" if len(probes) > 1 else "2 neurons of one probe set"
    assert legend.get_title().get_text().endswith(f"\nbands: 95 % interval over {over}")
    for panel, alpha in zip(drawn.axes[:4], (0.9, 0.95) * 2, strict=True):
        lines = {line.get_label(): line.get_xydata() for line in panel.lines}
        for count in (2, 8):
            kappas, points = lines[str(count)].T
            hit = np.array([0, 0.04, 0.16]) + count / 50 + alpha / 10 + 0.1
            np.testing.assert_allclose(kappas, (0, 4, 16))
            np.testing.assert_allclose(points, 100 * (hit + 0.025 * (len(probes) - 1)))
        # t's 0.975 with 1 degree times the standard error: of two neurons 0.2 apart, or of two
        # probe sets 0.05 apart.
        reach = 100 * 12.7062 * (0.1 if len(probes) == 1 else 0.025)
        middle, low, high = (line.get_ydata() for line in panel.lines[:3])
        np.testing.assert_allclose([middle - low, high - middle], reach, rtol=1e-4)
        bottom, top = panel.get_ylim()
        assert bottom <= low.min() <= high.max() <= top
