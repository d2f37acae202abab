"""The null against every set of images there is; few false discoveries, and many true ones."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from jaxdesc.evaluation.planted import HUB, Recipe, plant
from jaxdesc.exemplars import Slots
from jaxdesc.scoring import Selection, discover
from jaxdesc.scoring import null as module
from jaxdesc.scoring.null import Null, null, random_sets, significance
from tests.reference import null as reference
from tests.reference import scoring
from tests.scoring.features import problem

RECIPE = Recipe(
    images=1500, neurons=40, exemplars=20, shown=60, synonyms=0, hubs=0, distractors=60, cone=0.5,
    noise=0.5, impurity=0.2, polysemantic=0.0,
)  # fmt: skip


@pytest.mark.parametrize("kappa", [0.0, 16.0])
@pytest.mark.parametrize("block", [4, 64])
def test_it_equals_every_set_there_is(kappa, block):
    views, _, texts, base = problem(0, images=9, concepts=11)
    sets = random_sets(9, 3, 20, seed=2)
    found = null(views, texts, base, kappa, 0.9, [3, 1, 2], sets=20, seed=2, block=block)
    for size in (1, 2, 3):  # those of fewer images are the first of the same draws
        mean, deviation = reference.moments(views, texts, base, kappa, size)
        np.testing.assert_allclose(found.mean, mean, atol=1e-6)
        np.testing.assert_allclose(found.deviation[size], deviation, rtol=1e-5)
        expected = reference.largest(views, texts, base, kappa, sets[:, :size])
        np.testing.assert_allclose(found.largest[size], expected, rtol=2e-4)
    selected = scoring.select(scoring.scores(views, sets, texts, base, kappa), 0.9)
    times = np.bincount([concept for own in selected for concept, _ in own], minlength=11)
    np.testing.assert_allclose(found.share, times / 20)


def test_significance_equals_the_definition():
    """Neurons of 6, of 2 and of 5 exemplars; of 5 there is no null."""
    views, rows, texts, base = problem(1, images=40, neurons=12)
    counts = np.array([6, 6, 2, 5] * 3, np.int32)
    selection = discover(views, Slots(rows, counts), texts, base, 4.0, 0.8)
    given = null(views, texts, base, 4.0, 0.8, [2, 6], sets=50)
    found = significance(given, selection, counts, level=0.3)
    own = [row[:count] for row, count in zip(rows, counts, strict=True)]
    scores = scoring.scores(views, own, texts, base, 4.0)
    owners = np.repeat(np.arange(12), selection.counts)
    known = counts[owners] != 5
    assert np.isnan(found.z[~known]).all()
    assert np.isnan(found.q[~known]).all()
    for place in np.flatnonzero(known):
        size, concept = counts[owners[place]], selection.concepts[place]
        score = scores[owners[place], concept]
        z = (score - given.mean[concept]) / given.deviation[size][concept]
        assert found.z[place] == pytest.approx(z, rel=1e-4)
        (p,) = reference.significance(found.z[[place]], given.largest[size])
        assert found.p[place] == p
    np.testing.assert_array_equal(found.q[known], stats.false_discovery_control(found.p[known]))
    np.testing.assert_array_equal(found.significant, found.q <= 0.3)
    assert found.named.tolist() == [found.significant[owners == i].any() for i in range(12)]


def test_a_set_that_just_reaches_a_z_counts():
    largest = {4: np.array([1.0, 2.0, 2.0, 3.0])}
    given = Null(np.zeros(3), {4: np.ones(3)}, largest, np.zeros(3), np.array([0]))
    selection = Selection(
        counts=np.array([2, 0, 1]),
        concepts=np.array([0, 2, 1], np.int32),
        scores=np.array([2.0, 1.5, 9.0], np.float32),
        maximum=np.array([2.0, 0.0, 9.0], np.float32),
        threshold=np.array([1.0, 0.0, 5.0]),
    )
    found = significance(given, selection, np.full(3, 4), level=0.61)
    np.testing.assert_allclose(found.p, [4 / 5, 4 / 5, 1 / 5])
    np.testing.assert_allclose(found.q, [4 / 5, 4 / 5, 3 / 5])
    assert found.named.tolist() == [False, False, True]


def test_sets_are_random_and_without_repeats():
    found = random_sets(30, 6, 4000, seed=1)
    assert all(len(set(own)) == 6 for own in found.tolist())
    expected = 4000 * 6 / 30
    np.testing.assert_allclose(np.bincount(found.ravel()), expected, atol=5 * np.sqrt(expected))
    np.testing.assert_array_equal(random_sets(30, 6, 4000, seed=1), found)
    assert not np.array_equal(random_sets(30, 6, 4000, seed=2), found)


def test_planted_hubs_are_found():
    planted = plant(replace(RECIPE, hubs=4, hub_pull=3.0, cone=2.5))
    probe = planted.probe
    found = null(probe.images, probe.concepts, probe.base, 0.0, 0.95, [20], sets=200)
    assert set(np.flatnonzero(planted.kind == HUB)) & set(found.hubs.tolist())
    assert found.hubs[0] in np.flatnonzero(planted.kind == HUB)
    shares = found.share[found.hubs]
    assert shares.tolist() == sorted(shares, reverse=True)
    assert len(found.hubs) < 12


def test_a_concept_equally_near_to_all_images_has_no_z():
    views, rows, texts, base = problem(2)
    width = views.shape[1]
    views = np.pad(views, ((0, 0), (0, 1)))
    texts, base = np.pad(texts, ((0, 0), (0, 1))), np.pad(base, (0, 1))
    texts[3] = np.eye(width + 1)[-1]
    base = texts[3].copy()  # every image's difference with it is 0
    given = null(views, texts, base, 0.0, 0.5, [6], sets=30)
    assert given.deviation[6][3] == 0
    selection = discover(views, rows, texts, base, 0.0, 0.5)
    assert np.isfinite(significance(given, selection, np.full(len(rows), 6)).z).all()


def test_sets_are_drawn_from_a_part_of_a_large_pool(monkeypatch):
    """A part samples the deviations, so that z moves a little, and what is significant stays."""
    planted = plant(RECIPE).probe
    texts = planted.concepts, planted.base
    selection = discover(planted.images, planted.exemplars, *texts, 4.0, 0.95)
    counts = planted.exemplars.counts
    whole = significance(null(planted.images, *texts, 4.0, 0.95, [20], 300), selection, counts)
    monkeypatch.setattr(module, "POOL", 750)
    views = planted.images[np.argsort(planted.images @ planted.base)]  # the first ones are alike
    part = significance(null(views, *texts, 4.0, 0.95, [20], 300), selection, counts)
    assert np.median(np.abs(part.z / whole.z - 1)) < 0.1
    assert np.mean(part.significant == whole.significant) > 0.97


def test_errors():
    views, _, texts, base = problem(0, images=5)
    with pytest.raises(ValueError, match="10 random sets of 5 of 5 images say nothing"):
        null(views, texts, base, 0.0, 0.9, [3, 5], sets=10)
    with pytest.raises(ValueError, match="0 random sets of 3 of 5 images say nothing"):
        null(views, texts, base, 0.0, 0.9, [3], sets=0)
