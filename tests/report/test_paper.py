"""The paper's tables: measured numbers next to the printed ones."""

import csv

from jaxdesc.report import paper
from jaxdesc.report.tables import Row
from jaxdesc.store import Place
from tests.report.made_up import rows_of

PHOTOS = "folder:photos"
METRICS = ("clip_cos", "sentence_cos", "f1", "hit")


def rows(vocabulary, view, kappa, hit, metrics=("hit",), probe=PHOTOS):
    return [Row(vocabulary, probe, view, kappa, m, hit, 0.0123, 0.5, 10) for m in metrics]


def test_the_printed_numbers_are_the_papers():
    """Tables 1 and 2 of the paper, copied a second time and in another order."""
    table1 = """WWW imagenet 93.31 83.47 77.53 95.5, WWW broden 77.79 44.47 6.6 9.3,
        WWW wordnet 88.76 70.05 42.62 66.2, ours imagenet 93.46 83.90 76.98 95.5,
        ours broden 78.31 45.45 6.73 9.3, ours wordnet 89.49 72.58 45.77 69.8"""
    first, second = paper.tables([])
    printed = {(line.method, line.vocabulary): line for line in first.lines}
    for text in table1.split(","):
        method, vocabulary, *numbers = text.split()
        line = printed.pop((method, vocabulary))
        assert [line.printed(m) for m in METRICS] == list(map(float, numbers))
    assert not printed
    assert [(line.method, *map(line.printed, METRICS[:3])) for line in second.lines] == [
        ("WWW", 88.76, 70.05, 42.62),
        ("t-vMF alone", 88.89, 70.45, 42.42),
        ("attention alone", 89.43, 72.42, 45.83),
        ("ours", 89.49, 72.58, 45.77),
    ]
    assert second.lines[1].printed("hit") is None


def test_measured_numbers_are_next_to_printed_ones():
    measured = [
        *rows("broden:label.csv", "centre", 0.0, 0.08125),
        *rows("wordnet", "attention", 16.0, 0.7),
        *rows("wordnet", "random", 16.0, 0.1),
        *rows("file:mine.txt", "attention", 4.0, 0.9, METRICS),
    ]
    first, second = paper.tables(measured)
    head, *lines = rows_of(first.markdown())
    assert head[3:7] == ["probe images", "CLIP cos", "paper", "ceiling"]
    assert lines[0][4:8] == ["—", "93.31", "—", "—"]  # not measured
    assert [(line[0], line[2], line[3]) for line in lines] == [
        ("WWW", "imagenet", "—"),
        ("ours", "imagenet", "—"),
        ("ours", "broden", "—"),
        ("WWW", "broden", PHOTOS),
        ("WWW", "wordnet", "—"),
        ("ours", "wordnet", PHOTOS),
        ("ours", "file:mine.txt", PHOTOS),
    ]
    assert lines[3][-3:] == ["8.12 ± 1.23", "9.3", "50.0"]
    assert lines[3][4:7] == ["—", "77.79", "—"]
    assert lines[5][1] == "t-vMF κ=16"
    assert lines[6][4:] == ["90.00 ± 1.23", "—", "50.0"] * 4
    assert [line.vocabulary for line in second.lines] == ["wordnet"] * 4


def test_several_kappas_and_probe_sets_are_separate_rows():
    measured = []
    for probe in ("b", "a"):
        for kappa in (16.0, 4.0, 0.0):
            measured += rows("scenes", "attention", kappa, 0.5, probe=probe)
    _, second = paper.tables(measured)
    lines = [line for line in second.lines if line.vocabulary == "scenes"]
    assert [(line.method, line.probe, line.kappa) for line in lines] == [
        ("attention alone", "a", 0.0), ("attention alone", "b", 0.0),
        ("ours", "a", 4.0), ("ours", "b", 4.0), ("ours", "a", 16.0), ("ours", "b", 16.0),
    ]  # fmt: skip


def test_files(tmp_path):
    first, _ = paper.tables(rows("a_b & 50%", "centre", 0.0, 0.25))
    first.write(Place(tmp_path))
    assert (tmp_path / "table1.md").read_text() == first.markdown() + "\n"
    latex = (tmp_path / "table1.tex").read_text()
    assert latex.startswith("\\begin{tabular}")
    assert r"a\_b \& 50\%" in latex
    with (tmp_path / "table1.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 7 * 4
    assert [line for line in lines if line["concepts"] == "a_b & 50%"][-1] == {
        "method": "WWW", "view": "centre", "kappa": "0.0", "concepts": "a_b & 50%",
        "probe": PHOTOS, "metric": "hit", "mean": "25", "standard_error": "1.23",
        "ceiling": "50", "paper": "",
    }  # fmt: skip
    papers = [line["paper"] for line in lines if line["concepts"] == "wordnet"]
    assert papers[:2] == ["88.76", "70.05"]
