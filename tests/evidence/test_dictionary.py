"""Dictionaries with known concepts: the study in small, its latents, and its tables."""

import numpy as np
import pytest

from jaxdesc.evaluation.planted import Recipe
from jaxdesc.evaluation.statistics import Bounds
from jaxdesc.evidence import dictionary
from jaxdesc.evidence.dictionary import DEAD, ONE, PLANTED, TOWER, TWO, Study, tables
from jaxdesc.scenes.attributes import ATTRIBUTES, NAMES
from jaxdesc.scenes.world import HEIGHT, WIDTH, render

STUDY = Study(
    recipe=Recipe(images=600, neurons=1, exemplars=10, shown=30, synonyms=5, distractors=40),
    fires=(3, 20),
    shares=(0.02, 0.2),
    pairs=6,
    dead=3,
    probes=("scenes:split=probe,seed=0,count=64",),
    validation=("scenes:split=validation,seed=1,count=96",),
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    return tables(tmp_path_factory.mktemp("dictionary"), STUDY)


def test_every_latent_is_in_the_table(measured):
    table, purity, properties = measured
    latents = {
        (world, kind): sum(row[3] for row in table.rows if row[:2] == (world, kind))
        for world in (PLANTED, TOWER)
        for kind in (ONE, TWO, DEAD)
    }
    assert latents == {
        (PLANTED, ONE): 60, (PLANTED, TWO): 12, (PLANTED, DEAD): 3,
        (TOWER, ONE): 120, (TOWER, TWO): 12, (TOWER, DEAD): 3,
    }  # fmt: skip
    for row in table.rows:
        right, flagged, wrong = row[4:]
        assert right.mean <= flagged.mean
        assert flagged.mean + wrong.mean == pytest.approx(1)
    for world in (PLANTED, TOWER):
        dead = {"world": world, "concepts": DEAD, "fires on": "0"}
        assert table.at("right or flagged", **dead).mean == 1
    where = {"world": PLANTED, "concepts": ONE}
    assert table.at("right", **where, **{"fires on": "20 to 39"}).mean > 0.8
    assert purity.at("latents", **where, **{"exemplars that show it": "80% to 100%"}) == 30
    assert isinstance(properties.at("clarity", **where), Bounds)
    assert properties.at("polysemanticity", world=PLANTED, concepts="AUC, one against two") > 0.5


def test_planted_latents_fire_on_as_many_images_as_they_should():
    found = dictionary._planted(STUDY)
    assert [each.images for each in found] == [3] * 36 + [20] * 36 + [0] * 3
    assert {each.kind for each in found[30:36]} == {TWO}
    assert [n.neuron.flags for n in found[-3:]] == [("dead", "no concept")] * 3
    assert np.mean([each.purity for each in found[:30]]) > 0.9


def test_patches_show_what_is_there():
    scene = render("probe", 0, 3)
    shows = dictionary._patches(scene, 36)
    left, top, right, bottom = scene.box
    offset = 0
    for kind, names in ATTRIBUTES.items():
        own = shows[:, offset : offset + len(names)]
        offset += len(names)
        if kind == "context":
            continue
        place = getattr(scene, {"class": "kind"}.get(kind, kind))
        for patch, (row, column) in enumerate(np.ndindex(6, 6)):
            x, y = (column + 0.5) / 6 * WIDTH, (row + 0.5) / 6 * HEIGHT
            inside = left <= x < right and top <= y < bottom
            assert own[patch].sum() == own[patch, place] == ((kind == "background") != inside)
    assert offset == len(NAMES) == shows.shape[1]
