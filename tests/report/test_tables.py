import random

import numpy as np
import pytest

from jaxdesc.ablation import Cell
from jaxdesc.errors import InputError
from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.report import tables


def cell(view, kappa, probe, hit, cosine=(0.5, 0.5)):
    measured = Metrics({"hit": np.array(hit), "clip_cos": np.array(cosine)})
    best = Metrics({"hit": np.array((0.5, 1.0)), "clip_cos": np.array((1.0, 1.0))})
    return Cell("words", probe, view, kappa, measured, best)


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


def parsed(markdown):
    """The cells of a Markdown table; every line must be as wide as the others."""
    lines = markdown.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert set(lines[1]) == {"|", "-"}
    assert [i for i, c in enumerate(lines[0]) if c == "|"] == [
        i for i, c in enumerate(lines[1]) if c == "|"
    ]
    return [[c.strip() for c in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]


def test_ablation_of_one_probe_set():
    # Hit, centre, cosine: (0 + 0.5) / 2 = 0.25, population std 0.25, over √2: 0.1768.
    assert parsed(tables.ablation(ONE_PROBE)) == [
        ["view", "similarity", "Hit Rate", "CLIP cos"],
        ["centre", "cosine", "25.0 ± 17.7", "50.0 ± 17.7"],
        ["attention", "cosine", "75.0 ± 17.7", "50.0 ± 0.0"],
        ["centre", "t-vMF κ=16", "50.0 ± 35.4", "50.0 ± 0.0"],
        ["attention", "t-vMF κ=16", "100.0 ± 0.0", "50.0 ± 0.0"],
    ]


def test_ablation_of_two_probe_sets():
    rows = parsed(tables.ablation(CELLS))
    # Neurons' means over probe sets: 0 and 0.375. Probe sets' means: 0.25 and 0.125, so 0.1875
    # ± t(0.975; 1) · |0.125| / 2 = 12.706 · 0.0625 = 0.7941.
    assert rows[1][:3] == ["centre", "cosine", "18.8 ± 13.3 [-60.7, 98.2]"]
    assert rows[1][3] == "50.0 ± 17.7 [50.0, 50.0]"
    assert len(rows) == 5


def test_differences_are_paired_over_neurons_each_averaged_over_the_probe_sets():
    for cells in (CELLS, ONE_PROBE):
        head, *rows = parsed(tables.differences(cells))
        assert head == ["difference", "at", "Hit Rate", "CLIP cos", "McNemar's p"]
        found = {(what, at): texts for what, at, *texts in rows}
        assert list(found) == [
            ("attention − centre", "cosine"),
            ("attention − centre", "t-vMF κ=16"),
            ("t-vMF κ=16 − cosine", "centre"),
            ("t-vMF κ=16 − cosine", "attention"),
            ("attention, t-vMF κ=16 − centre, cosine", ""),
        ]
    # Of two probe sets the neurons' gaps are 1 and (0 + 0.25) / 2; with both drawn alike the
    # interval's ends are the neurons themselves.
    assert found["attention − centre", "cosine"][0] == "+50.0 [+0.0, +100.0]"  # of one
    both = {(what, at): texts for what, at, *texts in parsed(tables.differences(CELLS))[1:]}
    assert both["attention − centre", "cosine"][0] == "+56.2 [+12.5, +100.0] *"
    # And not an interval over probe sets: of centre windows only one neuron gains.
    assert both["t-vMF κ=16 − cosine", "centre"][0] == "+43.8 [+25.0, +62.5] *"
    assert both["t-vMF κ=16 − cosine", "attention"][1] == "+0.0 [+0.0, +0.0]"


def test_mcnemars_p_is_of_the_first_probe_set():
    # The first that was measured, not the first by name.
    ours, theirs = [(1.0,) * 6, (0.0,) * 6], (0.0,) * 6
    flat = (0.5,) * 6
    cells = [
        cell(view, 0.0, probe, hit, flat)
        for probe, own in zip("ba", ours, strict=True)
        for view, hit in (("centre", theirs), ("attention", own))
    ]
    (gap,) = tables.gaps(cells)
    assert gap.p == 2 / 2**6
    assert gap.bounds["hit"] == (0.5, 0.5, 0.5)


def test_neurons_are_read_back_but_for_what_is_incomplete(tmp_path):
    path = tmp_path / "ablation_neurons.csv"
    tables.write_neurons(path, CELLS)
    found = tables.read_neurons(path)
    assert [(c.vocabulary, c.probe, c.view, c.kappa) for c in found] == [
        (c.vocabulary, c.probe, c.view, c.kappa) for c in CELLS
    ]
    assert tables.differences(found) == tables.differences(CELLS)
    tables.write_neurons(path, CELLS[:-1])
    assert tables.differences(tables.read_neurons(path)) == tables.differences(ONE_PROBE)
    tables.write_differences(tmp_path / "differences.csv", CELLS)
    lines = (tmp_path / "differences.csv").read_text().splitlines()
    assert len(lines) == 1 + 5 * 2
    assert lines[1] == "words,attention − centre,cosine,hit,0.5625,0.125,1.0,1.0"
    path.write_text(path.read_text().replace("0.5", "much"))
    with pytest.raises(InputError, match=r"holds no metrics of neurons .*: measure again"):
        tables.read_neurons(path)


def test_probe_sets_are_paired_by_name_in_any_order():
    """Views must be compared on the same images, however the cells come."""
    ordered = sorted(CELLS, key=lambda c: (c.kappa, c.view != "centre"))
    expected = set(tables.differences(ordered).splitlines())
    for seed in range(5):
        shuffled = random.Random(seed).sample(CELLS, len(CELLS))
        shuffled.sort(key=lambda c: (c.kappa, c.view != "centre"))
        assert set(tables.differences(shuffled).splitlines()) == expected


def test_a_probe_set_that_one_view_lacks_is_an_error():
    with pytest.raises(ValueError, match="zip"):
        tables.differences(CELLS[:-1])


def test_comparisons_that_are_shown():
    views = ("centre", "attention", "random", "box")
    cells = [cell(view, kappa, "a", (0.0, 1.0)) for view in views for kappa in (0.0, 4.0)]
    labels = [row[0] for row in parsed(tables.differences(cells))[1:]]
    assert list(dict.fromkeys(labels)) == [
        "attention − centre",
        "attention − random",
        "box − centre",
        "box − random",
        "attention − box",
        "t-vMF κ=4 − cosine",
        "attention, t-vMF κ=4 − centre, cosine",
    ]
    assert len(labels) == 5 * 2 + 4 + 1
    alone = tables.differences([cell("centre", 4.0, "a", (0.0, 1.0))])
    assert parsed(alone) == [["difference", "at", "Hit Rate", "CLIP cos", "McNemar's p"]]


ROWS = [
    "vocabulary,probe,view,kappa,metric,mean,standard_error,ceiling,neurons",
    'words,"scenes:split=probe,seed=0",centre,0.0,hit,0.25,0.176777,0.75,2',
    'words,"scenes:split=probe,seed=0",centre,0.0,clip_cos,0.5,0.0,1.0,2',
    'words,"scenes:split=probe,seed=0",box,16.0,hit,1.0,0.0,0.75,2',
    'words,"scenes:split=probe,seed=0",box,16.0,clip_cos,0.5,0.0,1.0,2',
]


def test_ablation_csv(tmp_path):
    scenes, path = "scenes:split=probe,seed=0", tmp_path / "out" / "ablation.csv"
    tables.write_ablation(
        path, [cell("centre", 0.0, scenes, (0.0, 0.5)), cell("box", 16.0, scenes, (1.0, 1.0))]
    )
    assert path.read_text().splitlines() == ROWS
    first, *_, last = tables.read_ablation(path)
    assert first == ("words", scenes, "centre", 0.0, "hit", 0.25, 0.176777, 0.75, 2)
    assert last == ("words", scenes, "box", 16.0, "clip_cos", 0.5, 0.0, 1.0, 2)


def test_a_file_of_something_else(tmp_path):
    path = tmp_path / "ablation.csv"
    with pytest.raises(InputError, match=r"does not exist: nothing was measured there yet; give"):
        tables.read_ablation(path)
    whole = "\n".join(ROWS)
    no_vocabulary = "probe,view,kappa,metric,mean,standard_error,neurons\na,centre,0,hit,0,0,2\n"
    for text in (no_vocabulary, whole.replace("0.25", "much"), whole[:-2], f"{whole},3", "\xff"):
        path.write_text(text, encoding="latin-1")
        with pytest.raises(InputError, match=r"ablation\.csv is no ablation of this version .*: m"):
            tables.read_ablation(path)
