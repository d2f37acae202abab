"""A result in a notebook: neurons of a concept, columns, Parquet, a display."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from pyarrow import parquet

from jaxdesc.errors import InputError
from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.result import CERTAINTY, COLUMNS, SHOWN, UNSURE, Neuron, Result, build_neurons

HOSTILE = "<img src=x onerror=\"alert(1)\"> & 'co'"


def neuron(unit, *concepts, names=(), flags=()):
    return Neuron("fc", unit, concepts, 0.5, 0.475, (), flags, names)


@pytest.fixture
def result():
    return Result(
        (
            neuron(0, ("Striped", 0.25), ("zebra", 0.125), names=("zebra",)),
            neuron(1, flags=("dead", "no concept")),
            neuron(2, ("zebra", 0.5), ("striped", 0.375), ("STRIPED", 0.3), names=("tabby",)),
        ),
        Metrics({"hit": np.array([1.0, 0.0, 0.0])}),
        Metrics({"hit": np.ones(3)}),
    )


def test_neurons_of_a_concept_best_first(result):
    assert [neuron.unit for neuron in result.where("striped")] == [2, 0]
    assert [neuron.unit for neuron in result.where("Zebra")] == [2, 0]
    assert result.where("strip") == ()


def test_search_by_what_exemplars_look_like(result):
    found = replace(result, similarities=lambda text: np.array([0.1, np.nan, len(text)]))
    assert [(each.unit, score) for each, score in found.search("stripes")] == [(2, 7.0), (0, 0.1)]
    assert len(found.search("stripes", count=1)) == 1
    assert found == result
    with pytest.raises(InputError, match="has no features to search"):
        result.search("stripes")


def test_columns_are_the_csv_and_the_parquet(result, tmp_path):
    columns = result.columns()
    assert list(columns) == list(COLUMNS)
    assert columns["concept"] == ["Striped", "zebra", "zebra", "striped", "STRIPED"]
    assert columns["rank"] == [1, 2, 1, 2, 3]
    result.to_csv(tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {name: [row[name] for row in rows] for name in COLUMNS} == {
        name: ["" if v is None else str(v) for v in values] for name, values in columns.items()
    }
    result.to_parquet(tmp_path / "new" / "a.parquet")
    assert parquet.read_table(tmp_path / "new" / "a.parquet").to_pydict() == columns
    Result((neuron(0),)).to_parquet(tmp_path / "b.parquet")
    table = parquet.read_table(tmp_path / "b.parquet")
    assert (table.num_rows, table.column_names) == (0, list(COLUMNS))
    assert str(table.schema.field("score").type) == "double"


def test_a_display_escapes_everything(result):
    html = Result((neuron(0, (HOSTILE, 0.5), names=(HOSTILE,)),))._repr_html_()
    assert "<img" not in html
    assert html.count("&lt;img src=x onerror=&quot;alert(1)&quot;&gt; &amp; &#x27;co&#x27;") == 2
    html = result._repr_html_()
    metrics = "metrics x 100: hit 33.3 +/- 27.2 (ceiling 100.0)"
    assert f"<p>3 neurons of layer fc<br>flagged: 1 dead, 1 no concept<br>{metrics}</p>" in html
    assert "<td>fc[0]</td><td>zebra</td><td>Striped (0.250), zebra (0.125)</td><td>0</td>" in html
    assert "<td>fc[1]</td><td></td><td>dead, no concept</td><td>0</td>" in html
    html = Result(tuple(neuron(unit) for unit in range(SHOWN + 3)))._repr_html_()
    assert html.count("<tr>") == 1 + SHOWN
    assert html.endswith("<p>… and 3 more neurons</p>")


def test_a_printed_result_is_short(result):
    for told in (str, repr):
        assert told(result).split("\n") == [
            "3 neurons of layer fc",
            "  flagged: 1 dead, 1 no concept",
            "  metrics x 100: hit 33.3 +/- 27.2 (ceiling 100.0)",
            "  best named:",
            "    fc[2] tabby: zebra 0.500, striped 0.375, STRIPED 0.300 (0 exemplars)",
            "    fc[0] zebra: Striped 0.250, zebra 0.125 (0 exemplars)",
        ]
    assert repr(result[1]) == "fc[1]: no concept (0 exemplars; dead; no concept)"
    unnamed = Result(tuple(replace(neuron, names=()) for neuron in result), fallbacks=3)
    assert "metrics: none, since the target's classes have no names" in str(unnamed)
    assert "views that fell back to the centre: 3" in str(unnamed)
    many = Result(tuple(neuron(i, ("x" * 900 + "\x1b", i / 500)) for i in range(500)))
    lines = str(replace(many, hubs={"sky": 0.25})).split("\n")
    assert "  concepts that chance selects too often: sky (25%)" in lines
    assert [line.split("]")[0] for line in lines[-10:]] == [
        f"    fc[{i}" for i in range(499, 489, -1)
    ]
    assert len(str(many)) < 1500
    assert str(many).isascii()
    assert str(Result(())) == "no neurons"


def test_certainty_is_in_every_form(result, tmp_path):
    first = replace(
        result[0], stability=(0.75, 0.5), z=(3.0, 1.5), q=(0.0625, 0.25), flags=(UNSURE,),
        properties={"density": 0.25, "clarity": 0.5},
    )  # fmt: skip
    found = Result((first, result[1]))
    columns = found.columns()
    assert [columns[name] for name in CERTAINTY] == [[0.75, 0.5], [3.0, 1.5], [0.0625, 0.25]]
    found.to_csv(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().splitlines()[1] == (
        "fc,0,1,Striped,0.25,0.75,3,0.0625,0,no significant concept,0.25,,,0.5,,"
    )
    found.to_parquet(tmp_path / "a.parquet")
    assert parquet.read_table(tmp_path / "a.parquet").to_pydict() == columns
    assert first.to_dict()["concepts"][1] == {
        "text": "zebra", "score": 0.125, "stability": 0.5, "z": 1.5, "q": 0.25,
    }  # fmt: skip
    wanted = "<td>Striped (0.250, stability 0.75), zebra (0.125, stability 0.50); no significant"
    assert wanted in found._repr_html_()
    assert found.unnamed == 1
    assert Result((replace(first, q=(0.05, 0.25)), result[1])).unnamed == 0.5
    assert result.unnamed is None
    nothing = replace(first, concepts=(), stability=(), z=(), q=())
    assert Result((nothing, nothing)).unnamed == 1


def test_a_neuron_none_of_whose_concepts_is_significant_is_flagged():
    given = {"layer": "fc", "maximum": np.ones(3), "threshold": np.ones(3), "flags": [()] * 3}
    concepts = [[("a", 1.0), ("b", 0.9)], [("a", 1.0)], []]
    rows = ([0.06, 0.2, 0.05], (True, False)), ([0.2, 0.05, 0.06], (False, True))
    for q, flagged in (*rows, ([np.nan] * 3, (False, False))):
        certainty = {"q": np.array(q)}
        found = build_neurons(**given, concepts=concepts, exemplars=[()] * 3, certainty=certainty)
        assert tuple(UNSURE in neuron.flags for neuron in found[:2]) == flagged
        assert found[2].flags == ("no concept",)
