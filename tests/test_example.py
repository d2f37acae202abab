"""The example notebook runs from top to bottom, on fewer scenes and concepts than it shows."""

import json
import re
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "example.ipynb"
FEWER = {"COUNT = 320": "COUNT = 48", 'CONCEPTS = "scenes"': 'CONCEPTS = ["star", "moon", "sky"]'}
LARGEST = 500_000  # bytes


@pytest.mark.full
def test_the_notebooks_cells_run_in_order(tmp_path, monkeypatch):
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    for long, short in FEWER.items():
        assert long in code[0]
        code[0] = code[0].replace(long, short)
    monkeypatch.chdir(tmp_path)
    names = {}
    for number, text in enumerate(code):
        exec(compile(text, f"cell {number}", "exec"), names)
    assert len(names["found"]) == 32
    assert {text for neuron in names["features"] for text, _ in neuron.concepts} <= {
        "star", "moon", "sky",
    }  # fmt: skip
    table = parquet.read_table("concepts.parquet")
    assert table.column_names == list(names["found"].columns())
    assert (tmp_path / "concepts.csv").exists()
    assert (tmp_path / "report" / "index.html").exists()


def test_the_notebook_is_light_and_tells_no_path():
    content = NOTEBOOK.read_bytes()
    assert len(content) < LARGEST
    outputs = [cell.get("outputs", []) for cell in json.loads(content)["cells"]]
    assert sum(map(len, outputs)) >= 6
    assert not re.search(rb"[\"' (]/[a-z]+/", content)
