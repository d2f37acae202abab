"""AUPRC, correlation and AUC against loops."""

import numpy as np
import pytest

from jaxdesc.evaluation.faithfulness import auc, auprc, by_similarity, by_truth, pearson
from jaxdesc.evaluation.planted import Recipe, plant
from tests.reference import dissect
from tests.reference import faithfulness as reference

RECIPE = Recipe(images=600, neurons=12, shown=40, synonyms=0, hubs=0, distractors=10)


@pytest.mark.parametrize("seed", range(3))
def test_measures_equal_the_definitions(seed):
    rng = np.random.default_rng(seed)
    activations = np.maximum(rng.normal(size=(50, 2)).round(1), 0).astype(np.float32)
    present = rng.random((50, 3)) < 0.3
    present[:, 2] = True
    first, shown = activations[:, 0].astype(float).tolist(), present[:, 0].tolist()
    assert auprc(activations[:, 0], present[:, 0]) == pytest.approx(reference.auprc(first, shown))
    expected = reference.pearson(first, shown)
    assert pearson(activations[:, 0], present[:, 0]) == pytest.approx(expected)
    found = auc(activations, present)
    np.testing.assert_allclose(found, dissect.auc(activations, present), atol=1e-12)
    assert np.isnan(found[:, 2]).all()


def test_by_hand():
    # Precision 1 at recall 1/2, then 2/3 at recall 1.
    assert auprc(np.array([3.0, 2.0, 1.0]), np.array([True, False, True])) == pytest.approx(5 / 6)
    # All found together: precision is the share.
    assert auprc(np.zeros(4), np.array([True, False, False, False])) == 0.25
    assert np.isnan(auprc(np.ones(3), np.zeros(3, bool)))
    assert np.isnan(pearson(np.ones(4), np.arange(4)))


def test_each_neuron_is_measured_with_its_first_concept():
    planted = plant(RECIPE)
    probe = planted.probe
    selected = [np.array([row.argmax(), 0]) for row in planted.truth]
    selected[3] = np.array([], int)
    activations = probe.activations.copy()
    activations[:, 5] = 1.0
    probe = probe._replace(activations=activations)
    cosines = probe.images @ probe.concepts.T
    nearest = dissect.nearest(cosines, 0.1)
    for found, shown, degree in (
        (by_truth(probe, selected, planted.present), planted.present, planted.present),
        (by_similarity(probe, selected, 0.1), nearest, cosines),
    ):
        assert np.flatnonzero(np.isnan(found.auprc)).tolist() == [3, 5]
        assert np.flatnonzero(np.isnan(found.pearson)).tolist() == [3, 5]
        for neuron in (0, 4, 11):
            concept = selected[neuron][0]
            values = activations[:, neuron].astype(float).tolist()
            expected = reference.auprc(values, shown[:, concept].tolist())
            assert found.auprc[neuron] == pytest.approx(expected)
            expected = reference.pearson(values, degree[:, concept].astype(float).tolist())
            assert found.pearson[neuron] == pytest.approx(expected)
