"""The page of evidence: its text says what its numbers say, and its numbers can be measured."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxdesc.commands import cli
from jaxdesc.commands import evidence as script
from jaxdesc.evaluation.statistics import Bounds
from jaxdesc.evidence import page as evidence
from jaxdesc.evidence import similarity
from jaxdesc.evidence.table import Table

DOCS = Path(__file__).parents[2] / "docs"
TABLES, FACTS = evidence.load((DOCS / "evidence.json").read_text(encoding="utf-8"))
UNCLEAR = "no clear difference"
BY_NAME = {table.name: table for table in TABLES}


def test_the_page_is_what_its_numbers_say():
    assert evidence.render(TABLES, FACTS) == (DOCS / "evidence.md").read_text(encoding="utf-8")


def test_another_number_is_another_page():
    table = BY_NAME["rivals"]
    gap = table.columns.index("Hit Rate − t-vMF")
    first = list(table.rows[0])
    first[gap] = Bounds(-0.5, -0.6, -0.4)
    changed = replace(table, rows=(tuple(first), *table.rows[1:]))
    others = [changed if each.name == "rivals" else each for each in TABLES]
    page = evidence.render(others, FACTS)
    assert "−50.0 [−60.0, −40.0]" in page
    assert re.search(rf"Hit Rate against t-vMF: .*worse for {first[0]}", page)


def test_planted_numbers_are_measured_again(monkeypatch):
    monkeypatch.setattr(similarity, "METHODS", {})  # the rivals take long
    study = similarity.Study(planted=(20,), impurities=(0.4,), kappas=(0.0, 16.0))
    found, _ = similarity.planted_tables(study, similarity._plant(study))
    for row in found.rows:
        where = dict(zip(found.columns[:3], row[:3], strict=True))
        for name in ("top-1", "F1"):
            told = BY_NAME["planted"].at(name, **where)
            # One neuron of 192 may fall on the other side of a threshold on another machine.
            np.testing.assert_allclose(found.at(name, **where), told, atol=0.006)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.01, 0.2, "better"), (-0.2, -0.01, "worse"), (0.0, 0.2, UNCLEAR), (-0.2, 0.0, UNCLEAR),
     # An end that is zero but for the order in which it was summed.
     (2e-18, 0.2, UNCLEAR), (-0.2, -2e-18, UNCLEAR)],
)  # fmt: skip
def test_verdict_of_an_interval(low, high, verdict):
    assert evidence.verdict(Bounds((low + high) / 2, low, high)) == verdict


def test_cells_and_a_summary_of_verdicts():
    row = ("x", 640, 0.25, 0.25, Bounds(0.5, -0.25, 0.75), Bounds(0.5, 0.25, 0.75), None)
    names = ("kind", "neurons", "share", "p", "Hit Rate − cosine", "AUC, named", "SMD")
    line = evidence.markdown(Table("t", names, (row,))).splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:4] == ["x", "640", "25.0", "0.25"]
    assert cells[4:] == ["+50.0 [−25.0, +75.0]", "0.50 [0.25, 0.75]", ""]
    up, down = Bounds(1, 1, 1), Bounds(-1, -1, -1)
    rows = ("a", 0.5, up), ("a", 1.0, down), ("b", 2.0, up), ("a", 4.0, up), ("a", 8.0, None)
    table = Table("t", ("view", "kappa", "gap"), rows)
    assert evidence.summary(table, "gap", "kappa", view="a") == "better for 0.5, 4; worse for 1"


def test_a_table_that_is_missing():
    with pytest.raises(ValueError, match=r"the page asks for table '.*', but has rivals"):
        evidence.render([BY_NAME["rivals"]], FACTS)


def test_the_command_writes_numbers_and_page(tmp_path, monkeypatch, capsys):
    class Study:
        def __init__(self, tables):
            self.tables = lambda workdir: tables

    half = len(TABLES) // 2
    studies = {"one": Study(TABLES[:half]), "other": Study(TABLES[half:])}
    monkeypatch.setattr(script, "STUDIES", studies)
    monkeypatch.setattr(script.inputs, "keep_programs", lambda workdir: None)
    with pytest.raises(SystemExit):
        cli.main(["evidence", f"--workdir={tmp_path / 'work'}", f"--docs={tmp_path / 'docs'}"])
    for folder in ("work", "docs"):
        tables, facts = evidence.load((tmp_path / folder / "evidence.json").read_text())
        assert tables == TABLES
        assert facts["seconds"].keys() == studies.keys()
        page = evidence.render(tables, facts)
        assert (tmp_path / folder / "evidence.md").read_text() == page
    assert page in capsys.readouterr().out


def test_the_command_measures_one_study_and_keeps_the_others(tmp_path, monkeypatch, capsys):
    changed = replace(BY_NAME["sparse"], rows=BY_NAME["sparse"].rows[::-1])

    class Sparse:
        tables = staticmethod(lambda workdir: (changed,))

    monkeypatch.setitem(script.STUDIES, "sparse", Sparse)
    monkeypatch.setattr(script.inputs, "keep_programs", lambda workdir: None)
    command = ["evidence", f"--workdir={tmp_path}", "--study=sparse"]
    with pytest.raises(SystemExit):
        cli.main(command)
    assert "evidence.json does not exist: leave --study out" in capsys.readouterr().err
    evidence_file = tmp_path / "evidence.json"
    evidence_file.write_text(evidence.dump(TABLES, FACTS))
    with pytest.raises(SystemExit):
        cli.main(command)
    tables, facts = evidence.load(evidence_file.read_text())
    assert tables == tuple(changed if each.name == "sparse" else each for each in TABLES)
    assert facts["seconds"] == FACTS["seconds"] | {"sparse": 0}
