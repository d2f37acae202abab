"""What a run wrote is what is read."""

import json
from dataclasses import replace

import numpy as np
import pytest

from jaxdesc.config import Config
from jaxdesc.errors import InputError
from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.evaluation.top1 import Top1
from jaxdesc.report import files
from jaxdesc.store import Place
from tests.report.made_up import HOSTILE, layer, sure


@pytest.fixture
def result():
    found = layer(12, images=9, exemplars=3)
    named = replace(found.neurons[0], concepts=((HOSTILE, 0.5),), names=("a\u2028b", "c"))
    values = {"hit": np.arange(12) / 12, "f1": np.ones(12)}
    return replace(
        found,
        neurons=(named, *found.neurons[1:]),
        metrics=Metrics(values),
        ceilings=Metrics(values),
        fingerprints={"activate": "activate-0123"},
        top1=Top1(630, 640, 32, "attention"),
        notes=("its preprocessing was assumed",),
    )


@pytest.fixture
def workdir(tmp_path, result):
    files.write(Place(tmp_path), Config(), result)
    files.write_skipped(Place(tmp_path), result.skipped)
    return tmp_path


def test_everything_is_read_back(workdir, result):
    found = files.read(workdir)
    assert found.config == Config()
    assert found.result.neurons == result.neurons
    assert [e.index for e in found.result[3].exemplars] == [e.index for e in result[3].exemplars]
    assert found.result.skipped == result.skipped
    assert found.result.fingerprints == result.fingerprints
    assert (found.result.top1, found.result.notes) == (result.top1, result.notes)
    measured = json.loads((workdir / "metrics.json").read_text())
    assert measured["target"]["top1"] == 630 / 640
    for kind, values in result.metrics.values.items():
        np.testing.assert_array_equal(found.result.metrics.values[kind], values)
    assert found.summary == result.metrics_dict()
    assert set(found.versions) == set(files.LIBRARIES)


def test_certainty_is_read_back(tmp_path, result):
    own = sure(result, [0.5] * len(result))
    files.write(Place(tmp_path), Config(), own)
    assert files.read(tmp_path).result.neurons == own.neurons
    assert files.read(tmp_path).result[4].q == (0.5, 0.5)


def test_a_layer_without_names_and_a_run_without_a_list_of_skipped(tmp_path, result):
    files.write(Place(tmp_path), Config(), replace(result, metrics=None, ceilings=None))
    found = files.read(tmp_path)
    assert found.result.metrics is None
    assert found.summary == {}
    assert found.result.skipped == ()


@pytest.mark.parametrize("name", ["config.json", "concepts.jsonl", "metrics.json"])
@pytest.mark.parametrize("text", ["", "{}", "[3]", "{nonsense"])
def test_files_of_something_else_are_a_sentence(workdir, name, text):
    if (name, text) == ("metrics.json", "{}"):  # those of neurons without names
        return
    (workdir / name).write_text(text)
    with pytest.raises(InputError, match=r"are none of this version \(.*\): describe anew in"):
        files.read(workdir)


def test_a_directory_without_results(tmp_path):
    with pytest.raises(InputError, match=r"holds no results: run describe with this"):
        files.read(tmp_path)
