"""Data from elsewhere runs no code, writes nowhere but in the workdir, and stays text."""

import csv
import json
import os
import pickle
import re
import sys
import zipfile
from functools import partial

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image

import jaxdesc as jd
from jaxdesc.config import Config
from jaxdesc.errors import UnusableImage
from jaxdesc.images.example import Example
from jaxdesc.images.folder import Folder
from jaxdesc.images.tfds import Tfds
from jaxdesc.result import COLUMNS
from jaxdesc.store import write_rows
from tests.conftest import ROOT
from tests.faults.place import Place, entry, safetensors
from tests.plain_target import plain_target

SOURCES = sorted(
    file for top in ("jaxdesc", "launch", "configs") for file in (ROOT / top).rglob("*.py")
)
# What reads code out of data, or hands text to a shell.
DANGERS = re.compile(
    r"(?:import|from) (?:pickle|dill|cloudpickle|joblib|marshal|shelve|yaml|subprocess)\b"
    r"|(?<![\w.])(?:eval|exec|compile|__import__)\("  # of an object these are others
    r"|(?:system|popen|extractall|extract)\(|\bshell=|allow_pickle=(?!False)"
    r"|trust_remote_code=(?!False)|torch\.load\((?!.*weights_only=True)"
)

# Arrays between a run and processes that it has started, two commands that print a version, and
# a message with the lines that convert a pickled module.
HARMLESS = {
    "jaxdesc/benchmark/device.py": ["import subprocess"],
    "jaxdesc/images/loader.py": ["import pickle"],
    "jaxdesc/models/dictionary_files.py": ["torch.load("],
}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as a user runs it
    return Place(tmp_path, monkeypatch, capsys)


def test_nothing_reads_code_out_of_data():
    for code in (
        *("import pickle", "from joblib import load", "import yaml.loader", "eval(text)"),
        *("torch.load(file)", "torch.load(file, weights_only=False)", "os.system(name)"),
        *("np.load(file, allow_pickle=True)", "archive.extractall()", "f(a, shell=True)"),
        *("load(p, trust_remote_code=1)", "compile(text, '', 'exec')"),
    ):
        assert DANGERS.search(code), code
    assert len(SOURCES) > 80
    found = {str(file.relative_to(ROOT)): DANGERS.findall(file.read_text()) for file in SOURCES}
    assert {file: dangers for file, dangers in found.items() if dangers} == HARMLESS


# Checkpoints.


def inside(folder):
    return set(folder.rglob("*"))


