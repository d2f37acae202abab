"""The convert script: its output, and bad input."""

import jax
from flax import nnx

import jaxdesc as jd
from jaxdesc.models.formats import read_folded_resnet
from jaxdesc.scenes import NETWORKS


def test_it_converts_and_says_what(command, tmp_path):
    source, output = NETWORKS / "target", tmp_path / "out"
    code, printed, error = command("convert", {"source": source, "output": output})
    assert not code, error
    target = jd.load_target(str(output))
    parameters = nnx.state(read_folded_resnet(source))
    count = sum(leaf.size for leaf in jax.tree.leaves(parameters))
    assert printed == f"{source}: a target of {count:,} parameters, now in {output}\n"
    assert target.classes == jd.load_target("scenes").classes


def test_bad_flags_are_one_sentence(command):
    for flags, message in (
        (["--output=x"], "error: --source and --output are needed: what to convert, and where to."),
        (["--source=/none", "--output=x"], "error: The network folder '/none' does not exist"),
        (["--source=/", "--output=x", "--revision=v1"], "error: The network '/' is a local path"),
    ):
        code, printed, error = command("convert", {}, *flags)
        assert (code, printed, error.count("\n")) == (2, "", 1)
        assert error.startswith(message)
