import numpy as np
from scipy.stats import norm

from jaxdesc.evaluation import contrast as module
from jaxdesc.evaluation.contrast import contrast
from tests.reference import contrast as oracle


def test_equals_the_definitions(rng, monkeypatch):
    """Pairs rounded so that many values tie, far from zero in part."""
    monkeypatch.setattr(module, "RESAMPLES", 200)
    for shift in (0, 0.5, 1000):
        present = np.round(rng.normal(size=12) + 0.5, 1) + shift
        absent = np.round(rng.normal(size=12), 1) + shift
        found = contrast(present, absent)
        ends = oracle.interval(oracle.auc, present, absent, 0.95, 200, 0)
        np.testing.assert_allclose(found.auc, [oracle.auc(present, absent), *ends], rtol=1e-9)
        np.testing.assert_allclose(found.smd, oracle.smd(present, absent), rtol=1e-9)


def test_intervals_cover_what_they_should(monkeypatch):
    """A truth known in closed form: pairs that share a part, as two scenes of a pair do."""
    monkeypatch.setattr(module, "RESAMPLES", 300)
    rng, shift, shared, experiments = np.random.default_rng(0), 0.8, 0.7, 200
    common = shared * rng.normal(size=(experiments, 48))
    present, absent = rng.normal(size=(2, experiments, 48)) + common
    truth = norm.cdf(shift / np.sqrt(2 * (1 + shared**2)))
    found = [contrast(*pair).auc for pair in zip(present + shift, absent, strict=True)]
    _, low, high = np.transpose(found)
    assert 0.9 < np.mean((low <= truth) & (truth <= high)) < 0.99
    assert 0 < np.mean(truth < low) < 0.07  # neither end misses alone
    assert 0 < np.mean(truth > high) < 0.07


def test_constant_activations_have_none():
    found = contrast(np.ones(3), np.ones(3))
    assert np.isnan([*found.auc, found.smd]).all()
    found = contrast(np.ones(3), np.full(3, 0.1))  # constant on each side, but not on both
    assert found.auc == (1, 1, 1)
    assert np.isnan(found.smd)
