from dataclasses import replace

import numpy as np
import pytest

import jaxdesc as jd
from jaxdesc.evaluation.faithfulness import auc
from jaxdesc.evaluation.statistics import Bounds
from jaxdesc.evidence import truth
from jaxdesc.evidence.truth import LOGITS, NAMED, NONE, RANDOM, _Scenes, _Tried
from jaxdesc.evidence.world import SETTING
from jaxdesc.scenes import captions
from jaxdesc.scenes.attributes import KINDS, NAMES
from tests.evidence.conftest import PHRASES

PROBES = tuple(f"scenes:split=probe,seed={seed},count=40" for seed in (8, 9))
LAYERS = ("layer1", LOGITS)
CONFIG = replace(
    SETTING,
    images=replace(SETTING.images, batch=20),
    clip=replace(SETTING.clip, batch=20),
    score=replace(SETTING.score, exemplars=2),
)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("truth")


@pytest.fixture(scope="module")
def tables(workdir):
    sizes = {"probes": PROBES, "layers": LAYERS, "count": 8, "random_concepts": 3}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(truth, "VIEWS", ("centre", "attention", "full"))  # those that are compared
        return {table.name: table for table in truth.tables(workdir, config=CONFIG, **sizes)}


@pytest.mark.full
def test_attributes_are_named_as_the_method_names_them(tables, workdir):
    """One cell again, by the notebook's function and a count of names."""
    target, clip = jd.load_target("scenes:attributes"), jd.load_clip("scenes")
    assert target.classes == NAMES
    options = {"concepts": PHRASES, "view": "full", "kappa": 16.0, "config": CONFIG, "quiet": True}
    right = np.zeros(len(NAMES))
    for probe in PROBES:
        found = jd.describe(target, clip, images=probe, workdir=workdir, **options)
        for place, (neuron, names) in enumerate(zip(found, NAMES, strict=True)):
            right[place] += bool({text for text, _ in neuron.concepts} & set(names)) / len(PROBES)
    for kind in ("class", "colour", "pattern", "background", "context"):
        cell = tables["attributes"].at(kind, view="full", kappa=16.0)
        assert cell.mean == pytest.approx(right[kind == KINDS].mean())
        assert cell.low <= cell.mean <= cell.high
    for kind, share in {"pattern": 0.75, "class": 1}.items():
        assert tables["attributes"].at(kind, view="any", kappa=None).mean == share


@pytest.mark.full
def test_differences_are_those_of_the_shares(tables):
    shares = tables["attributes"]
    for kind in ("class", "background", "all"):
        difference = tables["attribute differences"].at(
            "attention − full", attribute=kind, kappa=0.0
        )
        each = [shares.at(kind, view=view, kappa=0.0).mean for view in ("attention", "full")]
        assert difference.mean == pytest.approx(each[0] - each[1])


@pytest.mark.full
def test_the_test_tells_class_logits_from_chance(tables):
    hidden = tables["hidden"]
    for view in ("attention", "full"):
        where = {"view": view, "layer": LOGITS}
        named, random = (hidden.at("right", **where, concept=how) for how in (NAMED, RANDOM))
        assert named.mean > random.mean
        areas = [hidden.at("AUC", **where, concept=how) for how in (NAMED, RANDOM)]
        assert areas[0] > areas[1]
    for layer, count in zip(LAYERS, (16, 32), strict=True):
        assert hidden.at("neurons", view="full", layer=layer, concept=NAMED) == count


@pytest.mark.full
def test_a_label_is_tried_on_images_that_did_not_choose_it():
    """Each neuron against loops over its pairs, and over the images that it did not choose."""
    target, trial = jd.load_target("scenes"), _Scenes(PROBES[0], 6)
    label, exemplars = np.full(32, NONE), np.zeros((32, 2), int)
    label[[0, 2]], exemplars[:3] = (3, 40), [[0, 5], [1, 2], [39, 8]]
    fresh = trial.activations(target, {("full", LOGITS, NAMED): label})
    assert set(fresh) == {(LOGITS, 3), (LOGITS, 40)}
    values = truth._activations(target, truth._squashed(target, trial.scenes), LOGITS)
    found = trial.tried(LOGITS, label, exemplars.tolist(), fresh, values)
    assert np.isnan(found.auc[1])
    assert not found.right[1]
    scenes = trial.scenes
    for neuron in (0, 2):
        name = captions.phrases()[label[neuron]]
        kept = [i for i in range(len(scenes)) if i not in exemplars[neuron]]
        logits = np.concatenate(
            [truth._activations(target, truth._squashed(target, [scenes[i]]), LOGITS) for i in kept]
        )
        shows = np.array([[scenes[i].kind in name.kinds] for i in kept])
        expected = auc(logits[:, [neuron]], shows)[0, 0]
        assert found.others[neuron] == pytest.approx(expected)
        one, other = fresh[LOGITS, label[neuron]][:, :, neuron]
        assert found.auc[neuron] == pytest.approx(np.mean(one[:, None] > other))


def test_neurons_without_a_concept_count_where_they_should():
    values = np.array([0.9, np.nan, 0.4, 0.8])
    low = np.array([0.6, np.nan, 0.2, 0.4])
    named = _Tried(np.array([0, NONE, 1, 2]), values, low, values, np.full(4, np.nan))
    neurons, none, right, area, smd, others, median = truth._summary(named)
    assert (neurons, none, area, smd, others, median) == (4, 0.25, 0.8, 0.8, 0, None)
    assert right.mean == pytest.approx(1 / 3)
    silent = _Tried(np.full(4, NONE), *np.full((4, 4), np.nan))
    assert truth._summary(silent) == (4, 1.0, None, None, None, 0, None)
    right, area = truth._compared(named, silent)
    assert isinstance(right, Bounds)
    assert (right.mean, area) == (0.25, None)
