from collections import Counter

import numpy as np
import pytest
from scipy import stats

from jaxdesc.evaluation import statistics
from jaxdesc.evaluation.statistics import (
    bootstrap,
    bootstraps,
    interval,
    mcnemar,
    paired,
    proportion,
)


def test_interval_by_hand():
    # Mean 2, std 1 with n − 1, t(0.975; 2) = 4.302653 (any table): 4.302653 / √3 = 2.484138.
    assert interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)
    assert interval([0.5, 0.5]) == (0.5, 0.5)
    assert interval([0.7]) is None


@pytest.mark.parametrize("drawn", [1 << 22, 250])
def test_the_bootstrap_equals_a_loop(drawn, monkeypatch):
    """The draws are the same for all values, taken at once or a few at a time."""
    monkeypatch.setattr(statistics, "DRAWN", drawn)
    monkeypatch.setattr(statistics, "RESAMPLES", 300)
    rng = np.random.default_rng(3)
    first, second = rng.random(17), rng.random(17)
    rows = np.random.default_rng(statistics.SEED).integers(0, 17, (300, 17))
    means = [np.mean([first[i] - second[i] for i in row]) for row in rows]
    expected = np.mean(first) - np.mean(second), *np.quantile(means, [0.025, 0.975])
    assert paired(first, second) == pytest.approx(expected, abs=1e-12)
    assert bootstrap(np.array([0.25])) == (0.25, 0.25, 0.25)
    assert bootstrap(np.ones(4, bool)) == (1, 1, 1)


def test_mcnemar_counts_neurons_of_one_method_alone():
    rng = np.random.default_rng(0)
    first, second = rng.random(40) < 0.7, rng.random(40) < 0.5
    found = mcnemar(first, second)
    pairs = Counter(zip(first.tolist(), second.tolist(), strict=True))
    assert found[:2] == (pairs[True, False], pairs[False, True])
    assert found.p == pytest.approx(stats.binomtest(found[0], sum(found[:2])).pvalue)
    only = np.array([True] * 5 + [False] * 3)
    # Five of five: 2 · (1/2)^5.
    assert mcnemar(only, np.zeros(8, bool)) == (5, 0, pytest.approx(1 / 16))
    assert mcnemar(only, only) == (0, 0, 1)


def test_proportions_by_hand():
    # Wilson, z = 1.959964: (3 + z²/2) / (20 + z²) ± z √(3 · 17/20 + z²/4) / (20 + z²).
    assert proportion(3, 20) == pytest.approx((0.15, 0.052369, 0.360419), abs=1e-6)
    # Clopper and Pearson, no hit: 1 − 0.025^(1/7).
    assert proportion(0, 7, "exact") == pytest.approx((0, 0, 1 - 0.025 ** (1 / 7)))


def test_columns_share_their_draws_and_may_lack_neurons():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, 4))
    values[:150, 1], values[:, 2], values[1:, 3] = np.nan, np.nan, np.nan
    whole, part, none, single = bootstraps(values)
    for found, column in ((whole, values[:, 0]), (part, values[150:, 1])):
        expected = bootstrap(column)
        assert found.mean == pytest.approx(expected.mean)
        np.testing.assert_allclose(found, expected, atol=0.15 * (expected.high - expected.low))
    assert none is None
    assert single == (values[0, 3],) * 3
    # A column minus itself has no width.
    assert bootstraps(values[:, :1] - values[:, :1]) == [(0, 0, 0)]
