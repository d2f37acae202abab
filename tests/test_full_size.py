"""The whole method on full-size networks in their real formats, and on photos."""

import csv
import json

import numpy as np
import pytest

import jaxdesc as jd
from jaxdesc.config import ClipConfig, ImagesConfig
from tests.random_networks import write_clip, write_resnet50

SMALL_BATCHES = jd.Config(images=ImagesConfig(batch=3), clip=ClipConfig(batch=6))
pytestmark = pytest.mark.full  # `test_www` has a small one
CONCEPTS = ["dog", "striped", "grass", "a very long concept of many words indeed", "sky", "sea"]


@pytest.fixture(scope="module")
def full_size(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full_size")
    write_resnet50(folder / "resnet50")
    write_clip(folder / "clip")
    return jd.load_target(str(folder / "resnet50")), jd.load_clip(str(folder / "clip"))


@pytest.mark.parametrize(("layer", "neurons"), [("fc", 1000), ("layer4", 2048)])
def test_describe_runs_on_photos_and_writes_its_files(full_size, photos, tmp_path, layer, neurons):
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in photos[:6]:
        (folder / path.name).symlink_to(path)
    found = jd.describe(
        *full_size,
        images=f"folder:{folder}",
        concepts=CONCEPTS,
        layer=layer,
        exemplars=3,
        quiet=True,
        config=SMALL_BATCHES,
    )
    assert len(found) == neurons
    for neuron in found:
        scores = [score for _, score in neuron.concepts]
        assert scores == sorted(scores, reverse=True)
        assert all(score > neuron.threshold for score in scores)
        assert len({e.image for e in neuron.exemplars}) == len(neuron.exemplars) <= 3
        assert ("dead" in neuron.flags) == (not neuron.exemplars)
        assert bool(neuron.concepts) == ("no concept" not in neuron.flags)
    assert np.ptp([neuron.maximum for neuron in found]) > 0

    found.to_csv(tmp_path / "concepts.csv")
    found.to_json(tmp_path / "concepts.jsonl")
    rows = list(csv.DictReader((tmp_path / "concepts.csv").open()))
    assert {row["concept"] for row in rows} <= set(CONCEPTS)
    lines = (tmp_path / "concepts.jsonl").read_text().splitlines()
    assert [json.loads(line)["unit"] for line in lines] == list(range(neurons))
