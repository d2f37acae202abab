"""AUPRC and correlations against loops; right concepts are more faithful than wrong ones."""

import numpy as np
import pytest
from scipy import stats

from jaxdesc.evaluation.accuracy import NONE
from jaxdesc.evaluation.faithfulness import auprc, by_similarity, by_truth, pearson, spearman
from jaxdesc.evaluation.planted import Recipe, plant
from tests.reference import dissect
from tests.reference import faithfulness as reference

RECIPE = Recipe(images=600, neurons=12, shown=40, synonyms=0, hubs=0, distractors=10)


@pytest.mark.parametrize("seed", range(4))
def test_measures_equal_the_definitions(seed):
    rng = np.random.default_rng(seed)
    activations = np.maximum(rng.normal(size=50).round(1), 0).astype(np.float32)
    present = rng.random(50) < 0.3
    values = activations.astype(float).tolist()
    assert auprc(activations, present) == pytest.approx(reference.auprc(values, present.tolist()))
    assert pearson(activations, present) == pytest.approx(reference.pearson(values, present))
    much = rng.normal(size=50).round(1)
    expected = reference.pearson(reference.ranks(values), reference.ranks(much.tolist()))
    assert spearman(activations, much) == pytest.approx(expected)
    assert spearman(activations, much) == pytest.approx(stats.spearmanr(activations, much)[0])


def test_auprc_by_hand():
    # Precision 1 at recall 1/2, then 2/3 at recall 1.
    assert auprc(np.array([3.0, 2.0, 1.0]), np.array([True, False, True])) == pytest.approx(5 / 6)
    # All found together: precision is the share.
    assert auprc(np.zeros(4), np.array([True, False, False, False])) == 0.25
    assert np.isnan(auprc(np.ones(3), np.zeros(3, bool)))


def test_constant_is_no_correlation():
    assert np.isnan(pearson(np.ones(4), np.arange(4)))
    assert np.isnan(spearman(np.arange(4), np.zeros(4, bool)))


def test_each_neuron_is_measured_with_its_own_concept():
    planted = plant(RECIPE)
    probe = planted.probe
    concepts = np.array([int(row.argmax()) for row in planted.truth])
    concepts[3] = NONE
    activations = probe.activations.copy()
    activations[:, 5] = 1.0
    probe = probe._replace(activations=activations)
    cosines = probe.images @ probe.concepts.T
    nearest = dissect.nearest(cosines, 0.1)
    true, similar = by_truth(probe, concepts, planted.present), by_similarity(probe, concepts, 0.1)
    for neuron, concept in enumerate(concepts):
        own = activations[:, neuron].astype(float).tolist()
        for found, shown, much in (
            (true, planted.present[:, concept], planted.present[:, concept]),
            (similar, nearest[:, concept], cosines[:, concept]),
        ):
            values = tuple(column[neuron] for column in found)
            if neuron in (3, 5):
                assert np.isnan(values).all()
                continue
            expected = (
                reference.auprc(own, shown.tolist()),
                shown.mean(),
                reference.pearson(own, much.astype(float).tolist()),
                reference.pearson(reference.ranks(own), reference.ranks(much.tolist())),
            )
            # Another product rounds otherwise, which swaps ranks of nearly equal cosines.
            assert values == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("measure", [0, 2, 3])
def test_right_concepts_are_more_faithful_than_any_other(measure):
    """Labels that are wrong, and those with half of the images left out, score less."""
    planted = plant(RECIPE)
    right = np.array([int(row.argmax()) for row in planted.truth])
    wrong = np.roll(right, 1)
    probe, present = planted.probe, planted.present
    rng = np.random.default_rng(0)
    missing = present & (rng.random(present.shape) < 0.5)
    added = present | (rng.random(present.shape) < 0.1)
    best = by_truth(probe, right, present)[measure].mean()
    assert best > by_truth(probe, wrong, present)[measure].mean() + 0.15
    for changed in (missing, added):
        assert best > by_truth(probe, right, changed)[measure].mean() + 0.02
    similar = by_similarity(probe, right)[measure].mean()
    assert similar > by_similarity(probe, wrong)[measure].mean() + 0.05


def test_errors():
    probe = plant(RECIPE).probe
    for share in (0.001, 1.0):
        with pytest.raises(ValueError, match="images with a concept and images without"):
            by_similarity(probe, np.zeros(12, int), share)
