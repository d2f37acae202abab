"""The t-vMF similarity against its definition, and the entries of the registry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdesc.similarity import SIMILARITIES, check_kappa, t_vmf, t_vmf_difference
from tests.reference import scoring as reference

KAPPAS = [0.0, 1e-3, 0.5, 16.0, 1e5, 1e6]
# XLA flushes subnormal numbers to zero, so tiny cosines and differences are left out.
float32_cosine = st.floats(-1, 1, width=32).filter(lambda c: c == 0 or abs(c) > 1e-20)


def cosines(seed, count=500):
    """Random cosines, some of them close to the ends, where t-vMF is steep."""
    rng = np.random.default_rng(seed)
    near_one = 1 - 10.0 ** rng.uniform(-6, 0, count)
    return np.concatenate([rng.uniform(-1, 1, count), near_one, [-1, 0, 1]]).astype(np.float32)


@pytest.mark.parametrize("kappa", KAPPAS)
def test_t_vmf_and_its_difference_equal_the_definition(kappa):
    cosine, base = cosines(0), cosines(1)
    expected = reference.t_vmf(cosine, kappa)
    # φ may pass through zero between values near 1, so the error is of the order of the inputs.
    np.testing.assert_allclose(t_vmf(cosine, kappa), expected, rtol=1e-6, atol=1e-6)
    # The float64 oracle subtracts numbers near 1 and so is itself off by 1e-16.
    expected = expected - reference.t_vmf(base, kappa)
    for array in (np.asarray, jnp.asarray):
        found = t_vmf_difference(array(cosine), array(base), np.float32(kappa))
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-15)


@given(cosine=float32_cosine, base=float32_cosine)
@settings(max_examples=50, deadline=None)
def test_kappa_zero_is_the_cosine_bit_for_bit(cosine, base):
    cosine, base = np.float32(cosine), np.float32(base)
    assert np.asarray(jax.jit(t_vmf)(cosine, 0.0)).tobytes() == cosine.tobytes()
    plain = SIMILARITIES["cosine"].difference(cosine, base, 0.0)
    assert t_vmf_difference(cosine, base, 0.0) == plain == cosine - base


@pytest.mark.parametrize("kappa", [16.0, 1e6])
def test_rounding_above_one_does_not_meet_the_pole(kappa):
    above = np.float32(1) + np.float32(1e-6)
    assert t_vmf(above, kappa) == above
    found, at_one = (
        float(t_vmf_difference(c, np.float32(0.25), kappa)) for c in (above, np.float32(1))
    )
    assert found == pytest.approx(at_one, rel=1e-5)


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize("kappa", KAPPAS)
def test_slopes_bound_how_far_a_mean_moves(name, kappa):
    difference, slope = SIMILARITIES[name].difference, SIMILARITIES[name].slope
    rng = np.random.default_rng(0)
    for count in (1, 5):
        middle = rng.choice(cosines(0), (400, 1)).astype(float)
        near = np.clip(middle + rng.uniform(-0.05, 0.05, (400, count)), -1, 0.9999)
        rise = difference(near, np.float64(-1), kappa).mean(axis=1)
        moved = difference(near + 1e-4, near, kappa).mean(axis=1)
        assert (moved <= 1e-4 * slope(rise, count, 1e-4, kappa) * (1 + 1e-9)).all()


@pytest.mark.parametrize("name", [name for name, own in SIMILARITIES.items() if own.screened])
@pytest.mark.parametrize("kappa", KAPPAS)
def test_screened_similarities_have_no_negative_derivative(name, kappa):
    values = SIMILARITIES[name].difference(np.linspace(-1, 1, 201), np.float64(-1), kappa)
    for _ in range(3):
        values = np.diff(values)
        assert (values >= -1e-12).all()


@pytest.mark.parametrize("kappa", [-1.0, np.inf, np.nan])
def test_bad_kappa(kappa):
    with pytest.raises(ValueError, match=r"kappa is .*, but the concentration must be a fin"):
        check_kappa(kappa)