class Harmful:
    """Unpickled, it writes a file."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


WRITERS = {
    "bare": lambda state, file: file.write_bytes(pickle.dumps(state)),
    "zipped": torch.save,
    "legacy": partial(torch.save, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", ["resnet50.pth", "model.safetensors", "flax_model.msgpack"])
def test_no_pickle_is_run(place, write, name):
    marker = place.folder / "marker"
    if name != "resnet50.pth":
        place.network("clip", "model.safetensors")
    file = place.file(f"clip/{name}")
    WRITERS[write]({"fc.weight": Harmful(marker)}, file)
    with pytest.raises(jd.InputError, match=r"can't be read \(.*\); expected "):
        jd.load_target(file) if name == "resnet50.pth" else jd.load_clip(file.parent)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Harmful(marker)))
    assert marker.exists()  # it would have done harm


def test_an_archive_writes_nothing(tmp_path):
    """Names that lead out of it stay names."""
    file = tmp_path / "in" / "resnet50.pth"
    file.parent.mkdir()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/version", "3\n")
        for name in ("../escaped", "archive/../../escaped", str(tmp_path / "escaped")):
            archive.writestr(name, "x")
    before = inside(tmp_path)
    with pytest.raises(jd.InputError):
        jd.load_target(str(file))
    assert inside(tmp_path) == before


def test_a_tensor_s_name_stays_a_name(place):
    """Neither a path to write to nor a sequence that steers a terminal."""
    header = {"../escaped\x1b[2J\r": entry([1], 0, 4)}
    folder = place.network("target", "model.safetensors", safetensors(header, bytes(4)))
    before = inside(place.folder)
    with pytest.raises(jd.InputError, match=r"escaped\\x1b\[2J\\r") as refused:
        jd.load_target(folder)
    assert str(refused.value).isprintable()
    assert inside(place.folder) == before


def test_no_code_of_a_checkpoint_is_imported(place):
    marker = place.folder / "marker"
    auto_map = {"AutoTokenizer": ["own.Own", "own.Own"]}
    folder = place.described("clip", file="tokenizer_config.json", auto_map=auto_map)
    place.file("clip/own.py", f"import os\nos.mkdir({str(marker)!r})\nclass Own: ...\n")
    jd.load_clip(folder)
    assert not marker.exists()


@pytest.mark.parametrize("key", ["pythonClassName", "type", "proto_cls", "python\\u0043lassName"])
def test_no_code_that_a_data_set_names_is_imported(tmp_path, monkeypatch, key):
    marker = tmp_path / "marker"
    (tmp_path / "evil_module.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    version = tmp_path / "photos" / "1.0.0"
    version.mkdir(parents=True)
    (version / "features.json").write_text(f'{{"{key}": "evil_module.Feature", "content": {{}}}}')
    (version / "dataset_info.json").write_text('{"name": "photos", "version": "1.0.0"}')
    for name in ("photos", "photos:1.0.0", "Photos"):
        with pytest.raises(jd.InputError, match=r"names the feature 'evil_module\.Feature', whose"):
            Tfds(f"{name}/train,data_dir={tmp_path}")
    assert not marker.exists()
    assert "evil_module" not in sys.modules


# Names and texts, from images to what a run writes.

EVIL = [
    "../../escaped", "/tmp/escaped", "=cmd|' /C calc'!A0", "+1+1", "-1", "@SUM(1)",
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "%n%s", "a\nb,c",
    "ünïcödé", "x" * 200, "$(touch escaped)", "`id`", "\\frac{1}{0}", "$x^$",
]  # fmt: skip

# Short enough for a CLIP of 24 tokens.
CONCEPTS = ["=1+1", "../../x", "<b>x</b>", "{{ 7*7 }}", "$x^$", "@SUM", "`id`", "a\tb", "/tmp/x"]


class Crafted:
    """An archive-like source, whose names anyone chose."""

    spec, has_boxes, has_labels = "crafted:../../x", False, False

    def __init__(self, names):
        self.names = names

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        if index == 1:
            raise UnusableImage(repr(self.names[index]), "=is damaged")
        pixels = np.random.default_rng(index).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        return Example(Image.fromarray(pixels))

    def identify(self, index):
        return self.names[index]

    def fingerprint(self):
        return "crafted"


def test_names_and_concepts_form_no_path(tmp_path, monkeypatch):
    """A run writes only in its workdir, under names that the program chooses."""
    workdir = tmp_path / "a" / "b" / "run"
    monkeypatch.chdir(tmp_path)
    found = jd.describe(
        plain_target(name="../../escaped"),
        jd.load_clip("scenes"),
        images=Crafted(EVIL),
        concepts=CONCEPTS,
        exemplars=3,
        alpha=0.1,
        workdir=workdir,
        quiet=True,
        config=Config.from_dict({"images": {"max_skipped": 0.5}}),
    )
    found.to_csv(workdir / "concepts.csv")
    found.to_json(workdir / "concepts.jsonl")
    written = {path for path in inside(tmp_path) if path.is_file()}
    assert written
    assert all(workdir in path.parents for path in written)
    parts = {part for path in written for part in path.relative_to(tmp_path).parts}
    assert all(re.fullmatch(r"[\w.-]+", part) for part in parts)
    assert not [part for part in parts if "escaped" in part]
    lines = (workdir / "concepts.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert len(lines) == len(found)
    shown = {e["image"] for line in lines for e in json.loads(line)["exemplars"]}
    assert shown <= set(EVIL)
    with (workdir / "concepts.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert all(len(row) == len(COLUMNS) for row in rows)


def test_one_writer_of_csv_files_lets_no_formula_pass(tmp_path):
    for file in (ROOT / "jaxdesc").rglob("*.py"):
        assert ("csv.writer" in file.read_text()) == (file.name == "place.py"), file
    formulas = ["=1+1", "+1", "-1", "@SUM", "\t=1", "\n=1", "\uff1d1+1"]
    write_rows(tmp_path / "a.csv", ("text", "number"), [(text, -1.5) for text in formulas])
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file))[1:] == [[f"'{text}", "-1.5"] for text in formulas]


def test_an_image_s_name_stays_text(tmp_path):
    """File names of any bytes stay text in messages and in lists."""
    names = [b"\xff.png", b"\x1b[2J.png", b"=1+1.png", b"a\nb.png", b"<script>.png", b"'\".png"]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(b"")
    source = Folder(str(tmp_path))
    assert len(source) == len(names)
    for index in range(len(source)):
        source.identify(index).encode()
        with pytest.raises(UnusableImage) as refused:
            source[index]
        assert str(refused.value).isprintable()
        assert refused.value.reason.isprintable()
