"""What comes from elsewhere runs no code, writes nowhere but in the workdir, and stays text."""

import ast
import csv
import json
import os
import pickle
import re
import sys
import zipfile
from pathlib import Path

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
from jaxdesc.report.files import write_skipped
from jaxdesc.result import Skipped
from jaxdesc.scenes import NETWORKS
from jaxdesc.store import write_rows
from tests.conftest import ROOT
from tests.faults.place import entry, safetensors
from tests.plain_target import plain_target

SOURCES = sorted(
    file for top in ("jaxdesc", "launch", "configs") for file in (ROOT / top).rglob("*.py")
)
# What reads code out of data, or hands text to a shell.
MODULES = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "subprocess"}
TEXT = {"eval", "exec", "compile", "__import__"}
CALLS = TEXT | {"system", "popen", "extractall", "extract"}
# What may read a pickle, and how it says that it does not; NumPy does not by default.
LOADS = {"torch.load": ("weights_only", "True", ""), "np.load": ("allow_pickle", "False", "False")}


@pytest.fixture(autouse=True)
def _as_a_user_runs_it(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def faults(code):
    """What in a module's code could run what it reads."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            roots = {name.partition(".")[0] for name in [*names, getattr(node, "module", "") or ""]}
            found += sorted(roots & MODULES)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            name = called.rpartition(".")[2]
            # Of an object these are others: of networks, patterns and programs.
            if name in CALLS and not (name in TEXT and "." in called):
                found.append(called)
            if called in LOADS:
                key, wanted, default = LOADS[called]
                given = {k.arg: ast.unparse(k.value) for k in node.keywords}
                if given.get(key, default) != wanted:
                    found.append(called)
            if any(
                k.arg == "trust_remote_code" and ast.unparse(k.value) != "False"
                for k in node.keywords
            ):
                found.append("trust_remote_code")
            if any(k.arg == "shell" for k in node.keywords):
                found.append("shell")
    return found


def test_nothing_reads_code_out_of_data():
    assert len(SOURCES) > 80
    assert {
        str(file): faults(file.read_text()) for file in SOURCES if faults(file.read_text())
    } == {}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from joblib import load", "import yaml.loader", "eval(text)",
        "torch.load(file)", "torch.load(file, weights_only=False)",
        "np.load(file, allow_pickle=True)",
        "os.system(name)", "archive.extractall()", "load(p, trust_remote_code=1)",
        "f(a, shell=True)", "compile(text, '', 'exec')",
    ],
)  # fmt: skip
def test_that_search_finds_what_it_looks_for(code):
    assert faults(code)


# Checkpoints.


class Harmful:
    """Unpickled, it writes a file."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def test_the_pickle_that_is_tried_here_does_harm(tmp_path):
    pickle.loads(pickle.dumps(Harmful(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()


def bare(file, harm):
    file.write_bytes(pickle.dumps({"fc.weight": harm}))


def zipped(file, harm):
    torch.save({"fc.weight": harm}, file)


def legacy(file, harm):
    torch.save({"fc.weight": harm}, file, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [bare, zipped, legacy])
def test_no_pickle_is_run(tmp_path, write):
    marker = tmp_path / "marker"
    write(tmp_path / "resnet50.pth", Harmful(marker))
    with pytest.raises(
        jd.InputError, match=r"resnet50\.pth can't be read \(.*\); expected a state"
    ):
        jd.load_target(str(tmp_path / "resnet50.pth"))
    assert not marker.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "flax_model.msgpack"])
def test_no_pickle_is_run_under_another_name(tmp_path, name):
    marker = tmp_path / "marker"
    folder = tmp_path / "clip"
    folder.mkdir()
    for file in (NETWORKS / "clip").iterdir():
        if file.name != "model.safetensors":
            (folder / file.name).symlink_to(file)
    bare(folder / name, Harmful(marker))
    with pytest.raises(jd.InputError):
        jd.load_clip(str(folder))
    assert not marker.exists()


def test_an_archive_writes_nothing(tmp_path):
    """Names that lead out of it stay names."""
    file = tmp_path / "in" / "resnet50.pth"
    file.parent.mkdir()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/version", "3\n")
        for name in ("../escaped", "archive/../../escaped", str(tmp_path / "escaped")):
            archive.writestr(name, "x")
    before = set(tmp_path.rglob("*"))
    with pytest.raises(jd.InputError):
        jd.load_target(str(file))
    assert set(tmp_path.rglob("*")) == before


def test_a_tensor_s_name_stays_a_name(tmp_path):
    """Neither a path to write to nor a sequence that steers a terminal."""
    folder = tmp_path / "in" / "target"
    folder.mkdir(parents=True)
    (folder / "config.json").symlink_to(NETWORKS / "target" / "config.json")
    header = {f"../../{tmp_path}/escaped\x1b[2J\r": entry([1], 0, 4)}
    (folder / "model.safetensors").write_bytes(safetensors(header, bytes(4)))
    before = set(tmp_path.rglob("*"))
    with pytest.raises(jd.InputError, match=r"escaped\\x1b\[2J\\r") as refused:
        jd.load_target(str(folder))
    assert str(refused.value).isprintable()
    assert set(tmp_path.rglob("*")) == before


def test_no_code_of_a_checkpoint_is_imported(tmp_path):
    folder, marker = tmp_path / "clip", tmp_path / "marker"
    folder.mkdir()
    for file in (NETWORKS / "clip").iterdir():
        if file.name != "tokenizer_config.json":
            (folder / file.name).symlink_to(file)
    (folder / "own.py").write_text(f"import os\nos.mkdir({str(marker)!r})\nclass Own: ...\n")
    settings = json.loads((NETWORKS / "clip" / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": ["own.Own", "own.Own"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    jd.load_clip(str(folder))
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
CONCEPTS = [
    "=1+1",
    "../../x",
    "<b>x</b>",
    "{{ 7*7 }}",
    "$x^$",
    "@SUM",
    "`id`",
    "a\tb",
    "/tmp/x",
    "%n",
]


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


def inside(folder):
    return set(folder.rglob("*"))


def test_names_and_concepts_form_no_path(tmp_path, monkeypatch):
    """All that a run writes lies in its workdir, under names that are the program's own."""
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
    assert all(len(row) == 10 for row in rows)


def test_one_writer_of_csv_files_lets_no_formula_pass(tmp_path):
    for file in (ROOT / "jaxdesc").rglob("*.py"):
        assert ("csv.writer" in file.read_text()) == (file.name == "place.py"), file
    formulas = ["=1+1", "+1", "-1", "@SUM", "\t=1", "\n=1", "\uff1d1+1"]
    write_rows(tmp_path / "a.csv", ("text", "number"), [(text, -1.5) for text in formulas])
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file))[1:] == [[f"'{text}", "-1.5"] for text in formulas]


def test_a_list_of_skipped_images_holds_no_formula(tmp_path):
    write_skipped(tmp_path, [Skipped(name, "=broken", "folder:x") for name in EVIL])
    with (tmp_path / "skipped.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert len(rows) == len(EVIL)
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))]
    assert {path.name for path in tmp_path.iterdir()} == {"skipped.csv"}


