"""CoSy's comparison against loops, DeLong's interval, and ablation's effect."""

import numpy as np
import pytest
from scipy.stats import norm

from jaxdesc.evaluation.judging.ablation import chosen_images, effect
from jaxdesc.evaluation.judging.control import against_control
from tests.reference import judges as reference


@pytest.mark.parametrize("seed", range(3))
def test_it_equals_the_definitions(seed):
    rng = np.random.default_rng(seed)
    ours, others = rng.normal(0.5, 1, 30).round(1), rng.normal(size=50).round(1)
    found = against_control(ours, others)
    auc = reference.auc(ours.tolist(), others.tolist())
    reach = norm.ppf(0.975) * np.sqrt(reference.auc_variance(ours.tolist(), others.tolist()))
    assert found.auc == pytest.approx((auc, max(0, auc - reach), min(1, auc + reach)))
    assert found.mad.mean == pytest.approx((ours.mean() - others.mean()) / others.std(ddof=1))
    assert found.mad.low < found.mad.mean < found.mad.high


def test_the_interval_covers_what_it_says():
    rng, truth = np.random.default_rng(0), norm.cdf(0.8 / np.sqrt(2))
    inside = 0
    for _ in range(300):
        found = against_control(rng.normal(0.8, 1, 40), rng.normal(size=60)).auc
        inside += found.low <= truth <= found.high
    assert 0.91 <= inside / 300 <= 0.98


def test_sides_without_a_spread():
    found = against_control(np.ones(3), np.ones(4))
    assert np.isnan(found.auc.mean)
    assert np.isnan(found.mad.mean)
    found = against_control(np.ones(3), np.zeros(4))
    assert found.auc == (1, 1, 1)
    assert np.isnan(found.mad.mean)
    assert against_control(np.ones(3), np.array([0.0, 1.0, 0.5])).mad.mean == pytest.approx(1)


def test_the_effect_is_where_the_concept_is():
    falls = np.array([[3.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    shown = np.array([True, True, False, False])
    assert effect(falls, shown) == (1.5, -1.0)
    assert np.isnan(effect(falls, np.ones(4, bool)).unit)


def test_images_with_and_without_are_drawn_evenly():
    shown = np.array([True, False, True, False, False, True])
    assert chosen_images(shown, 2, [5, 4, 3, 2, 1, 0]).tolist() == [2, 3, 4, 5]
