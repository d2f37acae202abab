"""A made-up comparison, laid out and written."""

import csv

import numpy as np

from jaxdesc.evaluation.methods import Line
from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.evaluation.statistics import Bounds, McNemar
from jaxdesc.pipeline import Comparison
from jaxdesc.report import tables
from jaxdesc.result import Neuron, Result
from jaxdesc.store import Place
from tests.report.made_up import rows_of


def line(hit, difference, p, seconds):
    metrics = Metrics({"hit": np.array([1.0]), "f1": np.array([0.5])})
    bounds = {"hit": Bounds(hit, hit - 0.125, hit + 0.0625), "f1": Bounds(0.5, 0.25, 0.75)}
    differences = {"hit": Bounds(difference, -0.5, 0.25), "f1": Bounds(0.0, -0.25, 0.125)}
    return Line(metrics, bounds, differences, McNemar(1, 3, p), seconds)


LINES = {"t-vMF": line(0.875, 0.0, 1.0, 0.25), "cos": line(0.5, -0.375, 0.0234, 12.0)}
CERTAIN = {"stability": (0.95,), "z": (12.5,), "q": (0.001,)}
NEURONS = (
    Neuron("fc", 0, (('a "star"', 0.5),), 0.5, 0.4, (), **CERTAIN),
    Neuron("fc", 1, (), 0.5, 0.4, ()),
    Neuron("fc", 2, (("sky, blue", 0.5),), 0.5, 0.4, (), **CERTAIN | {"q": (0.4,)}),
)


def comparison(hubs):
    return Comparison(16.0, "t_vmf", LINES, Result(NEURONS, hubs=hubs))


def test_the_table_and_its_sentences():
    text = tables.comparison(comparison({"grass": 0.042, "\x1b[31mred": 0.02}))
    assert rows_of(text) == [
        ["method", "Hit Rate", "− t-vMF", "F1", "− t-vMF", "McNemar's p", "seconds"],
        ["t-vMF", "87.5 [75.0, 93.8]", "", "50.0 [25.0, 75.0]", "", "", "0.25"],
        ["cos", "50.0 [37.5, 56.2]", "-37.5 [-50.0, +25.0]", "50.0 [25.0, 75.0]",
         "+0.0 [-25.0, +12.5]", "0.023", "12.00"],
    ]  # fmt: skip
    rest = text.split("\n")[4:]
    assert rest[1].startswith(
        "the run's concepts (t-vMF κ=16): 66.7% of the neurons have no significant"
    )
    assert rest[2].endswith(r"grass (4%), \x1b[31mred (2%).")
    assert tables.comparison(comparison({})).endswith("image sets: none.")
    summed = LINES["cos"]._replace(held_out=Bounds(0.5, 0.375, 0.625))
    text = tables.comparison(comparison({})._replace(lines=LINES | {"linear": summed}))
    assert "linear: correlation of its sums with activations on images set" in text
    assert "0.50 [0.38, 0.62]" in text


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_the_files(tmp_path):
    found = comparison({"grass": 0.04})
    tables.write_comparison(Place(tmp_path), found)
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"compare.csv", "compare.md", "certainty.csv"}
    text = (tmp_path / "compare.md").read_text(encoding="utf-8")
    assert text == f"{tables.comparison(found)}\n"
    assert read(tmp_path / "certainty.csv") == [
        ["unit", "concept", "stability", "z", "q"],
        ["0", 'a "star"', "0.95", "12.5", "0.001"],
        ["2", "sky, blue", "0.95", "12.5", "0.4"],
    ]
    head, ours, other = read(tmp_path / "compare.csv")
    assert dict(zip(head, other, strict=True)) == {
        "method": "cos",
        "hit": "0.5", "hit_low": "0.375", "hit_high": "0.5625",
        "hit_difference": "-0.375", "hit_difference_low": "-0.5", "hit_difference_high": "0.25",
        "f1": "0.5", "f1_low": "0.25", "f1_high": "0.75",
        "f1_difference": "0.0", "f1_difference_low": "-0.25", "f1_difference_high": "0.125",
        "p": "0.0234", "seconds": "12.0", "held_out": "",
    }  # fmt: skip
    assert ours[0] == "t-vMF"


def test_a_comparison_of_other_methods_replaces_nothing(tmp_path):
    found = comparison({})
    fewer = found._replace(lines={"t-vMF": LINES["t-vMF"]})
    for each, name in ((found, "compare"), (fewer, "compare-2"), (fewer, "compare-2")):
        assert tables.write_comparison(Place(tmp_path), each) == name
    assert tables.write_comparison(Place(tmp_path), found) == "compare"
    assert len(read(tmp_path / "compare.csv")) == 3
    assert (tmp_path / "compare-2.md").exists()
