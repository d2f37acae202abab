"""The describe script: its files, and bad input, which is one sentence with exit code 2."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "photos.py"


@pytest.fixture
def photo_folder(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(5):
        pixels = rng.integers(0, 256, (40 + index, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def words(tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("star\nheart\nsky\n")
    return file


@pytest.fixture
def good(networks, photo_folder, words, tmp_path):
    """Flags that are all right."""
    return {
        "config": CONFIG,
        "workdir": tmp_path / "run",
        "quiet": "true",
        "config.target.source": networks.target,
        "config.clip.source": networks.clip,
        "config.images.source": f"folder:{photo_folder}",
        "config.images.batch": 4,
        "config.clip.batch": 4,
        "config.vocabulary.source": f"file:{words}",
        "config.score.exemplars": 3,
    }


@pytest.fixture
def run(command):
    return lambda flags, *more: command("describe", flags, *more)


def assert_refused(code, output, error, message):
    assert code == 2, error
    assert output == ""
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    assert re.search(message, error), error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, r"--config is missing: expected one of paper, photos, "),
        (
            {"config": "/none/of/it.py"},
            r"The config '/none/of/it\.py' is unknown: expected one of ",
        ),
        ({"config": f"{CONFIG}:wide"}, r"get_config\(\) takes 0 positional arguments"),
        ({"workdir": None}, r"--workdir is missing: give the folder"),
        (
            {"workdir": "gs://none/run", "tensorboard": "true"},
            r"--tensorboard writes to this machine alone, but --workdir is gs://none/run: give a ",
        ),
        ({"config.score.kapa": 1}, r"Unknown config key config\.score\.kapa: did you mean"),
        ({"config.score.kappa": -1}, r"config\.score\.kappa is -1\.0: expected a number"),
        (
            {
                "config.score.similarity": "cosine",
                "config.ablation.views": "('full',)",
                "config.ablation.kappas": "(4.0,)",
            },
            r"config\.ablation compares t-vMF with the cosine, its κ = 0, but .* is 'cosine'",
        ),
        ({"config.target.source": "/none"}, r"The target folder '/none' does not exist: give a "),
        ({"config.evaluation.scorer": "/none"}, r"The clip folder '/none' does not exist"),
        (
            {"config.ablation.vocabularies": "('file:/none.txt',)"},
            r"vocabulary file /none\.txt can't be read",
        ),
        ({"config.vocabulary.source": "file:/no\nne.txt"}, r"file /no ne\.txt can't be read"),
        (
            {"config.score.exemplars": 6},
            r"config\.score\.exemplars is 6, but folder:.* holds only 5 images: ask for at most",
        ),
    ],
)
def test_bad_flags_are_refused(run, good, change, message):
    assert_refused(*run({} if change is None else good | change), message)
    assert not (good["workdir"] / "config.json").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("def get_config(:", r"config '.*' can't be loaded \(SyntaxError\(.*\)\): expected"),
        ("def get_config(): return 3", r"get_config of '.*' gave 3: expected a ConfigDict"),
        (
            "from ml_collections import ConfigDict\n"
            "def get_config(): return ConfigDict({'score': {'kapa': 1.0}})",
            r"Unknown config key config\.score\.kapa: did you mean config\.score\.kappa\?",
        ),
    ],
)
def test_bad_config_files_are_refused(run, tmp_path, config, message):
    (tmp_path / "config.py").write_text(config)
    flags = {"config": tmp_path / "config.py", "workdir": tmp_path / "run"}
    assert_refused(*run(flags), message)


def test_an_argument_that_is_not_a_flag_is_refused(run, good):
    assert_refused(*run(good, "kappa=4"), r"'kappa=4' is not a flag: give flags as --name=value")


def test_bad_files_are_refused(run, good, tmp_path):
    """Before images are looked at."""
    clip = Path(shutil.copytree(good["config.clip.source"], tmp_path / "network"))
    weights = clip / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    message = r"network/model\.safetensors can't be read .*; expected a complete safetensors"
    assert_refused(*run(good | {"config.clip.source": clip}), message)
    good["workdir"].mkdir(exist_ok=True)
    (good["workdir"] / "config.json").write_text('{"model_type": "clip"}')
    assert_refused(
        *run(good), r"config\.json is not a config of a run .*: give another working direc"
    )
    shutil.rmtree(good["workdir"])
    good["workdir"].write_text("")
    assert_refused(*run(good), r"/run can't be written \(Not a directory\): give a folder that can")


def test_broken_images_are_listed_and_nothing_is_lost(run, good, tmp_path):
    """Too many stop the run; once they are allowed, it goes on with what it has computed."""
    for name in ("3.png", "=1+1.png"):
        (tmp_path / "photos" / name).write_bytes(b"")
    message = (
        r"2 of the 6 images of folder:.* can't be used, more than the share 0\.01 that "
        r"config\.images\.max_skipped allows: 3\.png \(is empty\), "
        r"=1\+1\.png .*; repair or remove them, or allow a larger share\.$"
    )
    assert_refused(*run(good), message)
    listed = tmp_path / "run" / "skipped.csv"
    source = f"folder:{tmp_path / 'photos'}"
    expected = [
        {"image": name, "reason": "is empty", "source": source} for name in ("3.png", "'=1+1.png")
    ]
    with listed.open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == expected
    listed.unlink()
    (computed,) = (tmp_path / "run" / "artifacts").glob("activate-*")
    before = computed.stat()

    code, output, error = run(good | {"config.images.max_skipped": 0.4})
    assert not code, error
    reason = "is empty"
    assert f"images left out, listed in skipped.csv: 2 (2 {reason})" in output
    assert computed.stat() == before
    with listed.open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == expected
    lines = (tmp_path / "run" / "concepts.jsonl").read_text(encoding="utf-8").splitlines()
    shown = {e["image"] for line in lines for e in json.loads(line)["exemplars"]}
    assert shown <= {f"{i}.png" for i in (0, 1, 2, 4)}


def test_a_run_and_what_it_refuses_afterwards(run, good):
    code, output, error = run(good | {"quiet": "false", "tensorboard": "true"})
    assert not code, error
    assert "results in" in output
    # In a log, progress is lines; the last one says how long it took.
    assert "\r" not in error
    for stage in ("activate attention", "embed"):
        assert re.search(rf"^{stage}: (\d)/\1 img in \d+\.\d s, [\d.]+ img/s$", error, re.M), error
    workdir = good["workdir"]
    (events,) = (workdir / "tensorboard").glob("*/events.out.tfevents.*")
    for tag in ("throughput/activate", "idle_share/activate", "memory_GiB/score", "metrics/hit"):
        assert tag.encode() in events.read_bytes()
    outputs = ["concepts.csv", "concepts.jsonl", "metrics.json"]
    first = {name: (workdir / name).read_bytes() for name in outputs}
    lines = [json.loads(line) for line in first["concepts.jsonl"].splitlines()]
    assert [line["unit"] for line in lines] == list(range(32))
    assert {e["image"] for line in lines for e in line["exemplars"]} <= {
        f"{i}.png" for i in range(5)
    }
    assert all(len(line["exemplars"]) == 3 for line in lines)

    code, output, error = run(good)
    assert not code, error
    assert "all done before" in output
    assert {name: (workdir / name).read_bytes() for name in outputs} == first

    other = good | {"config.score.kappa": 4, "config.target.layer": "layer4"}
    assert_refused(
        *run(other),
        r"run holds a run with another config \(score\.kappa: 16\.0 -> 4\.0; target\.layer: "
        r"'fc' -> 'layer4'\): give another working directory, or the same config",
    )
    assert {name: (workdir / name).read_bytes() for name in outputs} == first
