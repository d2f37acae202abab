"""The report script: from what a run left to a page, and bad input."""

import json
import re
from dataclasses import replace

import pytest

from jaxdesc.config import Config, CropConfig, ImagesConfig, ScoreConfig, TargetConfig
from jaxdesc.images.sources import open_source
from jaxdesc.report import files
from jaxdesc.scenes.world import CLASSES
from jaxdesc.store import Place
from tests.report.made_up import layer


@pytest.fixture
def config(networks):
    return Config(
        target=TargetConfig(source=str(networks.target)),
        images=ImagesConfig(source="scenes:count=6", batch=4),
    )


@pytest.fixture
def workdirs(tmp_path, config):
    """Two runs of the same layer on the same scenes, and one on others."""
    www = replace(config, crop=CropConfig(view="centre"), score=ScoreConfig(kappa=0.0))
    others = replace(config, images=ImagesConfig(source="scenes:count=7"))
    source, result = open_source("scenes:count=6"), layer(5, images=6, exemplars=3)

    def named(neuron):
        best = (replace(e, image=source.identify(e.index)) for e in neuron.exemplars)
        return replace(neuron, exemplars=tuple(best))

    result = replace(result, neurons=tuple(map(named, result)))
    for name, own in (("ours", config), ("www", www), ("others", others)):
        files.write(Place(tmp_path / name), own, result)
    return tmp_path


def data_of(workdir):
    html = (workdir / "report" / "index.html").read_text()
    return json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', html)[1]), html


def test_a_page_of_two_runs_and_one_of_one(command, workdirs):
    flags = {"workdir": workdirs / "ours", "quiet": "true"}
    code, output, error = command("report", flags | {"beside": workdirs / "www"})
    assert not code, error
    assert re.fullmatch(r".*report/index\.html: 0\.\d MB with its thumbnails\n", output)
    data, html = data_of(workdirs / "ours")
    names = [method["name"] for method in data["methods"]]
    assert names == ["attention view, t-vMF κ=16", "centre view, cosine"]
    assert "scenes:count=6" in html
    assert data["images"]["sizes"] == [[128, 96]] * 6
    heats = [len(heat.split()) for heat in data["images"]["heats"] if heat]
    assert heats
    assert set(heats) == {4}  # rows of the last stage
    names = {name for names in CLASSES.values() for name in names[:1]}
    assert set(data["classes"]) - {""} <= names
    code, output, error = command("report", flags | {"heatmaps": "false"})
    assert not code, error
    assert output.startswith(f"{workdirs / 'ours' / 'report' / 'index.html'} is replaced\n")
    data, _ = data_of(workdirs / "ours")
    assert len(data["methods"]) == 1
    assert set(data["images"]["heats"]) == {""}


def test_bad_input_is_one_sentence(command, workdirs, tmp_path):
    for flags, message in (
        ({}, "--workdir is missing: say where results are"),
        ({"workdir": "gs://bucket/run"}, "--workdir is gs://bucket/run, but this script reads and"),
        ({"workdir": tmp_path / "none"}, "holds no results: run describe"),
        (
            {"workdir": workdirs / "ours", "beside": workdirs / "others"},
            r"--beside has other images \(scenes:count=7\) than --workdir \(scenes:count=6\)",
        ),
        (
            {"workdir": workdirs / "ours", "figures": "true", "neurons": "0,5"},
            "--neurons has '5': expected numbers of neurons between commas, up to 4",
        ),
    ):
        code, output, error = command("report", flags)
        assert (code, output) == (2, "")
        assert re.fullmatch(f"error: .*{message}.*\n", error), error
