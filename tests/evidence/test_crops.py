"""The tables of crops against single runs, and maps against slow oracles."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from configs.scenes import get_config
from jaxdesc.attention import attention_maps
from jaxdesc.config import AblationConfig, Config
from jaxdesc.evaluation.statistics import bootstrap, mcnemar, paired
from jaxdesc.evidence import crops, world
from jaxdesc.evidence.crops import Study
from jaxdesc.evidence.world import PROBES, SETTING, on_probe, open_run
from jaxdesc.images.sources import open_source
from jaxdesc.models.namers import load_clip
from jaxdesc.models.target import load_target
from jaxdesc.pipeline import describe
from jaxdesc.scenes.world import CLASSES
from jaxdesc.vocabulary.vocabulary import load_vocabulary
from tests import plain_target
from tests.reference import attention

STUDY = Study(
    probes=tuple(f"scenes:split=probe,seed={seed},count=40" for seed in (7, 8)),
    fields=(0.4, 0.8),
    field=0.4,
    cams=("grad_cam", "layer_cam", "score_cam"),
    exemplars=2,
    slow=(1, 12),
)
WORDS = [name for names in CLASSES.values() for name in names] + [
    "grass",
    "a red cat",
    "wood",
    "sky",
]


@pytest.fixture(scope="module")
def clip():
    return load_clip("scenes")


@pytest.fixture(scope="module", autouse=True)
def _few_words():
    patch = pytest.MonkeyPatch()
    patch.setattr(world, "load_vocabulary", lambda _: load_vocabulary(WORDS))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory, clip):
    """The windows' tables, with the world's own target; and each run's metrics."""
    return _measured(tmp_path_factory.mktemp("windows"), load_target("scenes"), clip)


@pytest.fixture(scope="module")
def plain(tmp_path_factory, clip):
    """The maps' tables, with a target whose maps are quick."""
    target = plain_target.plain_target(plain_target.parameters(neurons=32), tuple(CLASSES.values()))
    return _measured(tmp_path_factory.mktemp("maps"), target, clip)


def _measured(workdir, target, clip):
    run = open_run(workdir, crops.setting(STUDY), target, clip)

    @cache
    def metrics(probe, kappa, **crop):
        config = replace(
            run.config,
            crop=replace(run.config.crop, **crop),
            score=replace(run.config.score, kappa=kappa),
        )
        return describe(on_probe(replace(run, config=config), probe)).metrics.values

    return run, metrics


def each(metrics, kind, kappa, probes=STUDY.probes, **crop):
    """A metric of each neuron, averaged over the probe sets."""
    return np.mean([metrics(probe, kappa, **crop)[kind] for probe in probes], axis=0)


def test_the_run_is_the_demos():
    demo = Config.from_dict(get_config().to_dict())
    assert crops.setting(Study()) == replace(demo, ablation=AblationConfig()) == SETTING
    assert demo.ablation.probes == PROBES
    assert demo.ablation.kappas == Study().kappas
    assert set(demo.ablation.views) == set(crops.VIEWS)


def test_windows(scenes):
    run, metrics = scenes
    windows, differences = crops.window_tables(run, STUDY)
    assert len(windows.rows) == 2 * 4 * 2 + 2
    assert len(differences.rows) == 2 * 4 * 2
    moved = set()
    for field, view, kappa, hit, f1, sets in windows.rows:
        crop = {"view": view, "field": field or 0.7}
        for kind, found in (("hit", hit), ("f1", f1)):
            assert found == bootstrap(each(metrics, kind, kappa, **crop))
        assert (sets, field is None) == (2, view == "full")
    for field, view, kappa, hit, f1, p, _ in differences.rows:
        pair = ({"view": "attention", "field": field}, {"view": view, "field": field})
        for kind, found in (("hit", hit), ("f1", f1)):
            assert found == paired(*(each(metrics, kind, kappa, **crop) for crop in pair))
            moved.add(found.mean)
        hits = [metrics(STUDY.probes[0], kappa, **crop)["hit"] > 0 for crop in pair]
        assert p == mcnemar(*hits).p
    assert len(moved) > 8
    at = differences.at("Hit Rate, attention − view", field=0.4, view="random", kappa=0.0)
    assert at.mean > 0
    again = replace(run, seconds={})
    assert crops.window_tables(again, STUDY) == (windows, differences)
    assert again.seconds == {}


def test_maps(plain):
    run, metrics = plain
    maps, differences, _ = crops.map_tables(run, STUDY)
    assert [row[:2] for row in maps.rows] == [(cam, k) for cam in STUDY.cams for k in (0.0, 16.0)]
    for cam, kappa, hit, f1, same, sets in maps.rows:
        probes = STUDY.probes[:1] if cam == "score_cam" else STUDY.probes
        assert sets == len(probes)
        for kind, found in (("hit", hit), ("f1", f1)):
            assert found == bootstrap(each(metrics, kind, kappa, probes, cam=cam))
        assert same == 1 if cam == "grad_cam" else 0 < same < 1
    for cam, kappa, hit, f1, p, sets in differences.rows:
        pair = ({"cam": cam}, {"cam": "grad_cam"})
        probes = STUDY.probes[:sets]
        for kind, found in (("hit", hit), ("f1", f1)):
            assert found == paired(*(each(metrics, kind, kappa, probes, **crop) for crop in pair))
        hits = [metrics(STUDY.probes[0], kappa, **crop)["hit"] > 0 for crop in pair]
        assert p == mcnemar(*hits).p


def looked(target, probe, cam, count):
    """Pointing, energy and chance of some scenes, one at a time; of an empty map no energy."""
    found = []
    for index in range(count):
        example = open_source(probe)[index]
        pixels = target.preprocess.normalise(target.preprocess.squash(example.image)[None])
        (cam_map,) = np.asarray(attention_maps(target, pixels, cam=cam)[0], np.float64)
        width, height = example.image.size
        box = [edge / side for edge, side in zip(example.box, (width, height) * 2, strict=True)]
        (y, x), there = attention.peak(cam_map)
        inside = there and box[0] <= x <= box[2] and box[1] <= y <= box[3]
        energy = attention.energy(cam_map, box) if there else np.nan
        found.append((float(inside), energy, (box[2] - box[0]) * (box[3] - box[1])))
    return np.array(found).T


def test_localisation(plain):
    run, _ = plain
    table = crops.map_tables(run, STUDY)[2]
    target = run.inputs.target
    for cam, pointing, energy, chance, *further, empty, images in table.rows:
        sets, count = (1, 12) if cam == "score_cam" else (2, 40)
        looks, usual = (
            np.concatenate([looked(target, p, c, count) for p in STUDY.probes[:sets]], axis=1)
            for c in (cam, "grad_cam")
        )
        mapped = ~np.isnan(looks[1])
        for found, values in ((pointing, looks[0]), (energy, looks[1][mapped]), (chance, looks[2])):
            np.testing.assert_allclose(found, bootstrap(values), atol=1e-5)
        assert (empty, images) == (1 - mapped.mean(), sets * count)
        if cam == "grad_cam":
            assert further == [None, None]
            continue
        both = mapped & ~np.isnan(usual[1])
        for found, row, kept in zip(further, (0, 1), (both | True, both), strict=True):
            expected = paired(looks[row][kept], usual[row][kept])
            np.testing.assert_allclose(found, expected, atol=1e-5)
