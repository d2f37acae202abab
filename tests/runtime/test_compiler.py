from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdesc.runtime import compiler
from jaxdesc.runtime.compiler import (
    compiler_options,
    in_pieces,
    jit,
    lowered_for,
    materialised,
)


@jit
def scaled(x, factor):
    return factor * x


@partial(jit, static=("power",))
def raised(x, power=2):
    return x**power


def test_a_compiled_function_is_the_function():
    x = jnp.arange(3.0)
    np.testing.assert_array_equal(scaled(x, factor=2.0), [0, 2, 4])
    np.testing.assert_array_equal(raised(x, power=3), [0, 1, 8])
    # Within another transformation too.
    np.testing.assert_array_equal(jax.jit(lambda x: raised(scaled(x, 2.0)))(x), [0, 4, 16])
    np.testing.assert_array_equal(jax.vmap(raised)(x), [0, 1, 4])
    assert jax.grad(raised)(3.0) == 6


def test_the_options_reach_the_compiler_where_the_backend_knows_them(monkeypatch):
    asked = []
    real = jax.jit
    monkeypatch.setattr(
        jax, "jit", lambda *args, **options: asked.append(options) or real(*args, **options)
    )
    compiler_options.cache_clear()
    assert jit(jnp.negative)(1.0) == -1
    assert asked[-1]["compiler_options"] == compiler_options("cpu")


@pytest.mark.parametrize(
    ("platform", "option"), [("gpu", None), ("cpu", "xla_no_release_knows_this_option")]
)
def test_other_platforms_and_releases_get_none(platform, option, monkeypatch):
    if option:
        monkeypatch.setattr(compiler, "_CPU_OPTIONS", {option: ""})
    compiler_options.cache_clear()
    assert compiler_options(platform) == {}
    compiler_options.cache_clear()


def test_what_is_materialised_is_computed_once():
    def once(x):
        kept = materialised(jnp.sin(x))
        return kept @ x, kept + 1

    x = jnp.ones((64, 64))
    program = jit(once).lower(x).compile().as_text()
    assert program.count(" sine(") == 1
    np.testing.assert_allclose(jit(once)(x)[1], np.sin(x) + 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("count", "piece"),
    [(1, 1), (4, 4), (5, 5), (8, 4), (10, 5), (11, 4), (13, 13), (17, 3), (50, 5)],
)
@pytest.mark.parametrize("platform", ["cpu", "tpu", "gpu"])
def test_pieces_are_the_whole(count, piece, platform):
    rows = np.arange(6.0 * count, dtype=np.float32).reshape(count, 2, 3)
    sizes, most = [], {"cpu": 4, "tpu": 4}

    def both(_, taken):
        one, other = taken
        sizes.append(len(one))
        return {"sum": one.sum(axis=(1, 2)), "other": other + one[:, 0, 0]}

    piecewise = jax.jit(lambda rows, other: in_pieces(both, None, (rows, other), most))
    with lowered_for(platform):
        found = piecewise(rows, rows[:, 1, 1])
    np.testing.assert_array_equal(found["sum"], rows.sum(axis=(1, 2)))
    np.testing.assert_array_equal(found["other"], rows[:, 1, 1] + rows[:, 0, 0])
    assert sizes == [piece if platform in most else count]
