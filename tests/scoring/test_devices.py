"""Equal concepts on one device and on eight, which a separate process emulates."""

import os
import subprocess
import sys

import pytest

from jaxdesc.runtime.mesh import local_mesh
from tests.conftest import ROOT

PROGRAM = """
import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxdesc import scoring
from jaxdesc.scoring import block, screening
from jaxdesc.runtime.mesh import local_mesh
from tests.scoring.features import MAKERS, firsts, same

jax.config.update("jax_num_cpu_devices", 8)
mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("host", "chip"))
seen = []
for module, name in ((block, "score_block"), (screening, "screen_block")):
    look = getattr(module, name)
    def spied(*args, look=look, **options):
        found = look(*args, **options)
        seen.append(found.reach.sharding)
        return found
    setattr(module, name, spied)
for kind in ("mixed", "adversarial"):
    views, rows, texts, base = MAKERS[kind](0)
    counts = sorted({max(1, rows.shape[1] // 2), rows.shape[1]})
    by_engine = []
    for engine in ("full", "screened"):
        options = {"kappas": [0.0, 16.0], "alphas": [0.9], "engine": engine, "block": 30}
        slots = firsts(rows, counts)
        one = scoring.sweep(views, slots, texts, base, **options)
        assert all(len(sharding.device_set) == 1 for sharding in seen)
        seen.clear()
        eight = scoring.sweep(views, slots, texts, base, mesh=mesh, **options)
        by_engine.append(eight)
        for sharding in seen:
            assert len(sharding.device_set) == 8
            assert not sharding.is_fully_replicated
            assert sharding.spec[2] == ("host", "chip"), sharding
        seen.clear()
        for key in one:
            np.testing.assert_array_equal(one[key].counts, eight[key].counts)
            np.testing.assert_array_equal(one[key].concepts, eight[key].concepts)
            scale = np.abs(one[key].maximum).max()
            np.testing.assert_allclose(
                one[key].scores, eight[key].scores, rtol=1e-6, atol=1e-6 * scale
            )
    for key in eight:
        same(*(found[key] for found in by_engine))
assert local_mesh().devices.tolist() == jax.devices()
print("same")
"""


@pytest.mark.full
def test_one_device_and_eight_find_the_same():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "same\n"


def test_one_device_needs_no_mesh():
    assert local_mesh() is None
