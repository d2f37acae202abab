"""Every example of docs/networks.md, run; what it says of the doors and families is so."""

import re
from pathlib import Path

import numpy as np
import pytest

import jaxdesc as jd
from jaxdesc.models.architectures import ARCHITECTURES
from jaxdesc.models.convnext import MODEL_TYPES
from jaxdesc.models.vit_config import FAMILIES as FAMILIES_OF_VIT
from tests.models.bridges.families import FAMILIES

PAGE = (Path(__file__).parents[1] / "docs" / "networks.md").read_text()
EXAMPLES = dict(re.findall(r"^```python (\w+)\n(.*?)^```", PAGE, re.M | re.S))
LAYERS = {
    "from_torch": ["vit.layers.1.layernorm_before"],
    "from_nnx": ["norm"],
    "from_linen": ["Conv_0"],
    "from_equinox": ["conv"],
    "Target": ["maps", "scaled"],
}


def run(door, written="", meant=""):
    known = {"__name__": "example"}
    exec(EXAMPLES["setup"], known)
    exec(EXAMPLES[door].replace("FOLDER", str(written)).replace("folder:PHOTOS", meant), known)
    return known["target"]


@pytest.mark.parametrize("door", LAYERS)
def test_a_door(door, rng):
    target = run(door)
    assert list(target.layers) == ["fc", *LAYERS[door]]
    assert target.classes == (("cat",), ("dog",), ("crane", "bird"))
    pixels = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    assert np.isfinite(target.logits(pixels)).all()
    assert target.activations(pixels, LAYERS[door][-1]).shape[0] == 2


def test_a_checkpoint(networks, capsys):
    target = run("load_target", networks.target, "scenes:count=4")
    assert "layer4" in target.layers
    assert "layer4" in capsys.readouterr().out


def test_the_page_names_every_architecture_and_no_name_that_does_not_load():
    table = re.search(r"^\| architecture .*?\n\n", PAGE, re.M | re.S)[0]
    names = {
        name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[2])
    }
    for architecture in ARCHITECTURES.values():
        assert names & set(architecture.names)
    assert names <= {name for each in ARCHITECTURES.values() for name in each.names}
    assert names >= {*FAMILIES_OF_VIT, *MODEL_TYPES, "resnet"}


def test_the_page_names_every_door_and_the_families_that_are_tested():
    doors = {name for name in jd.__all__ if name.startswith("from_")} | {"load_target", "Target"}
    assert set(EXAMPLES) == {*doors, "setup"}
    families = re.search(r"bridges`\): (.+?)\.\n", PAGE, re.S)[1]
    assert len(re.split(r",\s", families)) == len(FAMILIES)
