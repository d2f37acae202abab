import csv
import json
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest

from jaxdesc.config import Config, ScoreConfig
from jaxdesc.errors import InputError
from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.report import files
from jaxdesc.result import Exemplar, Result, build_neurons
from jaxdesc.store import Place

NASTY = 'crane, bird; "the \nbig one"\r\n= café 🐈'


@pytest.fixture
def result():
    """Three neurons: one found, one dead, one without a positive score."""
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
        fingerprints={"activate": "activate-0123"},
    )


@pytest.fixture
def workdir(tmp_path, result):
    files.write(Place(tmp_path / "new" / "run"), Config(), result)
    return tmp_path / "new" / "run"


def test_all_files_are_there_and_nothing_else(workdir):
    names = ["concepts.csv", "concepts.jsonl", "config.json", "metrics.json"]
    assert sorted(path.name for path in workdir.iterdir()) == names


def test_concepts_jsonl(workdir):
    lines = (workdir / "concepts.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "layer": "fc",
            "unit": 0,
            "concepts": [{"text": NASTY, "score": 0.125}, {"text": "b|c", "score": 0.1234567}],
            "max": 0.125,
            "threshold": float(np.float32(0.1)),
            "exemplars": [
                {
                    "image": "a/é.jpg",
                    "activation": 2.5,
                    "box": [0.0, 1.5, 224.0, 225.5],
                    "index": 7,
                }
            ],
            "flags": [],
            "names": ["star", "pentagram"],
            "metrics": {"hit": 1.0, "clip_cos": 0.5},
        },
        {
            "layer": "fc",
            "unit": 1,
            "concepts": [],
            "max": 0.5,
            "threshold": float(np.float32(0.475)),
            "exemplars": [{"image": "b.jpg", "activation": 1.0, "box": [], "index": 0}],
            "flags": ["dead", "no concept"],
            "names": ["heart"],
            "metrics": {"hit": 0.0, "clip_cos": 0.5},
        },
        {
            "layer": "fc",
            "unit": 2,
            "concepts": [],
            "max": -0.25,
            "threshold": float(np.float32(-0.2375)),
            "exemplars": [],
            "flags": ["no concept"],
            "names": ["moon"],
            "metrics": {"hit": 0.0, "clip_cos": 0.25},
        },
    ]
    assert "é" in lines[0]


def test_neurons_without_classes_have_no_names(result):
    assert "names" not in replace(result[0], names=()).to_dict()


def test_concepts_csv(workdir):
    with (workdir / "concepts.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        [
            *[
                "layer",
                "unit",
                "rank",
                "concept",
                "score",
                "stability",
                "z",
                "q",
                "exemplars",
                "flags",
            ]
        ],
        ["fc", "0", "1", NASTY, "0.125", "", "", "", "1", ""],
        ["fc", "0", "2", "b|c", "0.123457", "", "", "", "1", ""],
    ]


def test_metrics_json(workdir):
    found = json.loads((workdir / "metrics.json").read_text())
    # Standard errors by hand: √(1/4) / √4, and √((0 + 0 + 1/16 + 1/16) / 4) / √4.
    assert found == {
        "hit": {"mean": 0.5, "standard_error": 0.25, "neurons": 4, "ceiling": 1.0},
        "clip_cos": {
            "mean": 0.5,
            "standard_error": pytest.approx(np.sqrt(1 / 32) / 2),
            "neurons": 4,
            "ceiling": 0.875,
        },
    }


def test_no_metrics_without_classes(result, tmp_path):
    files.write(Place(tmp_path), Config(), replace(result, metrics=None, ceilings=None))
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "unmeasured": "the target's classes have no names to compare concepts with"
    }
    assert '"metrics"' not in (tmp_path / "concepts.jsonl").read_text()


def test_config_json(workdir):
    found = json.loads((workdir / "config.json").read_text())
    assert Config.from_dict(found["config"]) == Config()
    assert found["fingerprints"] == {"activate": "activate-0123"}
    assert found["versions"]["jax"] == version("jax")
    assert list(found["versions"]) == list(files.LIBRARIES)


def test_a_run_that_was_stopped_keeps_its_claim(tmp_path):
    files.claim(Place(tmp_path / "run"), Config())
    found = json.loads((tmp_path / "run" / "config.json").read_text())
    assert Config.from_dict(found["config"]) == Config()
    assert found["fingerprints"] == {}
    with pytest.raises(InputError, match=r"another config \(score\.kappa: 16\.0 -> 4\.0\)"):
        files.claim(Place(tmp_path / "run"), Config(score=ScoreConfig(kappa=4.0)))


def test_a_claim_on_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^/.*/file can't be written \(Not a directory\): "):
        files.claim(Place(tmp_path / "file"), Config())


def test_a_directory_is_claimed_by_its_config(workdir):
    before = (workdir / "config.json").read_bytes()
    files.claim(Place(workdir), Config())
    assert (workdir / "config.json").read_bytes() == before
    other = Config(score=ScoreConfig(kappa=4.0, exemplars=10))
    with pytest.raises(InputError) as error:
        files.claim(Place(workdir), other)
    assert str(error.value) == (
        f"{workdir} holds a run with another config (score.exemplars: 40 -> 10; score.kappa: 16.0 "
        "-> 4.0): give another working directory, or the same config, or --overwrite, which drops "
        "concepts.csv, concepts.jsonl, config.json, metrics.json and keeps the artifacts that "
        "still fit."
    )


def test_another_s_results_are_dropped_on_request_alone(workdir):
    (workdir / "artifacts").mkdir()
    (workdir / "artifacts" / "kept").write_text("")
    other = Config(score=ScoreConfig(kappa=4.0))
    dropped = files.claim(Place(workdir), other, overwrite=True)
    assert dropped == ["concepts.csv", "concepts.jsonl", "config.json", "metrics.json"]
    assert [p.name for p in sorted(workdir.iterdir())] == ["artifacts", "config.json"]
    assert list((workdir / "artifacts").iterdir()) == [workdir / "artifacts" / "kept"]
    assert files.claim(Place(workdir), other, overwrite=True) == []


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"config": 3}', '{"config": "a"}', "\xff"]
)
def test_a_directory_with_another_s_config_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=r"config\.json is no config of a run .*: give another"):
        files.claim(Place(tmp_path), Config())
