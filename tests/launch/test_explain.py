"""The explain script: an image, a run, and bad input."""

import json
import re
import sys

import grain  # noqa: F401 - else its first import would define flags that flagsaver takes away
import pytest
from absl.testing import flagsaver

from jaxdesc.config import Config, ImagesConfig, TargetConfig
from jaxdesc.images.sources import open_source
from jaxdesc.report import files
from jaxdesc.result import Neuron, Result
from jaxdesc.store import Place
from launch import command, explain

NEURONS = 128  # of layer4


@pytest.fixture
def run(monkeypatch, capsys):
    def run(**flags):
        given = [f"--{key}={value}" for key, value in flags.items()]
        monkeypatch.setattr(sys, "argv", ["explain", *given])
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
            command.run(explain.main)
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run


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


def test_an_image_is_explained(run, networks, image, tmp_path):
    workdir = write(tmp_path / "run", networks, "layer4")
    code, output, error = run(workdir=workdir, image=image, peers=2, foremost=4)
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
    # The network's own class is one of the scenes', so there are peers; without, no class map.
    code, output, error = run(workdir=workdir, image=image, peers=0)
    assert not code, error
    assert '"agreement": null' in output
    code, output, error = run(workdir=workdir, image=image, peers=-1)
    assert (code, error) == (
        2, "error: -1 peers are asked for: expected a number of images, or 0 for none.\n"
    )  # fmt: skip


def test_bad_input_is_one_sentence(run, networks, image, tmp_path):
    workdir = write(tmp_path / "run", networks, "layer4")
    logits = write(tmp_path / "logits", networks, "fc")
    for flags, message in (
        ({"image": image}, "--workdir is missing: say where results are"),
        ({"workdir": workdir}, "--image is missing: give the file of an image"),
        ({"workdir": tmp_path, "image": image}, "holds no results: run launch.describe"),
        ({"workdir": workdir, "image": tmp_path / "none.png"}, "none.png' can't be decoded"),
        ({"workdir": logits, "image": image}, "describes 'fc', whose neurons are the classes"),
    ):
        code, output, error = run(**flags)
        assert (code, output) == (2, "")
        assert re.fullmatch(f"error: .*{message}.*\n", error), error
