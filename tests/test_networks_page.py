"""Every example of docs/networks.md, run; what it says of the doors and families is so."""

import re
from pathlib import Path

import numpy as np
import pytest
from transformers import ViTImageProcessorPil

import jaxdesc as jd
from jaxdesc.models.architectures import ARCHITECTURES
from jaxdesc.models.convnext import MODEL_TYPES
from jaxdesc.models.dictionary import ACTIVATIONS
from jaxdesc.models.vit_config import FAMILIES as FAMILIES_OF_VIT
from jaxdesc.scenes import NETWORKS
from tests.launch.test_layers import SIZES
from tests.models.bridges.families import FAMILIES
from tests.models.test_dictionary import saev
from tests.models.torch_checkpoints import torch_model
from tests.reference import dictionaries as originals

PAGE = (Path(__file__).parents[1] / "docs" / "networks.md").read_text()
EXAMPLES = dict(re.findall(r"^```python (\w+)\n(.*?)^```", PAGE, re.M | re.S))
LAYERS = {
    "from_torch": ["vit.layers.1.layernorm_before"],
    "from_nnx": ["norm"],
    "from_linen": ["Conv_0"],
    "from_equinox": ["conv"],
    "Target": ["maps", "scaled"],
}


def run(door, **meant):
    """Run an example whose words in capitals mean something here, and return its names."""
    known, code = {"__name__": "example"}, EXAMPLES[door]
    exec(EXAMPLES["setup"], known)
    for word, value in meant.items():
        code = code.replace(f"folder:{word}", str(value)).replace(word, str(value))
    exec(code, known)
    return known


@pytest.mark.parametrize("door", LAYERS)
def test_a_door(door, rng):
    target = run(door)["target"]
    assert list(target.layers) == ["fc", *LAYERS[door]]
    assert target.classes == (("cat",), ("dog",), ("crane", "bird"))
    pixels = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    assert np.isfinite(target.logits(pixels)).all()
    assert target.activations(pixels, LAYERS[door][-1]).shape[0] == 2


def test_a_dictionary(tmp_path, monkeypatch):
    """Of saev's file; saved, it says all about itself."""
    module = originals.filled(originals.Saev(128, 96, "TopK", 8))
    saev(module, tmp_path)
    monkeypatch.chdir(tmp_path)
    code = EXAMPLES["dictionary"].replace('"wordnet"', '["cat", "star"]')
    monkeypatch.setitem(EXAMPLES, "dictionary", code)
    known = run(
        "dictionary",
        SAE=tmp_path / "sae.pt",
        FOLDER=NETWORKS / "clip",
        NAMER="scenes",
        PHOTOS="scenes:count=48",
        WORKDIR=tmp_path / "work",
        REPORT=tmp_path / "report",
    )
    found = known["found"]
    assert len(found) == 96
    assert found[0].layer == "blocks.3/sae"
    assert {"density", "mean", "highest"} <= set(found[7].properties)
    assert (tmp_path / "report" / "units" / "1.js").exists()
    again = jd.load_dictionary("sae.safetensors")
    assert again.coding == known["dictionary"].coding


def test_the_page_names_what_dictionaries_are_read():
    section = PAGE.partition("## A dictionary")[2].partition("## A function")[0]
    for activation in ACTIVATIONS:
        assert f"`{activation}`" in section


def test_a_checkpoint(networks, capsys):
    target = run("load_target", FOLDER=networks.target, PHOTOS="scenes:count=4")["target"]
    assert "layer4" in target.layers
    assert "layer4" in capsys.readouterr().out


def test_the_page_names_every_architecture_and_no_name_that_does_not_load():
    table = re.search(r"^\| architecture .*?\n\n", PAGE, re.M | re.S)[0]
    names = {
        name
        for row in table.strip().splitlines()
        for name in re.findall(r"`(\w+)`", row.split("|")[2])
    }
    for architecture in ARCHITECTURES.values():
        assert names & set(architecture.names)
    assert names <= {name for each in ARCHITECTURES.values() for name in each.names}
    assert names >= {*FAMILIES_OF_VIT, *MODEL_TYPES, "resnet"}


def test_layers_and_units(networks, tmp_path):
    torch_model("ViTForImageClassification", SIZES).save_pretrained(tmp_path / "vit")
    ViTImageProcessorPil(size={"height": 24, "width": 24}).save_pretrained(tmp_path / "vit")
    (tmp_path / "words.txt").write_text("star\nsky\n")
    known = run(
        "layers",
        FOLDER=tmp_path / "vit",
        CLIP=networks.clip,
        PHOTOS="scenes:count=40",
        wordnet=f"file:{tmp_path / 'words.txt'}",
        WORKDIR=tmp_path / "work",
        REPORT=tmp_path / "report",
    )
    found, target = known["found"], known["target"]
    assert {name: len(result) for name, result in found.items()} == {
        "blocks.1": 32,
        "blocks.1/mlp": 32,
    }
    for end in ("", "/mlp", "/attention", "/norm1"):
        assert f"`blocks.3{end}`" in PAGE
        assert f"blocks.1{end}" in target.layers
    for folder in ("", "blocks.1/", "blocks.1~2Fmlp/"):
        assert (tmp_path / "report" / f"{folder}index.html").exists()


def test_classes_by_name(networks, rng):
    target = run("zero_shot", FOLDER=networks.clip)["target"]
    assert target.classes == (("cat",), ("dog",), ("crane", "bird"))
    assert target.layers[0] == "fc"
    pixels = rng.integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)
    assert target.logits(pixels).shape == (2, 3)


def test_the_page_names_every_door_and_the_families_that_are_tested():
    doors = {name for name in jd.__all__ if name.startswith("from_")} | {
        "load_target",
        "zero_shot",
        "Target",
    }
    assert set(EXAMPLES) == {*doors, "setup", "layers", "dictionary"}
    families = re.search(r"bridges`\): (.+?)\.\n", PAGE, re.S)[1]
    assert len(re.split(r",\s", families)) == len(FAMILIES)
