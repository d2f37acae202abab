"""The command line: its commands, their help, and bad input."""

import json
import os
import runpy
import subprocess
import sys

import jax
import pytest

from jaxdesc.benchmark.subjects import SUBJECTS, Subject
from jaxdesc.commands import cli, configs, convert, flags
from jaxdesc.config import Config
from tests.conftest import ROOT


def python(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        env=os.environ | environment, cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


LISTING = """
import json, sys
from jaxdesc.commands import cli
cli.main(["--help"])
print(json.dumps(sorted(sys.modules)))
"""


def test_the_commands_are_listed_without_importing_them():
    done = python("-c", LISTING, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    *lines, modules = done.stdout.splitlines()
    listed = {line.split()[0]: line for line in lines if line.startswith("  ")}
    assert list(listed) == list(cli.COMMANDS)
    assert all(len(line.split()) > 3 for line in listed.values())
    assert r"Measure a layer for every \u03ba" in listed["sweep"]  # in ASCII
    imported = set(json.loads(modules))
    assert not imported & {"jax", "numpy", "absl"}
    for folder in (ROOT / "launch", ROOT / "jaxdesc" / "commands"):
        assert {path.stem for path in folder.glob("*.py")} >= set(cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help(name, capsys, monkeypatch):
    cli.main([name, "--help"])
    text, error = capsys.readouterr()
    assert error == ""
    assert f"\n    jaxdesc {name} --" in text
    module = sys.modules[f"jaxdesc.commands.{name}"]
    for flag in module.FLAGS:
        assert f"  --{flag.name}" in text.replace("--[no]", "--")
    assert "--verbosity" not in text  # absl's own
    takes_config = "config" in [flag.name for flag in module.FLAGS]
    assert takes_config == (name in ("describe", "sweep", "tables", "plan"))
    assert ("  score.kappa = 16.0\n        parameter of the similarity" in text) == takes_config
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "-h"])
    runpy.run_module(f"launch.{name}", run_name="__main__")
    assert capsys.readouterr().out == text.replace(f"jaxdesc {name} ", f"python -m launch.{name} ")


def test_every_option_of_the_config_is_explained():
    found = {path: (default, meaning) for path, default, meaning in flags.options(Config)}
    keys = [
        f"{section}.{key}" if key else section
        for section, values in Config().to_dict().items()
        for key in (values if isinstance(values, dict) else [""])
    ]
    assert list(found) == keys
    assert all(len(meaning) > 10 for _, meaning in found.values())
    meaning = "concept sensitivity α in (0, 1]; concepts above α × the best score are kept."
    assert found["score.alpha"] == (0.95, meaning)


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    output, error = capsys.readouterr()
    assert (ended.value.code, output, error.count("\n")) == (2, "", 1), error
    return error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["descirbe"], "Unknown command 'descirbe': did you mean describe?"),
        (["--workdir=x"], "Unknown command '--workdir=x': expected one of describe, sweep, "),
        (["compare", "--config=x"], "jaxdesc compare has no flag --config: expected one of --work"),
        (["compare", "--config.score.kappa=1"], "compare has no flag --config.score.kappa: expe"),
        (["describe", "--wrkdir=x"], "jaxdesc describe has no flag --wrkdir: did you mean --work"),
        (["report", "--workdir=x", "--neurons=1"], "--neurons means nothing without --figures: "),
        (["tables", "--config.score.kappa=1"], "--config is missing: expected one of paper, photo"),
        (
            ["benchmark", "--subjects=disk", "--photos=x"],
            "--photos means nothing to --subjects=",
        ),
        (["report", "--figures", "--neurons="], "--neurons is empty: give it a value, or leave"),
        (["sweep", "--kappa", ""], "--kappa is empty: give it a value, or leave it out."),
        (["benchmark", "--kappa="], "flag --kappa=: "),
        (["train_scenes"], "--workdir is missing: say where checkpoints and networks go."),
    ],
)
def test_bad_input_is_one_sentence(arguments, message, capsys):
    assert message in refused(capsys, *arguments)


def test_the_home_directory_is_expanded(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text("def get_config(): return 3")
    assert f"error: {tmp_path}/run holds no results" in refused(capsys, "report", "--workdir=~/run")
    assert " gave 3: expected a " in refused(capsys, "describe", "--config=~/mine.py")
    error = refused(capsys, "tables", "--workdir=~/run")
    assert error.startswith(f"error: {tmp_path}/run/ablation.csv does not exist")


def test_configs_are_found_by_name_and_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for spec in ("scenes", "scenes:hard", "configs/scenes.py", f"{ROOT}/configs/scenes.py"):
        assert configs.load(spec).crop.field == 0.65
    assert configs.load("scenes:wide").crop.field == 0.875
    # The user's config begins with a shipped one; overrides have either form.
    (tmp_path / "mine.py").write_text(
        "from jaxdesc.commands import configs\n"
        "def get_config(field='0.5'):\n"
        "    config = configs.load('scenes')\n"
        "    config.crop.field = float(field)\n"
        "    return config\n"
    )
    assert configs.load("mine.py").crop.field == 0.5
    found = configs.load("mine.py:0.25", ["--config.score.kappa", "4", "--config.crop.seed=7"])
    assert (found.crop.field, found.score.kappa, found.crop.seed) == (0.25, 4.0, 7)
    paper = configs.load("paper")
    assert (paper.vocabulary.compat, paper.target.classes) == ("www", "imagenet")


def test_a_second_benchmark_replaces_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(SUBJECTS, "scoring", Subject(lambda options: [], ()))
    for name in ("b", "b-2", "b-3"):
        with pytest.raises(SystemExit):
            cli.main(["benchmark", f"--output={tmp_path}/b.json"])
        assert f"tables in {tmp_path}/{name}.json and {name}.md" in capsys.readouterr().out
        assert (tmp_path / f"{name}.json").exists()


def test_a_full_device_is_a_sentence(monkeypatch, capsys):
    def fill(*arguments, **options):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    monkeypatch.setattr(convert, "convert", fill)
    error = refused(capsys, "convert", "--source=a", "--output=b")
    assert "memory is full (RESOURCE_EXHAUSTED: Out of memory" in error
    assert "lower config.images.batch" in error


@pytest.mark.full
def test_a_device_that_is_not_there_is_a_sentence(tmp_path):
    source = ROOT / "jaxdesc" / "scenes" / "networks" / "target"
    arguments = ("-m", "launch.convert", f"--source={source}", f"--output={tmp_path / 'out'}")
    done = python(*arguments, JAX_PLATFORMS="cuda")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: JAX has no device for JAX_PLATFORMS=cuda (")
    assert line.endswith("or set JAX_PLATFORMS=cpu.")
