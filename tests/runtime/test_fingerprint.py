import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdesc.models.architectures import load_target
from jaxdesc.models.namers import load_clip
from jaxdesc.runtime import fingerprint
from tests.conftest import ROOT

X = np.zeros(3, np.float32)


def weights():
    return {
        "conv": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.zeros(3)},
        "scale": np.float32(2),
        "layers": [np.zeros(1), np.ones(1)],
    }


CHANGES = {
    "value": lambda p: p["conv"]["kernel"].__setitem__((1, 2), np.nextafter(np.float32(5), 6)),
    "sign of zero": lambda p: p["conv"]["bias"].__setitem__(0, -0.0),
    "shape": lambda p: p["conv"].update(kernel=p["conv"]["kernel"].reshape(3, 2)),
    "shape of a scalar": lambda p: p.update(scale=np.full(1, 2, np.float32)),
    "dtype": lambda p: p["conv"].update(bias=np.zeros(3, np.int64)),
    "name": lambda p: p.update(scales=p.pop("scale")),
    "order": lambda p: p["layers"].reverse(),
    "one more": lambda p: p["layers"].append(np.zeros(0)),
    "layout": lambda p: p["conv"].update(kernel=np.asfortranarray(p["conv"]["kernel"][::-1])),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_weights_show_every_change(change):
    changed = weights()
    change(changed)
    assert fingerprint.of_weights(changed) != fingerprint.of_weights(weights())


def test_equal_weights_are_equal():
    before = fingerprint.of_weights(weights())
    assert fingerprint.of_weights(weights()) == before
    on_device = jax.tree.map(lambda a: a if a.dtype == np.float64 else jnp.asarray(a), weights())
    assert fingerprint.of_weights(on_device) == before
    other_layout = jax.tree.map(np.asfortranarray, weights())
    other_layout["scale"] = np.float32(2)  # it has become a vector
    assert fingerprint.of_weights(other_layout) == before
    keys = {fingerprint.of_weights({"dropout": jax.random.key(seed)}) for seed in (0, 1, 1)}
    assert len(keys) == 2


def in_scan(array):
    return lambda x: jax.lax.scan(lambda x, _: (x + array, None), x, length=2)[0]


def in_branch_of_jit(array):
    return jax.jit(lambda x: jax.lax.cond(x[0] > 0, lambda x: x + array, lambda x: x, x))


def in_custom_gradient(array):
    @jax.custom_vjp
    def inner(x):
        return x + array

    inner.defvjp(lambda x: (inner(x), None), lambda _, gradient: (gradient,))
    return inner


def returned(array):
    return lambda x: (x, array)


@pytest.fixture(params=[False, True])
def constants_as_literals(request):
    """JAX's coming way to write constants, which prints them as "[...]"."""
    option = "jax_use_simplified_jaxpr_constants"
    before = getattr(jax.config, option)
    jax.config.update(option, request.param)
    yield
    jax.config.update(option, before)


@pytest.mark.usefixtures("constants_as_literals")
@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("closure", [in_scan, in_branch_of_jit, in_custom_gradient, returned])
def test_a_function_shows_a_changed_closure_array(closure, kind):
    arrays = (np.zeros(3, np.float32), np.zeros(3, np.float32), np.array([0, 0, 1e-6], np.float32))
    first, same, other = (fingerprint.of_function(closure(kind(array)), X) for array in arrays)
    assert first == same
    assert first != other


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (lambda x: jnp.sin(x) * 2.0000002, X),
        (lambda x: jnp.sin(x[::-1]) * 2, X),
        (lambda x: jax.jit(lambda x: jnp.sinh(x) * 2)(x), X),
        (lambda x: jnp.sin(x) * 2, np.zeros(4, np.float32)),
        (lambda x: jnp.sin(x) * 2, np.zeros(3, np.float16)),
    ],
)
def test_a_function_shows_a_changed_constant_operation_and_argument(function, argument):
    before = fingerprint.of_function(lambda x: jnp.sin(x) * 2, X)
    assert before == fingerprint.of_function(lambda x: jnp.sin(x) * 2, X + 5)
    assert before != fingerprint.of_function(function, argument)


def test_a_function_that_calls_out_is_never_the_same():
    """A jaxpr does not show what the host's code does."""

    def function(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    assert fingerprint.of_function(function, X) != fingerprint.of_function(function, X)


def test_inputs_show_every_change():
    inputs = {"kappa": 16.0, "names": ["star", "pentagram"], "crop": {"view": "centre"}}
    before = fingerprint.of_inputs(inputs)
    assert before == fingerprint.of_inputs(dict(reversed(inputs.items())))
    assert before == fingerprint.of_inputs(inputs | {"names": ("star", "pentagram")})
    changes = [{"kappa": 16.5}, {"names": ["star, pentagram"]}, {"crop": {}}, {"alpha": None}]
    assert len({before, *(fingerprint.of_inputs(inputs | change) for change in changes)}) == 5
    assert len(before) == 16


def test_inputs_depend_on_the_code(monkeypatch, tmp_path):
    """Content and name of every file count, except files that show or time results."""
    models, report = tmp_path / "jaxdesc" / "models", tmp_path / "jaxdesc" / "report"
    for folder in (models, report):
        folder.mkdir(parents=True)
    monkeypatch.setattr(fingerprint, "__file__", str(tmp_path / "jaxdesc/runtime/fingerprint.py"))
    prints = []
    for change in (
        lambda: (models / "clip.py").write_text("x = 1"),
        lambda: (models / "clip.py").write_text("x = 2"),
        lambda: (models / "clip.py").rename(models / "vit.py"),
        lambda: (models / "notes.txt").write_text("no code"),
        lambda: (report / "page.py").write_text("shown = 1"),
    ):
        change()
        fingerprint._code.cache_clear()
        prints.append(fingerprint.of_inputs({}))
    fingerprint._code.cache_clear()
    assert len(set(prints)) == 3
    assert prints[2] == prints[3] == prints[4]


PROGRAM = """
import sys
from jaxdesc.runtime import fingerprint
from jaxdesc.models.namers import load_clip
from jaxdesc.models.architectures import load_target
print(load_target(sys.argv[1]).fingerprint)
print(load_clip(sys.argv[2]).fingerprint)
print(fingerprint.of_inputs({"b": [1.5, "é"], "a": None}))
"""


def test_fingerprints_are_the_same_in_another_process(networks):
    here = [
        load_target(str(networks.target)).fingerprint,
        load_clip(str(networks.clip)).fingerprint,
        fingerprint.of_inputs({"b": [1.5, "é"], "a": None}),
    ]
    there = subprocess.check_output(
        [sys.executable, "-c", PROGRAM, *map(str, networks)],
        env=os.environ | {"PYTHONHASHSEED": "7"}, cwd=ROOT, text=True,
    )  # fmt: skip
    assert there.splitlines() == here
