import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdesc.similarity import t_vmf, t_vmf_difference
from tests.reference import similarity as reference

KAPPAS = [0.0, 1e-3, 0.5, 16.0, 1e5, 1e6]
# XLA flushes subnormal numbers to zero, so tiny cosines and differences are left out.
float32_cosine = st.floats(-1, 1, width=32).filter(lambda c: c == 0 or abs(c) > 1e-20)


def cosines(seed, count=500):
    """Random cosines, some of them close to the ends, where t-vMF is steep."""
    rng = np.random.default_rng(seed)
    near_one = 1 - 10.0 ** rng.uniform(-6, 0, count)
    return np.concatenate([rng.uniform(-1, 1, count), near_one, [-1, 0, 1]]).astype(np.float32)


@pytest.mark.parametrize("kappa", KAPPAS)
@pytest.mark.parametrize("seed", [0, 1])
def test_t_vmf_equals_the_definition(kappa, seed):
    cosine = cosines(seed)
    # φ may pass through zero between values near 1, so the error is of the order of the inputs.
    np.testing.assert_allclose(
        t_vmf(cosine, kappa), reference.t_vmf(cosine, kappa), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("kappa", KAPPAS)
@pytest.mark.parametrize("seed", [0, 1])
def test_difference_equals_the_definition_relatively(kappa, seed):
    cosine, base = cosines(seed), cosines(seed + 10)
    exact = reference.t_vmf(cosine, kappa) - reference.t_vmf(base, kappa)
    # The float64 oracle subtracts numbers near 1 and so is itself off by 1e-16.
    np.testing.assert_allclose(t_vmf_difference(cosine, base, kappa), exact, rtol=1e-6, atol=1e-15)


def test_difference_keeps_what_a_naive_subtraction_loses():
    u, w, kappa = np.float32(0.2501), np.float32(0.25), 1e5
    assert t_vmf(u, kappa) == t_vmf(w, kappa)
    exact = reference.t_vmf(u, kappa) - reference.t_vmf(w, kappa)
    assert t_vmf_difference(u, w, kappa) == pytest.approx(exact, rel=1e-6)


@given(cosine=float32_cosine, base=float32_cosine)
@settings(max_examples=50, deadline=None)
def test_kappa_zero_is_the_cosine_bit_for_bit(cosine, base):
    cosine, base = np.float32(cosine), np.float32(base)
    assert np.asarray(t_vmf(cosine, 0)).tobytes() == cosine.tobytes()
    assert np.asarray(jax.jit(t_vmf)(cosine, 0.0)).tobytes() == cosine.tobytes()
    assert t_vmf_difference(cosine, base, 0) == cosine - base


@pytest.mark.parametrize("kappa", [16.0, 1e6])
def test_rounding_above_one_does_not_meet_the_pole(kappa):
    above = np.float32(1) + np.float32(1e-6)
    assert t_vmf(above, kappa) == above
    found, at_one = (float(t_vmf_difference(u, np.float32(0.25), kappa)) for u in (above, 1.0))
    assert found == pytest.approx(at_one, rel=1e-5)


def test_kappa_may_be_traced():
    traced = jax.jit(t_vmf)(jnp.float32(0.5), jnp.float32(16))
    assert traced == pytest.approx(reference.t_vmf(0.5, 16), abs=1e-6)


@pytest.mark.parametrize("kappa", [-1.0, -1e-9, np.inf, np.nan])
def test_bad_kappa(kappa):
    for call in (lambda: t_vmf(0.5, kappa), lambda: t_vmf_difference(0.5, 0.2, kappa)):
        with pytest.raises(ValueError, match=r"kappa is .*, but the concentration must be a fin"):
            call()
