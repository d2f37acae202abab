"""The tables of crops against single runs."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from configs.scenes import get_config
from jaxdesc.config import AblationConfig, Config
from jaxdesc.evaluation.statistics import bootstrap, mcnemar, paired
from jaxdesc.evidence import crops
from jaxdesc.evidence.crops import Study
from jaxdesc.evidence.world import PROBES, SETTING, on_probe, open_run
from jaxdesc.models.namers import load_clip
from jaxdesc.pipeline import Grid, sweep
from tests import plain_target
from tests.evidence.conftest import PHRASES

COUNT = 24
STUDY = Study(
    probes=tuple(f"scenes:split=probe,seed={seed},count={COUNT}" for seed in (7, 8)),
    fields=(0.4, 0.8),
    field=0.4,
    cams=("grad_cam", "layer_cam", "score_cam"),
    exemplars=2,
)
# Forty names for each of 32 neurons: a random network rarely finds one of two.
NAMES = tuple(tuple(np.roll(PHRASES, 5 * neuron)[:40].tolist()) for neuron in range(32))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A run of a target whose maps are quick, and a function to the metrics of one setting."""
    target = plain_target.plain_target(plain_target.parameters(neurons=32), NAMES)
    networks = target, load_clip("scenes")
    config = crops.setting(STUDY)
    config = replace(
        config,
        images=replace(config.images, batch=COUNT),
        clip=replace(config.clip, batch=20),
    )
    run = open_run(tmp_path_factory.mktemp("crops"), config, *networks)

    @cache
    def measured(probe, **crop):
        score = run.config.score
        config = replace(run.config, crop=replace(run.config.crop, **crop))
        grid = Grid(STUDY.kappas, (score.alpha,), (score.exemplars,), (config.crop.view,))
        cells = sweep(on_probe(replace(run, config=config), probe), grid)
        return {cell.kappa: cell.metrics.values for cell in cells}

    def metrics(probe, kappa, **crop):
        return measured(probe, **crop)[kappa]

    return run, metrics


@pytest.fixture(scope="module")
def map_tables(study):
    return crops.map_tables(study[0], STUDY)


def check(metrics, probes, kappa, crop, found):
    """Hit Rate and F1 in a row: of each neuron, averaged over the probe sets first."""
    for kind, bounds in zip(("hit", "f1"), found, strict=True):
        values = np.mean([metrics(probe, kappa, **crop)[kind] for probe in probes], axis=0)
        assert bounds == bootstrap(values)


def check_pair(metrics, probes, kappa, pair, found, p):
    """Differences of two settings in a row, and McNemar's p of the first probe set."""
    for kind, bounds in zip(("hit", "f1"), found, strict=True):
        each = [[metrics(probe, kappa, **crop)[kind] for probe in probes] for crop in pair]
        assert bounds == paired(*np.mean(each, axis=1))
    assert p == mcnemar(*(metrics(probes[0], kappa, **crop)["hit"] > 0 for crop in pair)).p


def test_the_run_is_the_demos():
    demo = Config.from_dict(get_config().to_dict())
    assert crops.setting(Study()) == replace(demo, ablation=AblationConfig()) == SETTING
    assert demo.ablation.probes == PROBES
    assert demo.ablation.kappas == Study().kappas
    assert set(demo.ablation.views) == set(crops.VIEWS)


@pytest.mark.full
def test_windows(study):
    run, metrics = study
    windows, differences = crops.window_tables(run, STUDY)
    assert len(windows.rows) == 2 * 4 * 2 + 2
    assert len(differences.rows) == 2 * 4 * 2
    for field, view, kappa, *found, sets in windows.rows:
        crop = {"view": view, "field": field or STUDY.field}
        check(metrics, STUDY.probes, kappa, crop, found)
        assert (sets, field is None) == (2, view == "full")
    for field, view, kappa, *found, p, _ in differences.rows:
        pair = ({"view": "attention", "field": field}, {"view": view, "field": field})
        check_pair(metrics, STUDY.probes, kappa, pair, found, p)
    assert len({found.mean for *_, found, _, _ in differences.rows}) > 8
    again = replace(run, seconds={})
    assert crops.window_tables(again, STUDY) == (windows, differences)
    assert again.seconds == {}


@pytest.mark.full
def test_maps(study, map_tables):
    _, metrics = study
    maps, differences = map_tables
    assert [row[:2] for row in maps.rows] == [(cam, k) for cam in STUDY.cams for k in (0.0, 16.0)]
    for cam, kappa, *found, same, sets in maps.rows:
        assert sets == (1 if cam == "score_cam" else 2)
        check(metrics, STUDY.probes[:sets], kappa, {"cam": cam}, found)
        assert same == 1 if cam == "grad_cam" else 0 < same < 1
    for cam, kappa, *found, p, sets in differences.rows:
        pair = ({"cam": cam}, {"cam": "grad_cam"})
        check_pair(metrics, STUDY.probes[:sets], kappa, pair, found, p)
