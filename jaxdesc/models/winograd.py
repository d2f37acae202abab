"""3 × 3 convolutions with fewer multiplications, for a CPU.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016: F(2 × 2, 3 × 3)
makes a tile of 2 × 2 outputs from 16 products per channel instead of 36. Its factors are 0, ±1 and
½, so that it rounds no worse than the convolution itself; larger tiles save more and round worse.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, ArrayLike, Float

from jaxdesc.runtime.compiler import contraction, materialised

TILE = 2
# Input tiles of 4 × 4 overlap: they start two pixels apart.
SIDE = TILE + 2

# The names are the paper's: y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A for a kernel g and an input tile d.
BT = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
G = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
AT = ((1, 1, 1, 0), (0, 1, -1, -1))


class WinogradConvolution(nnx.Module):
    """A 3 × 3 convolution of stride 1 with zeros around and a bias, from its kernel."""

    def __init__(
        self, kernel: Float[Array, "3 3 inputs outputs"], bias: Float[Array, " outputs"]
    ) -> None:
        self.kernel = nnx.Param(transformed(kernel))
        self.bias = nnx.Param(bias)

    def __call__(self, x: Float[Array, "batch h w inputs"]) -> Float[Array, "batch h w outputs"]:
        """Return the convolution."""
        return convolve(x, self.kernel[...]) + self.bias[None, None, None]


def transformed(
    kernel: Float[ArrayLike, "3 3 inputs outputs"],
) -> Float[Array, "4 4 inputs outputs"]:
    """Return G g Gᵀ for every pair of channels."""
    rows = np.tensordot(G, np.asarray(kernel, np.float64), 1)
    both = np.tensordot(G, rows.swapaxes(0, 1), 1).swapaxes(0, 1)
    return jnp.asarray(both.astype(np.float32))


# Compiled on its own, so that it is traced once for each shape and not for each layer.
@jax.jit
def convolve(
    x: Float[Array, "batch h w inputs"], kernel: Float[Array, "4 4 inputs outputs"]
) -> Float[Array, "batch h w outputs"]:
    """Convolve with a kernel that is `transformed` already; outputs have the input's size."""
    batch, height, width, _ = x.shape
    down, across = -(-height // TILE), -(-width // TILE)
    missing = ((1, down * TILE + 1 - height), (1, across * TILE + 1 - width))
    tiles = _input_tiles(jnp.pad(x, ((0, 0), *missing, (0, 0))), down, across)
    # One operation: each of the 16 alone may be too small for several cores.
    products = contraction("ijtc,ijcd->ijtd", tiles, kernel)
    rows = [
        [materialised(_combined(factors, list(products[:, j]))) for j in range(SIDE)]
        for factors in AT
    ]
    shape = batch, down, 1, across, 1, kernel.shape[-1]
    outputs = [
        jnp.concatenate(
            [materialised(_combined(factors, row)).reshape(shape) for factors in AT], axis=4
        )
        for row in rows
    ]
    whole = jnp.concatenate(outputs, axis=2).reshape(batch, down * TILE, across * TILE, -1)
    return whole[:, :height, :width]


def _input_tiles(x: Array, down: int, across: int) -> Float[Array, "4 4 tile inputs"]:
    """Bᵀ d B of all tiles."""
    batch, *_, channels = x.shape

    def strided(i: int, j: int) -> Array:
        stop = batch, i + TILE * (down - 1) + 1, j + TILE * (across - 1) + 1, channels
        return jax.lax.slice(x, (0, i, j, 0), stop, (1, TILE, TILE, 1))

    pixels = [[strided(i, j) for j in range(SIDE)] for i in range(SIDE)]
    lines = [[_combined(fs, [row[j] for row in pixels]) for j in range(SIDE)] for fs in BT]
    found = [[_combined(fs, line).reshape(-1, channels) for fs in BT] for line in lines]
    return jnp.stack([jnp.stack(line) for line in found])


def _combined(factors: tuple[float, ...], arrays: list[Array]) -> Array:
    """Sum of some arrays, with factors of 0 and ±1."""
    terms = [array * factor for factor, array in zip(factors, arrays, strict=True) if factor]
    return sum(terms[1:], terms[0])
