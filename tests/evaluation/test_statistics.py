import numpy as np
import pytest

from jaxdesc.evaluation.statistics import interval, over_probes


def test_over_probes_counts_neurons_not_probe_sets():
    first, second = np.array([0.0, 1.0, 1.0, 0.0]), np.array([1.0, 1.0, 1.0, 0.0])
    found = over_probes([first, second])
    # Neurons' means 0.5, 1, 1, 0: mean 0.625, population variance 0.171875.
    assert found.mean == 0.625
    assert found.error == pytest.approx(np.sqrt(0.171875 / 4))
    assert found.count == 4
    assert over_probes([first]) == over_probes([first, first])


def test_interval_by_hand():
    # Mean 2, std 1 with n − 1, t(0.975; 2) = 4.302653 (any table): 4.302653 / √3 = 2.484138.
    assert interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)
    # t(0.95; 2) = 2.919986.
    assert interval([1, 2, 3], 0.9) == pytest.approx((2 - 1.685855, 2 + 1.685855), abs=1e-6)
    assert interval([0.5, 0.5]) == (0.5, 0.5)


def test_no_interval_of_fewer_than_two():
    assert interval([]) is None
    assert interval([0.7]) is None


@pytest.mark.parametrize(("count", "confidence"), [(2, 0.95), (5, 0.95), (5, 0.8)])
def test_the_interval_covers_as_often_as_it_says(count, confidence):
    """Few probe sets: an interval of normal quantiles would cover 88 % instead of 95 % of 5."""
    rng, trials = np.random.default_rng(0), 3000
    covered = 0
    for values in rng.normal(0.3, 2.0, (trials, count)).tolist():
        low, high = interval(values, confidence)
        covered += low <= 0.3 <= high
    deviation = np.sqrt(confidence * (1 - confidence) / trials)
    assert covered / trials == pytest.approx(confidence, abs=3 * deviation)
