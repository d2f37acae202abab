"""The sweep script: its files, a second start, and what it refuses."""

import csv
import re

import pytest
from PIL import Image

CONFIG = """
from ml_collections import ConfigDict
from jaxdesc.commands import configs

def get_config():
    config = configs.load("scenes")
    config.ablation.probes = ("scenes:count=5", "scenes:count=5,seed=1")
    config.ablation.views, config.ablation.kappas = (), ()
    config.images.source = config.ablation.probes[0]
    config.score.exemplars = 3
    return config
"""
LISTS = {"kappa": "0,4", "alpha": "0.5,0.9", "exemplars": "1,3"}


@pytest.fixture
def flags(networks, tmp_path):
    config, words = tmp_path / "config.py", tmp_path / "words.txt"
    config.write_text(CONFIG)
    words.write_text("star\nheart\nsky\ncat\nmoon\n")
    return {
        "config": config,
        "workdir": tmp_path / "run",
        "quiet": "true",
        "config.target.source": networks.target,
        "config.clip.source": networks.clip,
        "config.evaluation.scorer": networks.clip,
        "config.vocabulary.source": f"file:{words}",
        "config.images.batch": 4,
        "config.clip.batch": 4,
    }


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_sweep_and_what_a_second_start_finds(command, flags):
    workdir = flags["workdir"]
    code, output, error = command("sweep", flags | LISTS)
    assert not code, error
    assert f"16 cells in {workdir}: sweep.csv, sweep.png, sweep.svg" in output
    assert re.search(r"\| attention +\| +4 +\| +0\.9 +\| +3 ", output)
    assert re.search(r"embed \d+\.\d s .*sweep \d+\.\d s", output)
    first = read(workdir / "sweep.csv")
    assert len(first) == 16 * 3  # cells, metrics
    assert {row["probe"] for row in first} == {"scenes:count=5", "scenes:count=5,seed=1"}
    with Image.open(workdir / "sweep.png") as picture:
        assert picture.format == "PNG"
    names = ("sweep.csv", "sweep.png", "sweep.svg")
    before = {name: (workdir / name).read_bytes() for name in names}
    assert (workdir / "skipped.csv").exists()

    code, output, error = command("sweep", flags | LISTS)
    assert not code, error
    assert "all done before" in output
    assert {name: (workdir / name).read_bytes() for name in names} == before

    code, output, error = command("sweep", flags | LISTS | {"kappa": "0,4,16", "exemplars": "2"})
    assert not code, error
    assert f"12 cells in {workdir}: sweep-2.csv, sweep-2.png, sweep-2.svg" in output
    rows = read(workdir / "sweep-2.csv")
    assert {(row["kappa"], row["exemplars"]) for row in rows} == {
        (kappa, "2") for kappa in ("0.0", "4.0", "16.0")
    }
    assert {name: (workdir / name).read_bytes() for name in names} == before

    # The working directory belongs to the config, and a plain run shares its networks' output.
    code, output, error = command("describe", flags)
    assert not code, error
    assert re.search(
        r"\(score \d+\.\d s [^,]*, certainty \d+\.\d s [^,]*, evaluate \d+\.\d s [^,]*\)", output
    )
    code, output, error = command("sweep", flags | LISTS | {"config.crop.field": 0.5})
    assert (code, output) == (2, "")
    assert "holds a run with another config (crop.field: 0.65 -> 0.5)" in error


def test_what_is_not_swept_is_the_configs_own(command, flags):
    code, output, error = command("sweep", flags | {"views": "centre,random"})
    assert not code, error
    assert output.count("| random ") == 1
    rows = read(flags["workdir"] / "sweep.csv")
    assert {(r["view"], r["kappa"], r["alpha"], r["exemplars"]) for r in rows} == {
        (view, "16.0", "0.95", "3") for view in ("centre", "random")
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kappa": "0,-1"}, r"kappa is -1\.0: expected a number in \[0, 1e\+06\]"),
        ({"kappa": "0,,4"}, r"--kappa=0,,4 can't be read: expected numbers between commas"),
        (
            {"exemplars": "1,2.5"},
            r"--exemplars=1,2\.5 can't be read: expected whole numbers between commas",
        ),
        (
            {"exemplars": "2,6"},
            r"exemplars is 6, but scenes:.*count=5.* holds only 5 images: ask for at most",
        ),
        (
            {"config.target.layer": "layer4"},
            r"A sweep compares metrics, but the neurons of layer 'layer4' have no known names",
        ),
    ],
)
def test_bad_input_is_one_sentence(command, flags, change, message):
    code, output, error = command("sweep", flags | LISTS | change)
    assert (code, output) == (2, ""), error
    assert re.fullmatch(f"error: .*{message}.*\n", error), error
    assert not list(flags["workdir"].glob("artifacts/*"))
