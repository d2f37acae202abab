"""The tables script: a run of both methods, and a working directory with a part of one."""

import re

import pytest

CONFIG = """
from ml_collections import ConfigDict
from jaxdesc.commands import configs

def get_config():
    config = configs.load("scenes")
    config.ablation.views = ("centre", "attention")
    config.ablation.probes = ()
    config.ablation.vocabularies = ("scenes", "file:WORDS")
    config.score.exemplars = 2
    return config
"""


@pytest.fixture
def flags(networks, tmp_path):
    (tmp_path / "words.txt").write_text("star\nheart\nsky\n")
    config = tmp_path / "config.py"
    config.write_text(CONFIG.replace("WORDS", str(tmp_path / "words.txt")))
    return {
        "config": config,
        "workdir": tmp_path / "run",
        "quiet": "true",
        "config.target.source": networks.target,
        "config.clip.source": networks.clip,
        "config.evaluation.scorer": networks.clip,
        "config.images.source": "scenes:count=4",
        "config.images.batch": 4,
        "config.clip.batch": 4,
    }


def test_both_methods_are_measured_and_printed(command, flags, tmp_path):
    code, output, error = command("tables", flags)
    assert not code, error
    assert re.search(r"\| WWW +\| cosine +\| scenes ", output)
    assert re.search(r"\| ours +\| t-vMF κ=16 +\| file:.*words.txt ", output)
    assert re.search(r"\| WWW +\| cosine +\| imagenet +\| — ", output)
    assert re.search(r"activate \d+\.\d s \d+\.\d\d GiB", output)
    written = {path.name for path in (tmp_path / "run" / "tables").iterdir()}
    assert written == {
        *(f"table{n}.{kind}" for n in (1, 2) for kind in ("md", "csv", "tex")),
        "differences.csv",
    }
    assert re.search(r"\| attention, t-vMF κ=16 − centre, cosine \| +\| [+-]\d", output)
    rows = (tmp_path / "run" / "ablation.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 2 * 2 * 3  # vocabularies, views, κ, metrics

    # A part of it is printed as far as it goes, without a config.
    (tmp_path / "run" / "ablation.csv").write_text("\n".join(rows[:4]) + "\n")
    neurons = tmp_path / "run" / "ablation_neurons.csv"
    neurons.write_text("\n".join(neurons.read_text().splitlines()[:33]) + "\n")
    code, partial, error = command("tables", {"workdir": tmp_path / "run"})
    assert not code, error
    assert "words.txt" not in partial
    neurons.unlink()
    code, _, error = command("tables", {"workdir": tmp_path / "run"})
    assert (code, error.count("\n")) == (2, 1)
    assert "ablation_neurons.csv does not exist, which holds each neuron's own metrics" in error
    assert partial.splitlines()[-1] == f"tables in {tmp_path / 'run' / 'tables'}"


def test_bad_input_is_one_sentence(command, flags, tmp_path):
    for change, message in (
        (
            {"config.ablation.views": "()"},
            "config.ablation.views or .* is empty: a table needs both",
        ),
        ({"config.ablation.kappas": "()"}, "is empty: a table needs both"),
    ):
        code, output, error = command("tables", flags | change)
        assert (code, output) == (2, "")
        assert re.fullmatch(f"error: .*{message}.*\n", error), error
    for given, message in (
        ({}, "--workdir is missing: say where results are"),
        ({"workdir": tmp_path / "none"}, "ablation.csv does not exist: nothing was measured there"),
    ):
        code, output, error = command("tables", given)
        assert (code, output) == (2, "")
        assert re.fullmatch(f"error: .*{message}.*\n", error), error
