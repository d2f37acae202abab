from collections import Counter

import numpy as np
import pytest
from scipy import stats

from jaxdesc.evaluation import statistics
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


def test_the_bootstrap_equals_a_loop():
    rng = np.random.default_rng(3)
    first, second = rng.random(17), rng.random(17)
    found = statistics.paired(first, second, 0.9, resamples=500, seed=4)
    rows = np.random.default_rng(4).integers(0, 17, (500, 17))
    means = [np.mean([first[i] - second[i] for i in row]) for row in rows]
    ends = np.quantile(means, [0.05, 0.95])
    assert found == pytest.approx((np.mean(first) - np.mean(second), *ends), abs=1e-12)
    assert statistics.paired(first, second, 0.9, 500, 5) != found


def test_a_bootstrap_in_pieces_draws_the_same(monkeypatch):
    values = np.random.default_rng(0).random(30)
    whole = statistics.bootstrap(values, resamples=100)
    monkeypatch.setattr(statistics, "_DRAWN", 250)
    assert statistics.bootstrap(values, resamples=100) == whole


def test_paired_is_narrower_than_unpaired_where_neurons_agree():
    """Two methods with the same neurons in common: 66.2 against 69.8 of 1,000, 60 neurons apart."""
    first, second = np.zeros(1000, bool), np.zeros(1000, bool)
    first[:698], second[12:674] = True, True
    found = statistics.paired(first, second)
    assert found.mean == pytest.approx(0.036)
    assert found.low > 0.02
    unpaired = np.sqrt(0.698 * 0.302 / 1000 + 0.662 * 0.338 / 1000)
    assert found.mean - 1.96 * unpaired < 0


@pytest.mark.parametrize(("count", "least"), [(20, 0.91), (100, 0.935)])
def test_the_bootstrap_covers_about_as_often_as_it_says(count, least):
    """Skewed differences of hits: 30 % of neurons gain, 10 % lose."""
    rng, trials, covered = np.random.default_rng(1), 600, 0
    for number in range(trials):
        values = rng.choice([1.0, 0.0, -1.0], count, p=[0.3, 0.6, 0.1])
        _, low, high = statistics.bootstrap(values, resamples=400, seed=number)
        covered += low <= 0.2 <= high
    deviation = np.sqrt(0.95 * 0.05 / trials)
    assert least - 2 * deviation < covered / trials < 0.95 + 3 * deviation


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_is_the_binomial_test(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.random(40) < 0.7, rng.random(40) < 0.5
    found = statistics.mcnemar(first, second)
    pairs = Counter(zip(first.tolist(), second.tolist(), strict=True))
    assert found[:2] == (pairs[True, False], pairs[False, True])
    expected = stats.binomtest(found.only_first, found.only_first + found.only_second).pvalue
    assert found.p == pytest.approx(expected, abs=1e-12)


def test_mcnemar_by_hand():
    only = np.array([True] * 5 + [False] * 3)
    # Five of five: 2 · (1/2)^5.
    assert statistics.mcnemar(only, np.zeros(8, bool)) == (5, 0, pytest.approx(1 / 16))
    assert statistics.mcnemar(only, only) == (0, 0, 1)
    assert statistics.mcnemar(only, ~only & (np.arange(8) < 7)).p == pytest.approx(
        stats.binomtest(5, 7).pvalue
    )


@pytest.mark.parametrize(("hits", "count"), [(0, 7), (7, 7), (3, 20), (698, 1000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_intervals_of_proportions_are_scipys(hits, count, confidence):
    proportion = stats.binomtest(hits, count)
    for function, method in ((statistics.wilson, "wilson"), (statistics.clopper_pearson, "exact")):
        expected = proportion.proportion_ci(confidence, method)
        assert function(hits, count, confidence) == pytest.approx((hits / count, *expected))


@pytest.mark.parametrize("seed", range(3))
def test_false_discovery_is_scipys(seed):
    p = np.random.default_rng(seed).random(50) ** 3
    p[10:14] = p[10]
    expected = stats.false_discovery_control(p)
    np.testing.assert_allclose(statistics.false_discovery(p), expected, rtol=1e-12)
    assert statistics.false_discovery(np.empty(0)).shape == (0,)


def test_errors():
    with pytest.raises(ValueError, match="a bootstrap of 0 values, 10 resamples"):
        statistics.bootstrap(np.empty(0), resamples=10)
    with pytest.raises(ValueError, match=r"confidence 1.5 isn't possible"):
        statistics.bootstrap(np.ones(3), confidence=1.5)
    with pytest.raises(ValueError, match="3 neurons are compared with 4"):
        statistics.paired(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match="must have described the same ones"):
        statistics.mcnemar(np.ones(3, bool), np.ones(4, bool))
    for function in (statistics.wilson, statistics.clopper_pearson):
        for hits, count in ((3, 2), (0, 0), (-1, 4)):
            with pytest.raises(ValueError, match=f"{hits} hits of {count} trials"):
                function(hits, count)
    for wrong in (np.nan, -0.1, 1.1):
        with pytest.raises(ValueError, match="a p-value isn't within 0 to 1"):
            statistics.false_discovery(np.array([0.5, wrong]))