def test_an_image_s_name_stays_text(tmp_path):
    """Whatever bytes a file system holds: in a message, in a list, in JSON."""
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


def test_sources_that_name_what_to_run_are_texts(tmp_path, monkeypatch):
    """Config strings are looked up, never run."""
    monkeypatch.chdir(tmp_path)
    for text in ("$(touch escaped)", "`touch escaped`", "__import__('os').mkdir('escaped')", "|id"):
        for load in (jd.load_target, jd.load_clip, jd.load_sentence_encoder):
            with pytest.raises(jd.InputError, match="does not exist"):
                load(text)
        with pytest.raises(jd.InputError, match="Unknown image source"):
            jd.describe(plain_target(), jd.load_clip("scenes"), images=text, concepts=["a"])
    assert not inside(tmp_path)


def test_the_package_s_own_paths_are_of_its_own_words():
    """No name of an image, a concept or a class stands in what the scripts join to the workdir."""
    for file in (ROOT / "jaxdesc" / "commands").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
                joined = ast.unparse(node)
                if "workdir" in joined or "checkpoints" in joined:
                    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
                    assert names <= {"workdir", "checkpoints", "name"}, f"{file}: {joined}"
    assert Path(ROOT / "jaxdesc" / "commands" / "train_scenes.py").exists()
