import numpy as np
import pytest
from scipy.stats import norm

from jaxdesc.evaluation.contrast import contrast
from tests.reference import contrast as oracle


@pytest.fixture
def activations(rng):
    """Twelve pairs of five neurons, rounded so that many values tie, far from zero in part."""
    present, absent = rng.normal(size=(2, 12, 5))
    shift = np.array([0, 1, -2, 0.5, 1000])
    return np.round(present + np.array([0, 0.5, 2, 0, 1]), 1) + shift, np.round(absent, 1) + shift


def test_equals_the_definitions(activations):
    present, absent = activations
    found = contrast(present, absent, 0.9, 200, seed=3)
    for neuron, (one, other) in enumerate(zip(present.T, absent.T, strict=True)):
        for name, statistic in (("auc", oracle.auc), ("smd", oracle.smd)):
            ends = oracle.interval(statistic, one, other, 0.9, 200, 3)
            expected = [statistic(one, other), *ends]
            own = [getattr(found, f"{name}{end}")[neuron] for end in ("", "_low", "_high")]
            np.testing.assert_allclose(own, expected, rtol=1e-9, atol=1e-9)


def test_intervals_cover_what_they_should():
    """A truth known in closed form: pairs that share a part, as two scenes of a pair do."""
    rng, shift, shared = np.random.default_rng(0), 0.8, 0.7
    spread = np.sqrt(1 + shared**2)
    experiments, pairs = 400, 48
    common = shared * rng.normal(size=(pairs, experiments))
    present, absent = rng.normal(size=(2, pairs, experiments)) + common
    found = contrast(present + shift, absent, resamples=400)
    for name, truth in (("auc", norm.cdf(shift / (2**0.5 * spread))), ("smd", shift / spread)):
        low, high = getattr(found, f"{name}_low"), getattr(found, f"{name}_high")
        assert 0.91 < np.mean((low <= truth) & (truth <= high)) < 0.98
        assert 0 < np.mean(truth < low) < 0.06  # neither end misses alone
        assert 0 < np.mean(truth > high) < 0.06


def test_pairs_are_drawn_whole(rng):
    """What two scenes of a pair share leaves the difference alone: its interval is narrow."""
    common = 5 * rng.normal(size=(40, 1))
    present, absent = common + 1 + 0.01 * rng.normal(size=(40, 1)), common
    alone = contrast(present, absent[rng.permutation(40)])
    together = contrast(present, absent)
    assert together.smd_high - together.smd_low < 0.3 * (alone.smd_high - alone.smd_low)


def test_constant_activations_have_none():
    present, absent = np.ones((3, 2)), np.ones((3, 2))
    absent[:, 1] = 0.1  # alike on each side, but not on both
    found = contrast(present, absent)
    assert all(np.isnan(values[0]) for values in found)
    assert (found.auc[1], found.auc_low[1], found.auc_high[1]) == (1, 1, 1)
    assert np.isnan([found.smd[1], found.smd_low[1], found.smd_high[1]]).all()


def test_no_neurons_have_no_contrast():
    assert contrast(np.ones((3, 0)), np.ones((3, 0))).auc.shape == (0,)


def test_what_can_not_be_compared():
    with pytest.raises(
        ValueError, match=r"have shape \(3, 1\), those without \(4, 1\): give the s"
    ):
        contrast(np.ones((3, 1)), np.ones((4, 1)))
    with pytest.raises(ValueError, match=r"the same pairs and neurons, at least 2 pairs\.$"):
        contrast(np.ones((1, 1)), np.ones((1, 1)))
    with pytest.raises(ValueError, match=r"^an activation isn't finite: leave out images"):
        contrast(np.full((3, 1), np.nan), np.ones((3, 1)))
    for wrong in ({"resamples": 0}, {"confidence": 1.0}):
        with pytest.raises(ValueError, match=r"aren't possible: give at least 1, and a confid"):
            contrast(np.ones((3, 1)), np.ones((3, 1)), **wrong)
