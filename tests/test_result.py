"""What a notebook asks of a result: where a concept is, columns, Parquet, a display."""

import csv

import numpy as np
import pytest
from pyarrow import parquet

from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.result import COLUMNS, SHOWN, Neuron, Result

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
    assert [own.unit for own in result.where("striped")] == [2, 0]
    assert [own.unit for own in result.where("Zebra")] == [2, 0]
    assert result.where("strip") == ()
    assert result.where("") == ()


def test_columns_are_the_csv_and_the_parquet(result, tmp_path):
    columns = result.columns()
    assert list(columns) == list(COLUMNS)
    assert columns["concept"] == ["Striped", "zebra", "zebra", "striped", "STRIPED"]
    assert columns["rank"] == [1, 2, 1, 2, 3]
    result.to_csv(tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {name: [row[name] for row in rows] for name in COLUMNS} == {
        name: [str(value) for value in values] for name, values in columns.items()
    }
    result.to_parquet(tmp_path / "new" / "a.parquet")
    assert parquet.read_table(tmp_path / "new" / "a.parquet").to_pydict() == columns


def test_nothing_found_is_a_table_without_rows(tmp_path):
    Result((neuron(0),)).to_parquet(tmp_path / "a.parquet")
    table = parquet.read_table(tmp_path / "a.parquet")
    assert (table.num_rows, table.column_names) == (0, list(COLUMNS))
    assert str(table.schema.field("score").type) == "double"


def test_a_display_escapes_whatever_it_shows(result):
    html = Result((neuron(0, (HOSTILE, 0.5), names=(HOSTILE,)),))._repr_html_()
    assert "<img" not in html
    assert html.count("&lt;img src=x onerror=&quot;alert(1)&quot;&gt; &amp; &#x27;co&#x27;") == 2
    html = result._repr_html_()
    assert "<p>3 neurons; × 100: hit 33.3 ± 27.2</p>" in html
    assert "<td>fc[0]</td><td>zebra</td><td>Striped (0.250), zebra (0.125)</td>" in html
    assert "<td>fc[1]</td><td></td><td>dead, no concept</td>" in html


def test_a_display_is_cut_short():
    html = Result(tuple(neuron(unit) for unit in range(SHOWN + 3)))._repr_html_()
    assert html.count("<tr>") == 1 + SHOWN
    assert html.endswith("<p>… and 3 more neurons</p>")
