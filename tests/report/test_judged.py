"""A made-up judgement, written, laid out and read back for a page."""

import csv
import json

import numpy as np
import pytest

from jaxdesc.errors import InputError
from jaxdesc.evaluation.judging.ablation import Effect
from jaxdesc.evaluation.judging.control import UNKNOWN, Control
from jaxdesc.evaluation.judging.judgement import Judgement
from jaxdesc.evaluation.judging.labels import Label
from jaxdesc.evaluation.judging.measures import Sanity
from jaxdesc.evaluation.judging.scores import RANDOM
from jaxdesc.evaluation.statistics import Bounds
from jaxdesc.report import judged
from jaxdesc.store import Place
from tests.report.made_up import rows_of

NAN = np.nan
SCORES = {
    "run": {"correlation": np.array([0.5, 0.25, NAN]), "iou@0.02": np.array([0.5, 0.5, NAN])},
    "x\x1b": {"correlation": np.array([0.25, NAN, NAN]), "iou@0.02": np.array([NAN, NAN, NAN])},
    RANDOM: {"correlation": np.array([0.0, 0.1, -0.1]), "iou@0.02": np.array([0.0, 0.0, 0.0])},
}
LABELS = {
    "run": {0: Label(("=star",)), 1: Label(("cat",)), 2: Label(("sea",))},
    "x\x1b": {0: Label(("dog", "cat"), (2.0, 1.0))},
    RANDOM: {unit: Label(("none",)) for unit in range(3)},
}


def made(**changes):
    about = {
        "layer": "fc",
        "images": "folder:o",
        "count": 640,
        "presence": "truth",
        "held_out": True,
    }
    return Judgement(**about | {"labels": LABELS, "scores": SCORES, "notes": ("<b>",)} | changes)


def test_tables_have_means_and_paired_differences():
    lines = judged.summary(made())
    text = judged.text_of(made(), lines)
    first, means, _, gaps, note = text.split("\n\n")
    assert first.startswith("Labels of fc on 640 images of folder:o, held out; presence by truth.")
    table = rows_of(means)
    assert table[0] == ["labels", "units", "correlation", "IoU, α = 0.02"]
    assert table[1][:2] == ["run", "2 of 3"]
    assert table[1][2].startswith("0.375 [0.250, 0.500]")
    assert table[1][3] == "0.500"  # all are equal
    assert table[2] == [r"x\x1b", "1", "0.250", ""]
    # Over unit 0 alone, which both can be judged on.
    assert rows_of(gaps)[1] == [r"x\x1b − run", "-0.250", ""]
    assert note == "note: <b>"
    assert "NOT held out" in judged.text_of(made(held_out=False), lines)


def test_it_prints_what_matters():
    assert repr(made()).split("\n  ") == [
        "labels of 3 units of fc on 640 images of folder:o, held out; presence by truth",
        "run (2 units) correlation: 0.375; IoU, α = 0.02: 0.500",
        r"x\x1b (1 units) correlation: 0.250",
        "random label (3 units) correlation: 0.000; IoU, α = 0.02: 0.000",
        "note: <b>",
    ]


def test_files_are_written_and_read_back(tmp_path):
    control = Control(Bounds(0.75, 0.5, 1.0), UNKNOWN)
    judgement = made(
        sanity={"correlation": Sanity(0.1, 1.0, 0.2, 0.9)},
        ceilings={"correlation": np.array([0.9, 0.9, 0.9]), "iou@0.02": np.full(3, NAN)},
    )
    judgement = judgement.with_controls({"run": {0: control}})
    judgement = judgement.with_effects({"run": {1: Effect(2.0, 0.5)}})
    name, text = judged.write(Place(tmp_path), judgement)
    assert name == "judge"
    assert "| correlation | 0.100 " in text.replace("  ", " ")
    rows = list(csv.DictReader((tmp_path / "judge.csv").open(newline="", encoding="utf-8")))
    assert [(row["unit"], row["source"]) for row in rows[:4]] == [
        ("0", "run"), ("0", "x\x1b"), ("0", RANDOM), ("0", "best label"),
    ]  # fmt: skip
    assert rows[0]["label"] == "'=star"
    assert rows[1]["label"] == "2 dog + 1 cat"
    ends = ("cosy_auc_low", "cosy_auc_high", "cosy_mad_low")
    assert [rows[0][end] for end in ends] == ["0.5", "1", ""]
    assert rows[1]["cosy_auc_low"] == ""
    assert (rows[0]["cosy_auc"], rows[0]["cosy_mad"], rows[0]["ablation_gap"]) == ("0.75", "", "")
    assert next(row["ablation_gap"] for row in rows if row["unit"] == "1") == "1.5"
    content = json.loads((tmp_path / "judge.json").read_text())
    assert content["sources"]["run"]["correlation"]["against"][RANDOM][0] == pytest.approx(0.325)
    assert content["sanity"]["correlation"]["extra_fell"] == 0.9
    verdict = judged.read(tmp_path)
    assert verdict.heads[:2] == ("correlation", "IoU, α = 0.02")
    assert verdict.rows[0][:3] == ("run", "2 of 3", "0.375 [0.250, 0.500]")
    assert verdict.labels[1][0] == ("run", "cat", (0.25, 0.5, None, None, 2.0, 1.5))
    assert verdict.notes == ("<b>",)
    assert verdict.rows == judged.Verdict.of(judgement).rows


def test_another_judgement_replaces_none(tmp_path):
    place = Place(tmp_path)
    assert judged.read(tmp_path) is None
    names = [judged.write(place, made(**change))[0] for change in ({}, {}, {"images": "folder:p"})]
    assert names == ["judge", "judge", "judge-2"]
    assert "folder:p" in judged.read(tmp_path).about
    (tmp_path / "judge-2.json").write_text("{}")
    with pytest.raises(InputError, match=r"judge-2.json and its table are not a judgement"):
        judged.read(tmp_path)
