"""The compare script: after a run, its files, and bad input."""

import csv

from jaxdesc.config import Config
from jaxdesc.evaluation.methods import METHODS
from jaxdesc.report import files
from jaxdesc.result import Neuron, Result
from jaxdesc.store import Place

CONFIG = """
from ml_collections import ConfigDict
from jaxdesc.commands import configs

def get_config():
    config = configs.load("scenes")
    config.ablation.probes, config.ablation.views, config.ablation.kappas = (), (), ()
    config.images.source = "scenes:count=100"
    config.score.exemplars = 3
    return config
"""


def test_a_finished_run_is_compared(command, networks, tmp_path):
    config, words, workdir = tmp_path / "config.py", tmp_path / "words.txt", tmp_path / "run"
    config.write_text(CONFIG)
    words.write_text("star\nheart\nsky\ncat\nmoon\n")
    common = {"workdir": workdir, "quiet": "true"}
    code, _, error = command(
        "describe",
        common
        | {
            "config": config,
            "config.target.source": networks.target,
            "config.clip.source": networks.clip,
            "config.evaluation.scorer": networks.clip,
            "config.vocabulary.source": f"file:{words}",
        },
    )
    assert not code, error
    before = {path.name: path.read_bytes() for path in workdir.iterdir() if path.is_file()}
    code, output, error = command("compare", common)
    assert not code, error
    assert (workdir / "compare.md").read_text(encoding="utf-8") in output
    assert f"methods compared in {workdir}: compare.csv, compare.md, certainty.csv" in output
    assert "activate" not in output  # it was read
    with (workdir / "compare.csv").open(newline="") as file:
        assert [row["method"] for row in csv.DictReader(file)] == list(METHODS)
    with (workdir / "certainty.csv").open(newline="") as file:
        certain = [(row["unit"], row["concept"]) for row in csv.DictReader(file)]
    with (workdir / "concepts.csv").open(newline="") as file:
        assert [(row["unit"], row["concept"]) for row in csv.DictReader(file)] == certain
    # The run's files have not changed.
    assert before == {name: (workdir / name).read_bytes() for name in before}


def test_bad_input_is_one_sentence(command, networks, tmp_path):
    config = Config.from_dict(
        {
            "target": {"source": str(networks.target), "layer": "layer4"},
            "images": {"source": "scenes:count=64"},
            "clip": {"source": str(networks.clip)},
            "vocabulary": {"source": "scenes"},
        }
    )
    neurons = (Neuron("layer4", 0, (("star", 0.5),), 0.5, 0.475, ()),)
    files.write(Place(tmp_path / "layer4"), config, Result(neurons))
    for workdir, message in (
        (None, "--workdir is missing: say where results are"),
        (tmp_path, "holds no results: run describe with this --workdir"),
        (tmp_path / "layer4", "neurons of layer 'layer4' have no known names: use"),
    ):
        code, output, error = command("compare", {"workdir": workdir})
        assert (code, output, error.count("\n")) == (2, "", 1)
        assert error.startswith("error: ")
        assert message in error
    assert not (tmp_path / "layer4" / "compare.csv").exists()
