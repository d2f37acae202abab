"""A converted checkpoint is the same network, bit for bit, from any format."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

import jaxdesc as jd
from jaxdesc.models.convert import convert
from jaxdesc.models.resnet import read_folded_resnet
from jaxdesc.scenes import NETWORKS
from tests.models.test_target import (  # noqa: F401 - fixtures
    hugging_face_folder,
    pth,
    reference,
    same,
)
from tests.models.torch_checkpoints import torch_model


@pytest.mark.parametrize("form", ["hugging_face_folder", "pth", "scenes"])
def test_a_target_is_the_same_bit_for_bit(form, request, tmp_path, rng):
    source = str(NETWORKS / "target" if form == "scenes" else request.getfixturevalue(form))
    before, done = jd.load_target(source), convert(source, tmp_path / "out")
    after = jd.load_target(str(tmp_path / "out"))
    assert same(before, after)
    assert (before.classes, before.preprocess) == (after.classes, after.preprocess)
    assert not list((tmp_path / "out").glob("*.safetensors"))
    # As the checkpoint holds it: on a CPU, Winograd's kernels are made when it is loaded.
    parameters = nnx.state(read_folded_resnet(Path(source)))
    count = sum(leaf.size for leaf in jax.tree.leaves(parameters))
    assert done == ("target", source, count)
    assert json.loads((tmp_path / "out" / "converted.json").read_text()) == {"source": source}
    pixels = rng.normal(size=(2, 40, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(before.logits(pixels), after.logits(pixels))


VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 32}
CONVNEXT = {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1]}


@pytest.mark.parametrize(
    ("name", "entries"),
    [("ViTForImageClassification", VIT), ("ConvNextForImageClassification", CONVNEXT)],
)
def test_a_target_of_any_architecture(name, entries, tmp_path):
    torch_model(name, entries).save_pretrained(tmp_path / "net")
    assert convert(tmp_path / "net", tmp_path / "out").kind == "target"
    before, after = jd.load_target(tmp_path / "net"), jd.load_target(tmp_path / "out")
    assert same(before, after)
    assert before.fingerprint == after.fingerprint
    assert not list((tmp_path / "out").glob("*.safetensors"))


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted") / "clip"
    assert convert(str(NETWORKS / "clip"), folder).kind == "name encoder"
    return folder


def test_a_clip_is_the_same_bit_for_bit(converted, tmp_path):
    """Also if it is converted twice."""
    convert(str(converted), tmp_path / "again")
    before, after = jd.load_clip("scenes"), jd.load_clip(str(tmp_path / "again"))
    assert same(before, after)
    assert before.fingerprint == after.fingerprint
    texts = ["a star", "A photo of a moth"]
    np.testing.assert_array_equal(before.encode_texts(texts), after.encode_texts(texts))


def test_arrays_of_another_network_are_refused(converted, tmp_path):
    folder = shutil.copytree(converted, tmp_path / "clip")
    entries = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(entries | {"projection_dim": 64}))
    message = (
        "orbax does not fit the CLIP that its config.json describes: misshapen tensors: text_pr"
    )
    with pytest.raises(jd.InputError, match=message):
        jd.load_clip(str(folder))


def test_a_failure_leaves_nothing_behind_that_would_be_read(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jaxdesc.models.convert.write_orbax", fail)
    with pytest.raises(jd.InputError, match=r"can't be written \(No space left on device\)"):
        convert(str(NETWORKS / "target"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    convert(str(NETWORKS / "target"), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
