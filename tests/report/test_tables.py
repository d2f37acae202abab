"""Tables of an ablation, with intervals and differences computed by hand."""

import random

import numpy as np
import pytest

from jaxdesc.errors import InputError
from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.pipeline import Cell
from jaxdesc.report import tables
from tests.report.made_up import rows_of


def cell(view, kappa, probe, hit, cosine=(0.5, 0.5)):
    measured = Metrics({"hit": np.array(hit), "clip_cos": np.array(cosine)})
    best = Metrics({"hit": np.array((0.5, 1.0)), "clip_cos": np.array((1.0, 1.0))})
    return Cell("words", probe, view, kappa, 0.95, 40, measured, best)


CELLS = [
    cell("centre", 0.0, "a", (0.0, 0.5), (0.25, 0.75)),
    cell("attention", 0.0, "a", (1.0, 0.5)),
    cell("centre", 16.0, "a", (0.0, 1.0)),
    cell("attention", 16.0, "a", (1.0, 1.0)),
    cell("centre", 0.0, "b", (0.0, 0.25), (0.25, 0.75)),
    cell("attention", 0.0, "b", (1.0, 0.5)),
    cell("centre", 16.0, "b", (0.5, 1.0)),
    cell("attention", 16.0, "b", (1.0, 1.0)),
]
ONE_PROBE = CELLS[:4]


def test_ablation():
    # Hit, centre, cosine: (0 + 0.5) / 2 = 0.25, population std 0.25, over √2: 0.1768.
    assert rows_of(tables.ablation(ONE_PROBE)) == [
        ["view", "similarity", "Hit Rate", "CLIP cos"],
        ["centre", "cosine", "25.0 ± 17.7", "50.0 ± 17.7"],
        ["attention", "cosine", "75.0 ± 17.7", "50.0 ± 0.0"],
        ["centre", "t-vMF κ=16", "50.0 ± 35.4", "50.0 ± 0.0"],
        ["attention", "t-vMF κ=16", "100.0 ± 0.0", "50.0 ± 0.0"],
    ]
    rows = rows_of(tables.ablation(CELLS))
    # Neurons' means over probe sets: 0 and 0.375. Probe sets' means: 0.25 and 0.125, so 0.1875
    # ± t(0.975; 1) · |0.125| / 2 = 12.706 · 0.0625 = 0.7941.
    assert rows[1][2:] == ["18.8 ± 13.3 [-60.7, 98.2]", "50.0 ± 17.7 [50.0, 50.0]"]
    assert len(rows) == 5


def test_differences_are_paired_over_neurons_each_averaged_over_the_probe_sets():
    found = []
    for cells in (ONE_PROBE, CELLS):
        head, *rows = rows_of(tables.differences(cells))
        assert head == ["difference", "at", "Hit Rate", "CLIP cos", "McNemar's p"]
        found.append({(what, at): texts for what, at, *texts in rows})
        assert list(found[-1]) == [
            ("attention − centre", "cosine"),
            ("attention − centre", "t-vMF κ=16"),
            ("t-vMF κ=16 − cosine", "centre"),
            ("t-vMF κ=16 − cosine", "attention"),
            ("attention, t-vMF κ=16 − centre, cosine", ""),
        ]
    single, both = found
    # With two probe sets the neurons' gaps are 1 and (0 + 0.25) / 2; with both drawn alike the
    # interval's ends are the neurons themselves.
    assert single["attention − centre", "cosine"][0] == "+50.0 [+0.0, +100.0]"
    assert both["attention − centre", "cosine"][0] == "+56.2 [+12.5, +100.0] *"
    # And not an interval over probe sets: with centre windows only one neuron gains.
    assert both["t-vMF κ=16 − cosine", "centre"][0] == "+43.8 [+25.0, +62.5] *"
    assert both["t-vMF κ=16 − cosine", "attention"][1] == "+0.0 [+0.0, +0.0]"


