import numpy as np
import pytest

from jaxdesc.evaluation.accuracy import NONE, accuracy, single
from jaxdesc.evaluation.statistics import Bounds, bootstrap, wilson
from tests.reference import accuracy as reference


@pytest.mark.parametrize("seed", range(4))
def test_accuracy_equals_the_definition(seed):
    rng = np.random.default_rng(seed)
    selected = [rng.permutation(7)[: rng.integers(0, 5)] for _ in range(30)]
    truth = rng.random((30, 7)) < 0.3
    truth[:, 0] |= ~truth.any(axis=1)
    found = accuracy(selected, truth)
    for neuron, (own, row) in enumerate(zip(selected, truth, strict=True)):
        expected = reference.accuracy(own.tolist(), np.flatnonzero(row).tolist())
        assert tuple(values[neuron] for values in found) == pytest.approx(expected, abs=1e-12)
    bounds = found.bounds(0.9)
    assert bounds["top"] == wilson(int(found.top.sum()), 30, 0.9)
    assert bounds["f1"] == bootstrap(found.f1, 0.9)
    assert list(bounds) == ["top", "precision", "recall", "f1", "jaccard"]


def test_by_hand():
    truth = np.array([[True, True, False], [False, True, False], [True, False, False]])
    found = accuracy([np.array([0, 2]), np.array([], int), np.array([2, 0])], truth)
    np.testing.assert_array_equal(found.top, [True, False, False])
    np.testing.assert_array_equal(found.precision, [0.5, 0, 0.5])
    np.testing.assert_array_equal(found.recall, [0.5, 0, 1])
    np.testing.assert_allclose(found.f1, [0.5, 0, 2 / 3])
    np.testing.assert_allclose(found.jaccard, [1 / 3, 0, 1 / 2])
    perfect = accuracy([np.flatnonzero(row) for row in truth], truth).bounds()
    assert perfect["f1"] == Bounds(1, 1, 1)
    assert perfect["top"].low < 1


def test_a_single_concept_or_none():
    assert [own.tolist() for own in single(np.array([3, NONE, 0]))] == [[3], [], [0]]


def test_errors():
    truth = np.array([[True, False], [False, False]])
    with pytest.raises(ValueError, match=r"1 neurons were described, but .* of 1 of 2"):
        accuracy([np.array([0])], truth)
    with pytest.raises(ValueError, match=r"2 neurons were described, but .* of 1 of 2"):
        accuracy([np.array([0])] * 2, truth)
    with pytest.raises(ValueError, match=r"give the same ones, at least 1"):
        accuracy([], truth[:0])
