"""The script that converts checkpoints: what it prints, and what it refuses."""

import sys

import jax
import pytest
from absl.testing import flagsaver
from flax import nnx

import jaxdesc as jd
from jaxdesc.models.formats import read_folded_resnet
from jaxdesc.scenes import NETWORKS
from launch import command, convert


@pytest.fixture
def run(monkeypatch, capsys):
    """The script as it runs from a shell, but in this process: (exit code, stdout, stderr)."""

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["convert", *flags])
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
            command.run(convert.main)
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run


def test_it_converts_and_tells_what(run, tmp_path):
    source, output = NETWORKS / "target", tmp_path / "out"
    code, printed, error = run(f"--source={source}", f"--output={output}")
    assert not code, error
    target = jd.load_target(str(output))
    parameters = nnx.state(read_folded_resnet(source))
    count = sum(leaf.size for leaf in jax.tree.leaves(parameters))
    assert printed == f"{source}: a target of {count:,} parameters, now in {output}\n"
    assert target.classes == jd.load_target("scenes").classes


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "error: --source and --output are needed: what to convert, and where to.\n"),
        (["--output=x"], "error: --source and --output are needed"),
        (["--source=/none", "--output=x"], "error: The network folder '/none' does not exist"),
        (["--source=scenes", "--output=/"], "error: The network folder 'scenes' does not exist"),
        (["--source=/", "--output=x", "--revision=v1"], "error: The network '/' is a local path"),
    ],
)
def test_bad_flags_are_one_sentence(run, flags, message):
    code, printed, error = run(*flags)
    assert (code, printed, error.count("\n")) == (2, "", 1)
    assert error.startswith(message)
