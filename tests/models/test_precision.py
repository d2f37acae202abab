"""float32 products everywhere, whatever an accelerator's default: told from the programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.lax import Precision

import jaxdesc as jd
from jaxdesc.models import encoder

PRODUCTS = ("dot_general", "conv_general_dilated")


def products(program):
    """The precision of every product in a program and in the programs within it."""
    for equation in program.eqns:
        if equation.primitive.name in PRODUCTS:
            yield equation.params["precision"]
        for value in jax.tree.leaves(list(equation.params.values())):
            if isinstance(value, ClosedJaxpr):
                yield from products(value.jaxpr)
            elif isinstance(value, Jaxpr):
                yield from products(value)


def precisions(function, *arguments):
    return list(products(jax.make_jaxpr(function)(*arguments).jaxpr))


@pytest.fixture(scope="module")
def clip():
    return jd.load_clip("scenes")


HIGHEST = {(Precision.HIGHEST, Precision.HIGHEST)}


def test_a_target_and_its_attention():
    target = jd.load_target("scenes")
    found = precisions(target._everything, target.params, np.zeros((1, 112, 112, 3), np.float32))
    assert len(found) > 12
    assert set(found) == HIGHEST


def test_clip_s_towers(clip):
    pixels, ids = np.zeros((1, 48, 48, 3), np.float32), np.zeros((1, 8), np.int32)
    images = precisions(lambda p: encoder._images(clip.graph, p, pixels), clip.params)
    texts = precisions(lambda p: encoder._texts(clip.graph, p, ids), clip.params)
    # A layer: q, k, v, scores, mixing, out, fc1, fc2; and the patches and a projection.
    assert (len(images), len(texts)) == (4 * 8 + 2, 2 * 8 + 1)
    assert {*images, *texts} == HIGHEST


def test_without_it_precision_would_be_the_device_s(clip):
    """That the test above can fail: a layer called past its tower has no precision of its own."""
    from flax import nnx

    model = nnx.merge(clip.graph, clip.params)
    found = precisions(model.vision.layers[0], jnp.zeros((1, 4, 128)))
    assert set(found) == {None}
