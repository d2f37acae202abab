"""The files of a run: their content, that they are read back, and whose directory it is."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from jaxdesc.config import Config, ScoreConfig
from jaxdesc.errors import InputError
from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.evaluation.top1 import Top1
from jaxdesc.report import files
from jaxdesc.result import COLUMNS, PROPERTIES, Exemplar, Result, build_neurons
from jaxdesc.store import Place
from tests.report.made_up import HOSTILE, layer, sure

NASTY = 'crane, bird; "the \nbig one"\r\n= café 🐈'
WRITTEN = ["concepts.csv", "concepts.jsonl", "config.json", "metrics.json"]


@pytest.fixture
def result():
    """Three neurons: a described one, a dead one, and one without a positive score."""
    neurons = build_neurons(
        layer="fc",
        concepts=[[(NASTY, 0.125), ("b|c", 0.1234567)], [], []],
        maximum=np.array([0.125, 0.5, -0.25], np.float32),
        threshold=np.array([0.1, 0.475, -0.2375], np.float32),
        flags=[(), ("dead",), ()],
        exemplars=[
            [Exemplar("a/é.jpg", 2.5, (0.0, 1.5, 224.0, 225.5), 7)],
            [Exemplar("b.jpg", 1.0)],
            [],
        ],
        names=[("star", "pentagram"), ("heart",), ("moon",)],
        certainty={},
    )
    hit, cosine = np.array([1.0, 0.0, 0.0, 1.0]), np.array([0.5, 0.5, 0.25, 0.75])
    return Result(
        neurons,
        metrics=Metrics({"hit": hit, "clip_cos": cosine}),
        ceilings=Metrics({"hit": np.ones(4), "clip_cos": np.full(4, 0.875)}),
    )


@pytest.fixture
def workdir(tmp_path, result):
    files.write(Place(tmp_path / "new" / "run"), Config(), result)
    return tmp_path / "new" / "run"


def test_concepts_and_metrics(workdir, tmp_path, result):
    assert sorted(path.name for path in workdir.iterdir()) == WRITTEN
    lines = (workdir / "concepts.jsonl").read_text(encoding="utf-8").splitlines()
    assert "é" in lines[0]
    first, second, third = map(json.loads, lines)
    box = [0.0, 1.5, 224.0, 225.5]
    assert first == {
        "layer": "fc",
        "unit": 0,
        "concepts": [{"text": NASTY, "score": 0.125}, {"text": "b|c", "score": 0.1234567}],
        "max": 0.125,
        "threshold": float(np.float32(0.1)),
        "exemplars": [{"image": "a/é.jpg", "activation": 2.5, "box": box, "index": 7}],
        "flags": [],
        "names": ["star", "pentagram"],
        "metrics": {"hit": 1.0, "clip_cos": 0.5},
    }
    assert second["exemplars"] == [{"image": "b.jpg", "activation": 1.0, "box": [], "index": 0}]
    assert (second["flags"], third["flags"]) == (["dead", "no concept"], ["no concept"])
    blank = [""] * (1 + len(PROPERTIES))
    with (workdir / "concepts.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            list(COLUMNS),
            ["fc", "0", "1", NASTY, "0.125", "", "", "", "1", *blank],
            ["fc", "0", "2", "b|c", "0.123457", "", "", "", "1", *blank],
        ]
    # Standard errors by hand: √(1/4) / √4, and √((0 + 0 + 1/16 + 1/16) / 4) / √4.
    error = pytest.approx(np.sqrt(1 / 32) / 2)
    assert json.loads((workdir / "metrics.json").read_text()) == {
        "hit": {"mean": 0.5, "standard_error": 0.25, "neurons": 4, "ceiling": 1.0},
        "clip_cos": {"mean": 0.5, "standard_error": error, "neurons": 4, "ceiling": 0.875},
    }
    files.write(Place(tmp_path), Config(), replace(result, metrics=None, ceilings=None))
    unmeasured = {"unmeasured": "the target's classes have no names to compare concepts with"}
    assert json.loads((tmp_path / "metrics.json").read_text()) == unmeasured
    found = files.read(tmp_path)  # without a list of skipped images too
    assert (found.result.metrics, found.summary, found.result.skipped) == (None, {}, ())


def test_a_directory_belongs_to_a_config(workdir):
    before = (workdir / "config.json").read_bytes()
    assert files.claim(Place(workdir), Config()) == []
    other = Config(score=ScoreConfig(kappa=4.0, exemplars=10))
    with pytest.raises(InputError) as error:
        files.claim(Place(workdir), other)
    assert str(error.value) == (
        f"{workdir} holds a run with another config (score.exemplars: 40 -> 10; score.kappa: 16.0 "
        f"-> 4.0): give another working directory, or the same config, or --overwrite, which drops "
        f"{', '.join(WRITTEN)} and keeps the artifacts that still fit."
    )
    assert (workdir / "config.json").read_bytes() == before
    (workdir / "artifacts").mkdir()
    (workdir / "artifacts" / "kept").touch()
    assert files.claim(Place(workdir), other, overwrite=True) == WRITTEN
    assert {p.name for p in workdir.rglob("*")} == {"artifacts", "kept", "config.json"}
    assert files.claim(Place(workdir), other) == []


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"config": 3}', "\xff"])
def test_a_config_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=r"config\.json is not a config of a run .*: give another"):
        files.claim(Place(tmp_path), Config())


def test_skipped_images_are_counted_by_reason():
    skipped = [files.Skipped(str(i), f"reason {min(i // 3, 6)}", "s") for i in range(20)]
    told = files.left_out(skipped)
    assert told.startswith("images left out, listed in skipped.csv: 20 (3 reason 0; 3 reason 1; ")
    assert told.endswith("; 5 for other reasons)")


def test_everything_is_read_back(tmp_path):
    found = sure(layer(12, images=9, exemplars=3), [0.5] * 12)
    named = replace(found.neurons[0], concepts=((HOSTILE, 0.5),), names=("a\u2028b", "c"))
    named = replace(named, **{name: getattr(named, name)[:1] for name in ("stability", "z", "q")})
    values = {"hit": np.arange(12) / 12, "f1": np.ones(12)}
    result = replace(
        found,
        neurons=(named, *found.neurons[1:]),
        metrics=Metrics(values),
        ceilings=Metrics(values),
        fingerprints={"activate": "activate-0123"},
        top1=Top1(630, 640, 32, "attention"),
        notes=("its preprocessing was assumed",),
    )
    files.write(Place(tmp_path), Config(), result)
    files.write_skipped(Place(tmp_path), result.skipped)
    saved = files.read(tmp_path)
    assert saved.config == Config()
    for name in ("neurons", "skipped", "fingerprints", "top1", "notes"):
        assert getattr(saved.result, name) == getattr(result, name)
    assert [e.index for e in saved.result[3].exemplars] == [e.index for e in result[3].exemplars]
    assert json.loads((tmp_path / "metrics.json").read_text())["target"]["top1"] == 630 / 640
    for kind, measured in result.metrics.values.items():
        np.testing.assert_array_equal(saved.result.metrics.values[kind], measured)
    assert saved.summary == result.metrics_dict()
    assert list(saved.versions) == list(files.LIBRARIES)


def test_files_of_something_else_are_a_sentence(workdir):
    for name, text in (("config.json", "{}"), ("concepts.jsonl", ""), ("metrics.json", "{bad")):
        before = (workdir / name).read_bytes()
        (workdir / name).write_text(text)
        with pytest.raises(InputError, match=r"are none of this version \(.*\): describe again in"):
            files.read(workdir)
        (workdir / name).write_bytes(before)
