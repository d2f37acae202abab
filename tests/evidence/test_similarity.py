"""The tables of similarity, tiny: their cells against the methods called directly."""

from dataclasses import replace

import numpy as np
import pytest

from jaxdesc.config import ScoreConfig
from jaxdesc.evaluation.faithfulness import auprc
from jaxdesc.evaluation.methods import AGAINST, METHODS, discovered
from jaxdesc.evaluation.planted import Recipe, accuracy, plant
from jaxdesc.evaluation.statistics import bootstrap, mcnemar, paired, proportion
from jaxdesc.evidence import similarity
from jaxdesc.evidence.similarity import Study, setting, tables
from jaxdesc.evidence.world import on_probe, open_run, scenes_of, shown
from jaxdesc.exemplars import exemplars
from jaxdesc.models.namers import load_clip
from jaxdesc.pipeline import Grid, probe_pass, sweep
from jaxdesc.scenes import captions
from jaxdesc.scenes.world import CLASSES
from tests import plain_target

PROBES = tuple(f"scenes:split=probe,seed={seed},count=40" for seed in (7, 8))
RIVALS = (AGAINST, "WWW", "cos_cubed")  # the others take longer
STUDY = Study(
    probes=PROBES,
    kappas=(0.0, 16.0),
    exemplars=(2, 4),
    recipe=Recipe(images=120, neurons=12, shown=20, synonyms=4, hubs=2, distractors=20, width=24),
    planted=(3, 5),
    impurities=(0.4,),
    seeds=2,
    sets=60,
)


pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    networks = plain_target.plain_target(classes=tuple(CLASSES.values())[:6]), load_clip("scenes")
    return open_run(tmp_path_factory.mktemp("evidence"), setting(STUDY), *networks)


@pytest.fixture(scope="module")
def found(run):
    workdir, methods = run.store.root.local.parent, {name: METHODS[name] for name in RIVALS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "METHODS", methods)
        of_run = tables(workdir, STUDY, run.inputs.target, run.inputs.clip)
    return {table.name: table for table in of_run}


def test_kappa_and_the_number_of_exemplars(found, run):
    table, view = found["kappa"], "centre"
    assert len(table.rows) == 2 * 2 * 2
    grid = Grid(STUDY.kappas, (STUDY.alpha,), STUDY.exemplars, (view,))
    cells = [
        {(c.kappa, c.exemplars): c.metrics.values for c in sweep(on_probe(run, images), grid)}
        for images in PROBES
    ]
    settings = ((16.0, 2), (0.0, 2), (16.0, 4))
    ours, cosine, most = ([of_probe[key] for of_probe in cells] for key in settings)
    where = {"view": view, "kappa": 16.0, "exemplars": 2}
    for kind, name in (("hit", "Hit Rate"), ("f1", "F1")):
        mean, other, largest = (
            np.mean([values[kind] for values in side], axis=0) for side in (ours, cosine, most)
        )
        assert table.at(name, **where) == pytest.approx(bootstrap(mean))
        assert table.at(f"{name} − cosine", **where) == pytest.approx(paired(mean, other))
        found_most = table.at(f"{name} − most exemplars", **where)
        assert found_most == pytest.approx(paired(mean, largest))
    p = mcnemar(ours[0]["hit"] > 0, cosine[0]["hit"] > 0).p
    assert table.at("p, cosine", **where) == p
    assert table.at("F1 − cosine", view=view, kappa=0.0, exemplars=2) is None
    assert table.at("F1 − most exemplars", view=view, kappa=0.0, exemplars=4) is None


def test_planted_truth(found):
    layers = [plant(replace(STUDY.recipe, impurity=0.4, exemplars=5), seed) for seed in (0, 1)]
    top = {}
    for kappa in (0.0, 16.0):
        each = []
        for layer in layers:
            slots = exemplars(layer.probe.activations, 3).slots
            selected = discovered(layer.probe._replace(exemplars=slots), ScoreConfig(kappa=kappa))
            each.append(accuracy(selected, layer.truth).top)
        top[kappa] = np.concatenate(each)
        cell = found["planted"].at("top-1", impurity=0.4, exemplars=3, kappa=kappa)
        assert cell == proportion(int(top[kappa].sum()), 24)
    gap = found["planted"].at("top-1 − cosine", impurity=0.4, exemplars=3, kappa=16.0)
    assert gap == paired(top[16.0], top[0.0])
    rivals = found["planted rivals"]
    assert len(rivals.rows) == len(RIVALS)
    assert rivals.at("p", method="t-vMF") is None
    whole = found["planted"].at("F1", impurity=0.4, exemplars=5, kappa=0.0)
    assert rivals.at("F1", method="WWW") == whole


def test_certainty_and_false_discoveries(found):
    certain, nothing = found["certainty"], found["false discoveries"]
    kinds = ("planted", "classes, centre", "classes, attention")
    for kind in kinds:
        pairs = {row[1]: row[2] for row in certain.rows if row[0] == kind}
        names = [name for name in pairs if name.startswith("stability")]
        assert sum(pairs[name] for name in names) == pairs["q ≤ 0.05"] + pairs["q > 0.05"] > 0
        for what in ("shuffled", "taken out"):
            where = {"kind": kind, "exemplars or concepts": what}
            assert nothing.at("neurons", **where) == (24 if kind == "planted" else 12)
            assert nothing.at("layers", **where) == 2
    assert len(nothing.rows) == 6


def test_what_is_taken_out_is_all_that_tells_the_class(run):
    (layer,) = similarity._class_layers(run, {"centre": [probe_pass(run)]})
    left = set(np.array(run.inputs.vocabulary.concepts)[~layer.named])
    assert not left & {"cat", "kitten", "animal", "red cat", "cat on grass", "cat near a bush"}
    assert {"red", "striped", "grass", "bush"} <= left
    assert not layer.right[:, ~layer.named].any()


def test_rivals_are_compared_with_the_papers_method(found):
    table = found["rivals"]
    assert len(table.rows) == len(RIVALS)
    assert table.at("F1 − t-vMF", method="t-vMF") is None
    ours, kappa = table.at("F1", method="t-vMF"), found["kappa"]
    assert ours.mean == pytest.approx(
        kappa.at("F1", view="attention", kappa=16.0, exemplars=4).mean, abs=1e-6
    )


def test_faithfulness_is_that_of_each_scenes_truth(found, run):
    """One method's cells by loops: from the activations and from what each scene shows."""
    table, texts = found["faithfulness"], [phrase.text for phrase in captions.phrases()]
    values = []
    crop = replace(run.config.crop, view="attention")
    attentive = replace(run, config=replace(run.config, crop=crop))
    for images in PROBES:
        probe, true = probe_pass(on_probe(attentive, images)), shown(scenes_of(images))
        each = []
        for neuron, concepts in enumerate(METHODS["cos_cubed"].select(probe, run.config.score)):
            activations = probe.activations[:, neuron]
            present = true[:, texts.index(run.inputs.vocabulary.concepts[concepts[0]])]
            alone = present.any() and len(set(activations.tolist())) > 1
            each.append(auprc(activations, present) if alone else 0)
        values.append(each)
    cell = table.at("AUPRC, truth", method="cos_cubed")
    np.testing.assert_allclose(cell.mean, np.mean(values), atol=1e-9)
    assert table.at("AUPRC, truth − t-vMF", method="t-vMF") is None
