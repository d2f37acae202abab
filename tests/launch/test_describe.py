"""Whatever is wrong with what a user typed: one sentence, exit code 2, and no traceback."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

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
    """Flags with which everything is right."""
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


def written(flags):
    return [f"--{key}={value}" for key, value in flags.items() if value is not None]


@pytest.fixture
def run(command):
    return lambda flags, *more: command("describe", flags, *more)


def assert_refused(code, output, error, message):
    assert code == 2, error
    assert output == ""
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    assert re.search(message, error), error


BAD_FLAGS = {
    "no config": (
        {"config": None},
        r"--config is missing: expected one of paper, photos, ",
    ),
    "no argument at all": (
        None,
        r"--config is missing: expected one of paper, photos, ",
    ),
    "missing config": (
        {"config": "/none/of/it.py"},
        r"The config '/none/of/it\.py' is unknown: expected one of paper, photos, .*",
    ),
    "config of something else": (
        {"config": __file__},
        r"loaded \(KeyError\('get_config'\)\)",
    ),
    "unknown variant": (
        {"config": f"{CONFIG}:wide"},
        r"get_config\(\) takes 0 positional arguments",
    ),
    "scalars in a bucket": (
        {"workdir": "gs://none/run", "tensorboard": "true"},
        r"--tensorboard writes to this machine alone, but --workdir is gs://none/run: give a local",
    ),
    "no workdir": ({"workdir": None}, r"--workdir is missing: say where"),
    "unknown flag": (
        {"wrkdir": "x"},
        r"jaxdesc describe has no flag --wrkdir: did you mean --workdir\?",
    ),
    "unknown key": (
        {"config.score.kapa": 1},
        r"Unknown config key config\.score\.kapa: did you mean config\.score\.kappa\?",
    ),
    "unknown section": (
        {"config.scores.kappa": 1},
        r"Unknown config key config\.scores\.kappa: did you mean config\.score\.kappa\?",
    ),
    "no number": ({"config.score.kappa": "much"}, r"config\.score\.kappa.*much"),
    "kappa < 0": ({"config.score.kappa": -1}, r"config\.score\.kappa is -1\.0: expected a number"),
    "kappa nan": ({"config.score.kappa": "nan"}, r"config\.score\.kappa is nan: expected a number"),
    "alpha 0": ({"config.score.alpha": 0}, r"config\.score\.alpha is 0\.0: expected a share"),
    "alpha 1.5": (
        {"config.score.alpha": 1.5},
        r"config\.score\.alpha is 1\.5: expected a share in",
    ),
    "no exemplar": ({"config.score.exemplars": 0}, r"config\.score\.exemplars is 0: expected at"),
    "unknown view": (
        {"config.crop.view": "center"},
        r"config\.crop\.view is 'center': expected",
    ),
    "no template": ({"config.vocabulary.template": "a"}, r"vocabulary\.template is 'a': expected"),
    "no target": (
        {"config.target.source": ""},
        r"The target folder '' does not exist: give a local",
    ),
    "missing target": (
        {"config.target.source": "/none"},
        r"The target folder '/none' does not exist: give a local folder with config\.json",
    ),
    "missing CLIP": (
        {"config.clip.source": "/none"},
        r"The clip folder '/none' does not exist: give a local folder with config\.json",
    ),
    "missing scorer": (
        {"config.evaluation.scorer": "/none"},
        r"The clip folder '/none' does not exist",
    ),
    "missing sentence encoder": (
        {"config.evaluation.sentence": "/none"},
        r"The sentence encoder folder '/none' does not exist",
    ),
    "missing classes": (
        {"config.target.classes": "file:/none.txt"},
        r"/none\.txt can't be read",
    ),
    "missing vocabulary of a table": (
        {"config.ablation.vocabularies": "('file:/none.txt',)"},
        r"vocabulary file /none\.txt can't be read",
    ),
    "unknown source": (
        {"config.images.source": "web:imagenet2012"},
        r"Unknown image source 'web:imagenet2012': expected folder:PATH, tfds:NAME.* or scenes:",
    ),
    "no split": (
        {"config.images.source": "tfds:imagenet2012"},
        r"source 'tfds:imagenet2012' can't be read: expected tfds:NAME\[/CONFIG\]",
    ),
    "no share": (
        {"config.images.max_skipped": 1.0},
        r"config\.images\.max_skipped is 1\.0: expected a share in \[0, 1\)",
    ),
    "missing folder": (
        {"config.images.source": "folder:/none"},
        r"The image folder '/none' does not exist: give a folder",
    ),
    "bad scenes": ({"config.images.source": "scenes:seed=-1"}, r"'scenes:seed=-1' can't be read"),
    "missing vocabulary": (
        {"config.vocabulary.source": "file:/none.txt"},
        r"vocabulary file /none\.txt can't be read \(No such file or directory\): give the path",
    ),
    "a message of two lines": (
        {"config.vocabulary.source": "file:/no\nne.txt"},
        r"vocabulary file /no ne\.txt can't be read",
    ),
    "unknown vocabulary": (
        {"config.vocabulary.source": "wordnt"},
        r"there is no vocabulary 'wordnt': give a list",
    ),
    "exemplars > images": (
        {"config.score.exemplars": 6},
        r"config\.score\.exemplars is 6, but folder:.* holds only 5 images: ask for at most",
    ),
    "no boxes": ({"config.crop.view": "box"}, r"view is 'box', but folder:.* has no boxes"),
    "no labels": ({"config.crop.cam_class": "label"}, r"'label', but folder:.* has no labels"),
    "unknown layer": (
        {"config.target.layer": "layer5", "config.crop.view": "centre"},
        r"Unknown layer 'layer5' of .*: expected one of fc, layer1, layer2, layer3, layer4",
    ),
}


@pytest.mark.parametrize(("change", "message"), BAD_FLAGS.values(), ids=BAD_FLAGS)
def test_bad_flags_are_refused(run, good, change, message):
    assert_refused(*run({} if change is None else good | change), message)
    assert not (good["workdir"] / "config.json").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            "def get_config(:",
            r"config '.*' can't be loaded \(SyntaxError\(.*\)\): expected",
        ),
        ("import no_such_module", r"can't be loaded \(ModuleNotFoundError.*no_such_module"),
        ("def get_config(): return 3", r"get_config of '.*' gave 3: expected a ConfigDict"),
        ("def get_config(): return {}['a']", r"can't be loaded \(KeyError\('a'\)\): expected"),
        ("raise FileNotFoundError", r"can't be loaded \(FileNotFoundError\(\)\): expected Python"),
        (None, r"The config '.*config\.py' is unknown: expected"),
        (
            "from ml_collections import ConfigDict\n"
            "def get_config(): return ConfigDict({'score': {'kapa': 1.0}})",
            r"Unknown config key config\.score\.kapa: did you mean config\.score\.kappa\?",
        ),
    ],
)
def test_bad_config_files_are_refused(run, tmp_path, config, message):
    if config is not None:
        (tmp_path / "config.py").write_text(config)
    flags = {"config": tmp_path / "config.py", "workdir": tmp_path / "run"}
    assert_refused(*run(flags), message)


def test_what_is_no_flag_is_refused(run, good):
    assert_refused(*run(good, "kappa=4"), r"'kappa=4' is not a flag: give flags as --name=value")


def remove_photos(good, tmp_path):
    for photo in (tmp_path / "photos").iterdir():
        photo.rename(photo.with_suffix(".txt"))
    return (
        r"The image folder '.*/photos' holds no image: expected at least one file ending in \.jpg"
    )


def empty_words(good, tmp_path):
    (tmp_path / "words.txt").write_text("\n \n")
    return r"vocabulary words holds no concept: give it at least one"


def file_for_workdir(good, tmp_path):
    good["workdir"].write_text("")
    return r"/run can't be written \(Not a directory\): give a folder that can be, or see to "


def foreign_config(good, tmp_path):
    good["workdir"].mkdir()
    (good["workdir"] / "config.json").write_text('{"model_type": "clip"}')
    return r"/run/config\.json is no config of a run .*: give another working directory"


def copied(good, key, tmp_path):
    good[key] = Path(shutil.copytree(good[key], tmp_path / "network"))
    return good[key]


def misshape_target(good, tmp_path):
    file = copied(good, "config.target.source", tmp_path) / "model.safetensors"
    tensors = load_file(file)
    del tensors["fc.bias"]
    tensors["fc.wight"] = tensors.pop("fc.weight")
    tensors["bn1.running_var"] = tensors["bn1.running_var"][:-1]
    save_file(tensors, file)
    return (
        r"network/model\.safetensors does not fit the ResNet .*: missing tensors: fc\.bias, "
        r"fc\.weight; unknown tensors: fc\.wight; misshapen tensors: bn1\.running_var "
        r"\(has \[15\], expected \[16\]\); use the config\.json and the weights of one checkpoint"
    )


def truncate_clip(good, tmp_path):
    file = copied(good, "config.clip.source", tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    return r"network/model\.safetensors can't be read .*: expected|expected a complete safetensors"


def rewritten(key, name, content, message):
    def change(good, tmp_path):
        (copied(good, key, tmp_path) / name).write_text(content)
        return message

    return change


TARGET, CLIP = "config.target.source", "config.clip.source"
PREPROCESSING = r"preprocessor_config\.json can't be read as CLIP's preprocessing .*: expected size"
BAD_FILES = {
    "folder without images": remove_photos,
    "empty vocabulary": empty_words,
    "file for workdir": file_for_workdir,
    "foreign config.json": foreign_config,
    "misshapen target": misshape_target,
    "truncated CLIP": truncate_clip,
    "no JSON": rewritten(TARGET, "config.json", "{", r"config\.json can't be read as JSON"),
    "no ResNet": rewritten(
        TARGET, "config.json", '{"architecture": "vit"}', r"architecture 'vit', which is not one of"
    ),
    "tokenizer": rewritten(
        CLIP, "tokenizer.json", "{", r"The tokenizer of the CLIP folder .* again"
    ),
    "preprocessing, no JSON": rewritten(CLIP, "preprocessor_config.json", "{", PREPROCESSING),
    "preprocessing, a list": rewritten(CLIP, "preprocessor_config.json", "[]", PREPROCESSING),
    "preprocessing, another": rewritten(
        CLIP, "preprocessor_config.json", '{"size": {"height": 48, "width": 48}}', PREPROCESSING
    ),
    "interpolation": rewritten(CLIP, "preprocessor_config.json", '{"resample": 1}', PREPROCESSING),
}


@pytest.mark.parametrize("spoil", BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files_are_refused(run, good, tmp_path, spoil):
    message = spoil(good, tmp_path)
    assert_refused(*run(good), message)
    artifacts = good["workdir"] / "artifacts"
    kept = {path.name.split("-")[0] for path in artifacts.glob("*")}
    assert kept <= {"encode", "words"}  # texts are encoded before images are looked at


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
    # In a log, progress is lines, the last of which tells how long it took.
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


@pytest.mark.parametrize("what", ["no config", "unknown key", "truncated CLIP"])
def test_the_same_from_a_shell(good, tmp_path, what):
    if what in BAD_FLAGS:
        change, message = BAD_FLAGS[what]
        good |= change
    else:
        message = BAD_FILES[what](good, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "launch.describe", *written(good)],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert_refused(done.returncode, done.stdout, done.stderr, message)
