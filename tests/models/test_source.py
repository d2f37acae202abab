"""Sources of networks: local paths, and Hugging Face's cache as it is on the disk."""

import shutil
import socket
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

import jaxdesc as jd
from jaxdesc.commands.inputs import _pinned
from jaxdesc.config import Config, EvaluationConfig, TargetConfig
from jaxdesc.images.sources import open_source
from jaxdesc.models.source import locate
from jaxdesc.scenes import NETWORKS
from jaxdesc.stages.run import Inputs, Run
from jaxdesc.store import Store
from jaxdesc.vocabulary.vocabulary import load_vocabulary
from tests.models.test_clip import FLAX
from tests.models.test_target import same

OLD, NEW = "0" * 39 + "1", "0" * 39 + "2"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and no network at all."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def refuse(*arguments):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return folder


def add(cache, commit, identifier="o/n", branch="main"):
    """Cache the embedded world's target as huggingface_hub does: blobs, links, and a branch."""
    place = cache / f"models--{identifier.replace('/', '--')}"
    snapshot = place / "snapshots" / commit
    for folder in (snapshot, place / "blobs", place / "refs"):
        folder.mkdir(parents=True, exist_ok=True)
    for file in (NETWORKS / "target").iterdir():
        blob = place / "blobs" / f"{commit}-{file.name}"
        shutil.copyfile(file, blob)
        (snapshot / file.name).symlink_to(blob)
    (place / "refs" / branch).parent.mkdir(parents=True, exist_ok=True)
    (place / "refs" / branch).write_text(commit)


def test_an_id_is_found_and_its_name_tells_the_commit(cache):
    add(cache, NEW, "timm/resnet50.tv_in1k")
    target = jd.load_target("timm/resnet50.tv_in1k")
    assert target.name == f"timm/resnet50.tv_in1k@{NEW}"
    assert same(target, jd.load_target("scenes"))
    assert target.classes == jd.load_target("scenes").classes
    again = jd.load_target(target.name)
    assert again.name == target.name
    assert same(again, target)


def test_a_revision_is_a_branch_or_a_commit(cache):
    add(cache, OLD, branch="refs/pr/3")
    add(cache, NEW)
    for source, revision, commit in (
        ("o/n", None, NEW),
        ("o/n", "", NEW),
        ("o/n", "main", NEW),
        ("o/n", "refs/pr/3", OLD),
        ("o/n@refs/pr/3", None, OLD),
        ("o/n", OLD, OLD),
        (f"o/n@{OLD}", None, OLD),
        (f"o/n@{OLD}", OLD, OLD),
    ):
        assert locate(source, "target", revision).name == f"o/n@{commit}"


FORMATS = ["model.safetensors", "flax_model.msgpack", "pytorch_model.bin"]


@pytest.mark.parametrize("kept", FORMATS)
def test_only_what_is_read_is_downloaded(monkeypatch, tmp_path, kept):
    """One of the formats that a repository holds, a pickle if there is nothing else."""
    asked = []
    there = ["config.json", "README.md", "tf_model.h5", "merges.txt", kept, FORMATS[-1]]
    folder = tmp_path / NEW
    folder.mkdir()

    def download(identifier, *, revision, allow_patterns):
        asked.append((identifier, revision))
        for name in there:
            if any(fnmatchcase(name, pattern) for pattern in allow_patterns):
                shutil.copyfile(FLAX / "config.json", folder / name)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert locate("o/n", "clip", "main").name == f"o/n@{NEW}"
    assert {path.name for path in folder.iterdir()} == {"config.json", "merges.txt", kept}
    assert asked == [("o/n", "main"), *[("o/n", NEW)] * FORMATS.index(kept)]


def test_a_path_is_local(cache, tmp_path, monkeypatch):
    """A folder that exists comes before an id; a path object is never one. ~ is the home."""
    add(cache, NEW)
    shutil.copytree(NETWORKS / "target", tmp_path / "mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    for source in (tmp_path / "mine", Path("~/mine"), "~/mine"):
        target = jd.load_target(source)
        assert target.name == str(source)
        assert same(target, jd.load_target("scenes"))
    for other in (Path("o/n"), Path("scenes")):
        with pytest.raises(jd.InputError, match=rf"target folder '{other}' does not exist"):
            jd.load_target(other)
    (tmp_path / "o").mkdir()
    (tmp_path / "mine").rename(tmp_path / "o" / "n")
    monkeypatch.chdir(tmp_path)
    assert locate("o/n", "target").name == "o/n"


def test_a_source_that_is_neither_id_nor_folder_is_refused(cache):
    for source in ("", "~nobody", "a/b/c", "../a", "a/b..c", "a--b/c", "ä/b", "a/b\n"):
        with pytest.raises(jd.InputError, match=r"^The target folder .* does not exist: give a"):
            jd.load_target(source)
    assert not list(cache.iterdir())


def test_a_revision_can_t_leave_the_cache(cache):
    add(cache, NEW)
    (cache / "secret").write_text(NEW)
    for revision in ("../../../secret", "a/../b", "/etc/passwd", "-x"):
        for source, given in (("o/n", revision), (f"o/n@{revision}", None)):
            with pytest.raises(jd.InputError, match=r"^The revision .* can't be one: give a b"):
                jd.load_target(source, revision=given)


def test_another_network_of_the_embedded_world():
    target = jd.load_target("scenes:attributes")
    assert (target.name, target.logit_count) == ("scenes:attributes", 60)
    for unknown in ("scenes:other", "scenes:../target", "scenes:"):
        with pytest.raises(jd.InputError, match="scenes:NAME with NAME one of attributes, clip, "):
            jd.load_target(unknown)


def test_names_are_in_the_result_s_config(tmp_path):
    """A network of an id: its commit is what a run's config says."""
    config = Config(target=TargetConfig(source="o/n", revision="main"))
    clip = jd.load_clip("scenes")
    target = replace(jd.load_target("scenes"), name=f"o/n@{NEW}")
    source, words = open_source("scenes:count=1"), load_vocabulary(["a"])
    for classes, scorer in ((target.classes, "scenes"), ((), config.evaluation.scorer)):
        opened = Inputs(replace(target, classes=classes), clip, source, words, clip)
        pinned = _pinned(Run(config, opened, Store(tmp_path / "run")))
        assert pinned.target == TargetConfig(source=f"o/n@{NEW}", pooling="mean")
        assert pinned.clip.source == "scenes"
        # A judge that was not loaded keeps its id.
        assert pinned.evaluation == EvaluationConfig(scorer=scorer)