def test_mcnemars_p_is_that_of_the_first_measured_probe_set():
    cells = [
        cell(view, 0.0, probe, (hit,) * 6, (0.5,) * 6)
        for probe, ours in (("b", 1.0), ("a", 0.0))
        for view, hit in (("centre", 0.0), ("attention", ours))
    ]
    (gap,) = tables.gaps(cells)
    assert (gap.p, gap.bounds["hit"]) == (2 / 2**6, (0.5, 0.5, 0.5))


def test_neurons_are_read_back_without_incomplete_probe_sets(tmp_path):
    path = tmp_path / "ablation_neurons.csv"
    for cells, complete in ((CELLS, CELLS), (CELLS[:-1], ONE_PROBE)):
        tables.write_neurons(path, cells)
        assert tables.differences(tables.read_neurons(path)) == tables.differences(complete)
    tables.write_differences(tmp_path / "differences.csv", CELLS)
    lines = (tmp_path / "differences.csv").read_text().splitlines()
    assert len(lines) == 1 + 5 * 2
    assert lines[1] == "words,attention − centre,cosine,hit,0.5625,0.125,1.0,1.0"
    path.write_text(path.read_text().replace("0.5", "much"))
    with pytest.raises(InputError, match=r"holds no metrics of neurons .*: measure again"):
        tables.read_neurons(path)


def test_probe_sets_are_paired_by_name_in_any_order():
    orders = CELLS, random.Random(0).sample(CELLS, len(CELLS))
    first, second = (sorted(cells, key=lambda c: (c.kappa, c.view != "centre")) for cells in orders)
    lines = set(tables.differences(first).splitlines())
    assert set(tables.differences(second).splitlines()) == lines
    with pytest.raises(ValueError, match="zip"):  # one view lacks a probe set
        tables.differences(CELLS[:-1])


def test_comparisons_that_are_shown():
    views = ("centre", "attention", "random", "box")
    cells = [cell(view, kappa, "a", (0.0, 1.0)) for view in views for kappa in (0.0, 4.0)]
    labels = [row[0] for row in rows_of(tables.differences(cells))[1:]]
    pairs = "attention − centre", "attention − random", "box − centre", "box − random"
    both = "t-vMF κ=4 − cosine", "attention, t-vMF κ=4 − centre, cosine"
    assert list(dict.fromkeys(labels)) == [*pairs, "attention − box", *both]
    assert len(labels) == 5 * 2 + 4 + 1
    assert len(rows_of(tables.differences([cell("centre", 4.0, "a", (0.0, 1.0))]))) == 1


def test_ablation_csv(tmp_path):
    scenes, path = "scenes:split=probe,seed=0", tmp_path / "out" / "ablation.csv"
    with pytest.raises(InputError, match=r"does not exist: nothing was measured there yet; give"):
        tables.read_ablation(path)
    cells = [cell("centre", 0.0, scenes, (0.0, 0.5)), cell("box", 16.0, scenes, (1.0, 1.0))]
    tables.write_ablation(path, cells)
    whole = path.read_text()
    head, first, *_ = whole.splitlines()
    assert head == "vocabulary,probe,view,kappa,metric,mean,standard_error,ceiling,neurons"
    assert first == 'words,"scenes:split=probe,seed=0",centre,0.0,hit,0.25,0.176777,0.75,2'
    read = tables.read_ablation(path)
    assert read[0] == ("words", scenes, "centre", 0.0, "hit", 0.25, 0.176777, 0.75, 2)
    assert read[-1] == ("words", scenes, "box", 16.0, "clip_cos", 0.5, 0.0, 1.0, 2)
    for text in (whole[11:], whole.replace("0.25", "much"), whole[:-3], f"{whole[:-1]},3", "\xff"):
        path.write_text(text, encoding="latin-1")
        with pytest.raises(
            InputError, match=r"ablation\.csv is not an ablation of this version .*: m"
        ):
            tables.read_ablation(path)
