"""The explain script: an image, a run, and bad input."""

import json
import re

import pytest

from jaxdesc.config import Config, ImagesConfig, TargetConfig
from jaxdesc.images.sources import open_source
from jaxdesc.report import files
from jaxdesc.result import Neuron, Result
from jaxdesc.store import Place

NEURONS = 128  # of layer4


def write(workdir, networks, layer):
    config = Config(
        target=TargetConfig(source=str(networks.target), layer=layer),
        images=ImagesConfig(source="scenes:count=64"),
    )
    found = tuple(
        Neuron(layer, unit, ((f"thing {unit}", 0.5),), 0.5, 0.475, ()) for unit in range(NEURONS)
    )
    files.write(Place(workdir), config, Result(found))
    return workdir


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "a star <&.png"
    open_source("scenes:count=2")[1].image.save(path)
    return path


def test_an_image_is_explained(command, networks, image, tmp_path):
    workdir = write(tmp_path / "run", networks, "layer4")
    flags = {"workdir": workdir, "image": image}
    code, output, error = command("explain", flags | {"peers": 2, "foremost": 4})
    assert not code, error
    text, last = output.rsplit("}\n", 1)
    found = json.loads(text + "}")
    assert len(found["neurons"]) == 4
    for neuron in found["neurons"]:
        assert neuron["concepts"] == [f"thing {neuron['unit']}"]
    assert -1 <= found["agreement"] <= 1 + 1e-6
    folder = workdir / "explanations"
    assert last == f"a_star___.svg, a_star___.png, a_star___.html in {folder}\n"
    assert {path.name for path in folder.iterdir()} == {
        f"a_star___.{kind}" for kind in ("png", "svg", "html")
    }
    # The predicted class is one of the scenes', so it has peers; without them, no class map.
    code, output, error = command("explain", flags | {"peers": 0})
    assert not code, error
    assert '"agreement": null' in output
    for _ in range(2):  # no other explanation is replaced
        assert f"a_star___-2.svg, a_star___-2.png, a_star___-2.html in {folder}\n" in output
        code, output, error = command("explain", flags | {"peers": 0})
    code, output, error = command("explain", flags | {"peers": -1})
    assert (code, error) == (
        2, "error: -1 peers are asked for: expected a number of images, or 0 for none.\n"
    )  # fmt: skip


def test_bad_input_is_one_sentence(command, networks, image, tmp_path):
    workdir = write(tmp_path / "run", networks, "layer4")
    logits = write(tmp_path / "logits", networks, "fc")
    for flags, message in (
        ({"workdir": workdir}, "--image is missing: give the file of an image"),
        ({"workdir": workdir, "image": tmp_path / "none.png"}, "none.png' does not exist"),
        ({"workdir": logits, "image": image}, "describes 'fc', whose neurons are the classes"),
    ):
        code, output, error = command("explain", flags)
        assert (code, output) == (2, "")
        assert re.fullmatch(f"error: .*{message}.*\n", error), error
