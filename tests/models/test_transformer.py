import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdesc.models.transformer import traced_once


def test_modules_of_one_structure_share_a_trace():
    traces = []

    class Layer(nnx.Module):
        def __init__(self, width, power):
            self.scale, self.power = nnx.Param(jnp.full(width, 2.0)), power

        def __call__(self, x, shift):
            traces.append(self.power)
            return (self.scale * x) ** self.power + (0 if shift is None else shift)

    layers = [Layer(3, 1), Layer(3, 1), Layer(3, 2), Layer(3, 1)]
    layers[1].scale[...] = jnp.full(3, 3.0)

    def network(layers, x):
        for layer in layers:
            x = traced_once(layer, x, None)
        return x

    x = jnp.arange(3.0)
    np.testing.assert_array_equal(jax.jit(network)(nnx.List(layers), x), 2 * (6 * 2 * x) ** 2)
    assert traces == [1, 2]
    np.testing.assert_array_equal(traced_once(layers[0], x, jnp.ones(3)), 2 * x + 1)
