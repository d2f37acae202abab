"""The wheel: it installs one package and its command, which runs in any folder."""

import csv
import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT

# Inputs of a build, which writes its own files next to them.
SOURCES = ("jaxdesc", "configs", "launch", "pyproject.toml", "setup.py", "README.md", "LICENSE")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
ALONE = ["--no-deps", "--no-index"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with nothing but the installed wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    source, wheels, site = folder / "source", folder / "wheels", folder / "site"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, source / name)
    build = [*PIP, "wheel", *ALONE, "--no-build-isolation", "--wheel-dir", wheels, source]
    subprocess.run(build, check=True, capture_output=True)
    install = [*PIP, "install", *ALONE, "--no-compile", "--target", site, *wheels.iterdir()]
    subprocess.run(install, check=True, capture_output=True)
    return site


def test_it_puts_one_package_there(site):
    names = {path.name for path in site.iterdir()} - {"bin"}
    assert {name for name in names if not name.endswith(".dist-info")} == {"jaxdesc"}
    assert [path.name for path in (site / "bin").iterdir()] == ["jaxdesc"]
    installed = {str(path.relative_to(site)) for path in (site / "jaxdesc").rglob("*.*")}
    files = [*(ROOT / "jaxdesc").rglob("*.*"), *(ROOT / "configs").glob("*.py")]
    ours = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    assert {name.replace("jaxdesc/configs", "configs") for name in installed} == ours


@pytest.mark.full
def test_its_command_runs_in_any_folder(site, tmp_path):
    """The config is found by name; the output is ASCII; the results are in the home directory."""
    (tmp_path / "words.txt").write_text("star\nheart\nsky\n")
    done = subprocess.run(
        [
            *(site / "bin" / "jaxdesc", "describe", "--config=scenes", "--workdir=~/out"),
            *("--config.ablation.views=()", "--config.images.source=scenes:count=4", "--quiet"),
            *("--config.score.exemplars=2", "--config.vocabulary.source=file:~/words.txt"),
            "--config.crop.view=centre",
        ],
        env=os.environ
        | {
            "PYTHONPATH": str(site),
            "PYTHONSAFEPATH": "1",
            "PYTHONIOENCODING": "ascii",
            "HOME": str(tmp_path),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",  # compiles sooner
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"results in {tmp_path / 'out'}: concepts.csv" in done.stdout
    assert r"\xb1" in done.stdout  # ±
    with (tmp_path / "out" / "concepts.csv").open(encoding="utf-8", newline="") as file:
        assert {row["concept"] for row in csv.DictReader(file)} <= {"star", "heart", "sky"}
    assert not (tmp_path / "~").exists()
