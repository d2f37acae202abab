"""Certainty: its parts put together, and the case without a null."""

from dataclasses import replace

import numpy as np

from jaxdesc import scoring
from jaxdesc.evaluation.planted import Recipe, plant
from jaxdesc.exemplars import Slots
from jaxdesc.scoring.certainty import certainty
from jaxdesc.scoring.null import null, significance
from jaxdesc.scoring.stability import stability

RECIPE = Recipe(images=60, neurons=8, shown=12, synonyms=2, hubs=2, distractors=8, width=16)


def layer(**options):
    probe = plant(replace(RECIPE, **options)).probe
    views, slots = probe.exemplars.distinct()
    return probe.images[views], slots, probe.concepts, probe.base


def test_it_is_stability_and_significance_of_the_same_selection():
    arrays = layer(exemplars=5)
    found = scoring.discover(*arrays, 4.0, 0.7)
    assert len(found.concepts) > 8
    sure = certainty(*arrays, 4.0, 0.7, found)
    np.testing.assert_array_equal(sure.stability, stability(*arrays, 4.0, 0.7, found).selected)
    views, _, *texts = arrays
    chance = null(views, *texts, 4.0, 0.7, [5])
    judged = significance(chance, found, arrays[1].counts)
    np.testing.assert_array_equal(sure.z, judged.z)
    np.testing.assert_array_equal(sure.q, judged.q)
    assert sure.hubs == tuple((hub, chance.share[hub]) for hub in chance.hubs)


def test_no_more_views_than_exemplars_are_no_null():
    views, _, *texts = layer(images=5, exemplars=5)
    rows = np.array([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]], np.int32)
    arrays = views[:5], rows, *texts
    found = scoring.discover(*arrays, 4.0, 0.7)
    sure = certainty(*arrays, 4.0, 0.7, found)
    assert len(sure.stability) == len(found.concepts) > 0
    assert np.isnan(sure.z).all()
    assert np.isnan(sure.q).all()
    assert sure.hubs == ()


def test_neurons_with_few_exemplars_have_no_stability_but_a_null_of_their_own():
    views, slots, *texts = layer(exemplars=5)
    slots = Slots(slots.rows, np.array([5, 2, 5, 3, 1, 4, 5, 5], np.int32))
    arrays = views, slots, *texts
    found = scoring.discover(*arrays, 4.0, 0.7)
    owners = np.repeat(slots.counts, found.counts)
    sure = certainty(*arrays, 4.0, 0.7, found, fewest=4)
    np.testing.assert_array_equal(np.isnan(sure.stability), owners < 4)
    whole = certainty(*arrays, 4.0, 0.7, found)
    np.testing.assert_array_equal(sure.stability[owners >= 4], whole.stability[owners >= 4])
    judged = significance(null(views, *texts, 4.0, 0.7, [1, 2, 3, 4, 5]), found, slots.counts)
    np.testing.assert_array_equal(sure.q, judged.q)
    assert not np.isnan(sure.q).any()
