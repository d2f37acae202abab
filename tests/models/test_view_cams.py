"""Each map of attention as the pipeline computes it: one program, from views as they were cut."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxdesc.attention.saliency import METHODS, saliency
from jaxdesc.errors import InputError
from tests import plain_target

ROOT = Path(__file__).parents[2]


def views(seed, count=9):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("method", METHODS)
def test_it_is_the_map_of_the_pixels(method):
    target, labels = plain_target.plain_target(), np.arange(9, dtype=np.int32) % 6
    pixels = target.preprocess.normalise(views(0))
    for classes in (None, labels):
        found = target.view_cams(views(0), classes, method)
        expected = saliency(method, target, pixels, classes)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(found, target.view_cams(views(0), None, method))


def test_grad_cam_is_the_default():
    target = plain_target.plain_target()
    usual, named = target.view_cams(views(1)), target.view_cams(views(1), None, "grad_cam")
    np.testing.assert_array_equal(usual, named)


@pytest.mark.parametrize("method", METHODS)
def test_one_trace_a_shape(method):
    traced = []

    def trunk(params, pixels):
        traced.append(pixels.shape)
        return plain_target.trunk(params, pixels)

    target = plain_target.plain_target(trunk=trunk)
    target.view_cams(views(2), None, method)
    before = len(traced)
    target.view_cams(views(3), None, method)
    other = plain_target.plain_target(
        jax.tree.map(lambda x: 2 * x, target.params), trunk=trunk, head=target.head
    )
    assert other.layers  # its shapes are found by a trace of their own
    before = len(traced)
    other.view_cams(views(3), None, method)
    assert len(traced) == before


PROGRAM = """
import jax
import numpy as np
from jaxdesc.runtime.mesh import local_mesh
from jaxdesc.attention.saliency import METHODS
from tests import plain_target
from tests.models.test_view_cams import views

jax.config.update("jax_num_cpu_devices", 8)
target = plain_target.plain_target()
shared, labels = target.on(local_mesh()), np.arange(16, dtype=np.int32) % 6
for method in METHODS:
    for classes in (None, labels):
        eight = shared.view_cams(views(4, 16), classes, method)
        assert len(eight.sharding.device_set) == 8
        assert not eight.sharding.is_fully_replicated
        one = np.asarray(target.view_cams(views(4, 16), classes, method))
        np.testing.assert_allclose(np.asarray(eight), one, rtol=1e-5, atol=1e-6)
print("same")
"""


def test_eight_devices_share_the_views_out():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "same\n"


def test_errors():
    target = plain_target.plain_target(name="mine")
    with pytest.raises(
        InputError,
        match=r"^Unknown map of attention 'gradcam': expected one of cam, grad_cam, grad_cam_pp, "
        r"layer_cam, score_cam\.$",
    ):
        target.view_cams(views(0), None, "gradcam")

    def relus(params, maps):
        return jax.nn.relu(plain_target.head(params, maps))

    bent = plain_target.plain_target(head=relus, name="mine")
    for method in METHODS:
        if method != "cam":
            bent.check_cam(method)
    for on in (bent, bent.on(None)):
        with pytest.raises(
            InputError,
            match=r"^mine: CAM needs a head that takes the mean over positions and applies one "
            r"linear layer, but this network's does otherwise: choose another method\.$",
        ):
            on.view_cams(views(0), None, "cam")
