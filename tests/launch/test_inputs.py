"""The inputs of a run: compiled programs that it keeps, judges, stated preprocessing."""

import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import jax
import pytest

from jaxdesc.commands import inputs
from jaxdesc.config import Config, TargetConfig
from jaxdesc.errors import InputError
from jaxdesc.models.architectures import load_target
from jaxdesc.models.namers import load_namer
from jaxdesc.store import Place as Workdir
from jaxdesc.store import Processes
from tests.conftest import ROOT
from tests.faults.place import Place


def test_compiled_programs_are_kept_where_jax_says_or_in_the_workdir(tmp_path, monkeypatch):
    settings = {}
    monkeypatch.setattr(jax.config, "update", settings.__setitem__)
    for named, folder in (("mine", "mine"), ("", "run/compilation_cache")):
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", named and str(tmp_path / named))
        inputs.keep_programs(Workdir(tmp_path / "run"))
        assert settings["jax_compilation_cache_dir"] == str(tmp_path / folder)
    assert settings["jax_persistent_cache_min_compile_time_secs"] == 0
    inputs.keep_programs(Workdir(tmp_path / "run"), Processes(1, 2))  # it only reads
    assert settings["jax_persistent_cache_min_compile_time_secs"] == math.inf


@pytest.mark.full
def test_a_second_start_compiles_nothing_again(networks, tmp_path):
    """Both print when their first batch was done, and how idle the device was."""
    (tmp_path / "words.txt").write_text("star\nsky\n")
    flags = {
        "config": "photos",
        "workdir": tmp_path / "run",
        "quiet": "true",
        "config.target.source": networks.target,
        "config.clip.source": networks.clip,
        "config.images.source": "scenes:count=5",
        "config.vocabulary.source": f"file:{tmp_path / 'words.txt'}",
        "config.score.exemplars": 3,
    }
    command = [sys.executable, "-m", "launch.describe", *(f"--{k}={v}" for k, v in flags.items())]
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    kept = []
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert re.search(r"GiB \(device idle \d+%\).*, first batch after \d+\.\d s\n", done.stdout)
        kept.append({p.name for p in (tmp_path / "run" / "compilation_cache").glob("*-cache")})
        shutil.rmtree(tmp_path / "run" / "artifacts")
    assert kept[0]
    assert kept[0] == kept[1]


def test_the_judge_is_float32_at_any_precision(networks):
    for precision in ("float32", "bfloat16"):
        clip = load_namer(str(networks.clip), precision=precision)
        for named in ("", clip.name):
            judges = {"scorer": named, "sentence": ""}
            config = Config.from_dict({"precision": precision, "evaluation": judges})
            scorer = inputs.open_judges(config, clip)["scorer"]
            assert {leaf.dtype.name for leaf in jax.tree.leaves(scorer.params)} == {"float32"}
            assert (scorer is clip) == (precision == "float32")
            assert scorer.name == clip.name


@pytest.mark.parametrize("layers", [("fc",), ("layer4/sae", "layer3/sae")])
def test_a_dictionary_is_of_one_layer(layers):
    options = TargetConfig(source="scenes", layers=layers, dictionary="sae.safetensors")
    with pytest.raises(InputError, match="name the layer that it reads, with /sae behind"):
        inputs.open_target(Config(target=options))


def test_a_stated_preprocessing_reaches_the_networks(tmp_path, monkeypatch, capsys):
    """The run's networks, and the judge if it is the run's CLIP."""
    seen = []
    target, clip = load_target("scenes"), replace(load_namer("scenes"), name="a@1")

    def loading(network):
        def load(source, *, preprocess="", **_):
            seen.append(preprocess)
            if network is None:
                raise InputError("That is enough.")
            return network

        return load

    monkeypatch.setattr(inputs, "load_target", loading(target))
    monkeypatch.setattr(inputs, "load_namer", loading(None))
    stated = {"target": "imagenet_v2", "clip": "openai"}
    flags = [f"--config.{kind}.preprocess={name}" for kind, name in stated.items()]
    scenes = f"--config={ROOT / 'configs' / 'scenes.py'}"
    with pytest.raises(InputError, match=r"^That is enough\.$"):
        Place(tmp_path, monkeypatch, capsys).launch(
            "describe", scenes, f"--workdir={tmp_path / 'run'}", *flags
        )
    assert seen == ["imagenet_v2", "openai"]
    monkeypatch.setattr(inputs, "load_namer", loading(clip))
    for scorer in ("", "a@1", "a", "b"):
        values = {"clip": {"source": "a", "preprocess": "openai"}, "precision": "bfloat16"}
        config = Config.from_dict(values | {"evaluation": {"scorer": scorer, "sentence": ""}})
        inputs.open_judges(config, clip)
    assert seen[2:] == ["openai", "openai", "openai", ""]
