"""Every example of docs/extending.md, registered from outside the package and run."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import jaxdesc as jd
from jaxdesc.evaluation.judging.measures import JUDGES, measured
from jaxdesc.evaluation.methods import METHODS
from jaxdesc.evaluation.metrics import METRICS
from jaxdesc.images.sources import SOURCES
from jaxdesc.models.architectures import ARCHITECTURES
from jaxdesc.models.namers import NAMERS
from jaxdesc.similarity import SIMILARITIES
from jaxdesc.vocabulary.vocabulary import VOCABULARIES

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
EXAMPLES = dict(re.findall(r"^## (?:A|An) (.+?)$.*?^```python\n(.*?)^```", PAGE, re.M | re.S))
REGISTRIES = (
    *(SIMILARITIES, METRICS, METHODS, JUDGES, SOURCES, VOCABULARIES, ARCHITECTURES, NAMERS),
    jd.attention.CAMS,
)
NAMES = {"0": "sun", "1": "rain", "2": "snow"}


@pytest.fixture
def registries():
    """The registries, as they were before."""
    before = [dict(registry) for registry in REGISTRIES]
    yield
    for registry, entries in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(entries)


@pytest.fixture
def example(registries, networks, tmp_path):
    """Run the example of a section; what earlier ones defined is known to it."""
    config = {"model_type": "colours", "num_labels": 3, "id2label": NAMES}
    target, namer = tmp_path / "target", tmp_path / "namer"
    target.mkdir()
    (target / "config.json").write_text(json.dumps(config))
    shutil.copytree(networks.clip, namer)
    (namer / "config.json").write_text(json.dumps({"model_type": "colours"}))
    rng = np.random.default_rng(0)
    images, tokens = rng.normal(size=(3, 16)), rng.normal(size=(49408, 16))
    np.savez(namer / "colours.npz", images=images.astype("f4"), tokens=tokens.astype("f4"))
    (tmp_path / "words.txt").write_text("sun;rain\nsnow")
    pixels = rng.normal(size=(2, 224, 224, 3)).astype("f4")
    known = {"__name__": "example", "jd": jd, "clip": jd.load_clip(networks.clip), "pixels": pixels}

    def run(section):
        code = EXAMPLES[section]
        for written, meant in {
            "FOLDER": str(target),
            "folder/of/colours": str(namer),
            "folder:PHOTOS": "stripes:60",
            '"wordnet"': '"weather"',
        }.items():
            code = code.replace(written, meant)
        exec(code, known)
        return known

    return run


@pytest.mark.parametrize("section", EXAMPLES)
def test_an_entry_is_under_fifteen_lines(section):
    lines = [line for line in EXAMPLES[section].splitlines() if line.strip()]
    assert len(lines) < 15


def test_describe_with_an_entry_of_each_kind(example, tmp_path):
    for section in ("similarity", "metric", "source", "vocabulary", "architecture"):
        example(section)
    known = example("attention map")
    result = jd.describe(
        known["target"],
        known["clip"],
        images="stripes:60",
        concepts=f"tags:{tmp_path}/words.txt",
        layer="fc",
        view="attention",
        cam="positive_grad_cam",
        similarity="power",
        kappa=4.0,
        exemplars=8,
        quiet=True,
    )
    assert [neuron.names for neuron in result] == [("sun",), ("rain",), ("snow",)]
    assert 0 <= result.metrics_dict()["jaccard"]["mean"] <= 1
    assert result.metrics_dict()["jaccard"]["ceiling"] == 1
    assert all(e.index < 60 for neuron in result for e in neuron.exemplars)


def test_a_name_encoder(example):
    namer = example("name encoder")["namer"]
    features = namer.encode_texts(["sun", "rain"])
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    names, images = (example("source"), jd.image_features(namer, "stripes:3"))[1]
    assert names == ["stripes 0", "stripes 1", "stripes 2"]
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=1e-6)


def test_a_judge(example, rng):
    example("judge")
    presence = rng.random((2, 50)).astype(np.float32)
    found = measured(presence[0], presence)["spearman"]
    assert found[0] == pytest.approx(1)
    assert abs(found[1]) < 0.5


def test_the_page_names_files_that_exist():
    package = Path(jd.__file__).parent
    for name in re.findall(r"`(?:jaxdesc/)?([a-z_/]+\.py)`", PAGE):
        assert (package / name).is_file(), name
