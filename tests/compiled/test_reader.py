"""The reader of compiled programs against counts by hand: what a TPU's and a GPU's compiler write.

tests/runtime/test_compiled.py has more of them, on the CPU.
"""

from functools import cache

import jax
import jax.numpy as jnp
import pytest

from jaxdesc.runtime import chips
from jaxdesc.runtime.compiled import Compiled
from jaxdesc.runtime.mesh import Shapes

DEVICES = ["v5e", "h100"]
on = cache(chips.described)  # each call makes new devices, which don't go together


def compiled(device, function, *sides, dtype=jnp.bfloat16, donate=()):
    """A function of arrays on a device; an array is given by its sides, or as it is."""
    chip, devices = on(device)
    array = Shapes(devices).array
    arguments = [array(*each, dtype=dtype) if isinstance(each, tuple) else each for each in sides]
    return Compiled.of(jax.jit(function, donate_argnums=donate).lower(*arguments), chip.compiler)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_a_product(device, dtype):
    program = compiled(device, jnp.matmul, (512, 1024), (1024, 256), dtype=dtype)
    assert program.flops == 2 * 512 * 1024 * 256
    kind = {2: "bf16", 4: "f32"}[dtype.dtype.itemsize]
    assert {product.types for product in program.products} == {(kind, kind)}
    moved = 512 * 1024 + 1024 * 256 + 512 * 256
    assert program.bytes == dtype.dtype.itemsize * moved


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_without_its_padding(device, stride):
    def convolve(images, kernel):
        return jax.lax.conv_general_dilated(
            images, kernel, (stride, stride), [(1, 1)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    program = compiled(device, convolve, (8, 14, 14, 64), (3, 3, 64, 128))
    # Of three taps on each output, one falls on the padding in front, with stride 1 one behind.
    pairs = 3 * 14 - 2 if stride == 1 else 3 * 7 - 1
    assert program.flops == 2 * 8 * 64 * 128 * pairs**2


@pytest.mark.parametrize("device", DEVICES)
def test_a_batch_of_products(device):
    """A TPU's compiler writes it as a convolution over a dilated axis."""
    program = compiled(
        device, lambda a, b: jnp.einsum("bqhd,bkhd->bhqk", a, b), *[(4, 64, 12, 128)] * 2
    )
    assert program.flops == 4 * 12 * 2 * 64 * 64 * 128


@pytest.mark.parametrize("device", DEVICES)
def test_a_loop_counts_as_often_as_it_runs(device):
    def looped(total, matrices):
        return jax.lax.scan(lambda total, each: (total @ each, None), total, matrices)[0]

    program = compiled(device, looped, (256, 256), (12, 256, 256))
    assert program.flops == 12 * 2 * 256**3
    # At least the matrices are read. At most the matrix is also copied and read again, and the sum
    # read, written and copied.
    assert 12 * 2 * 256**2 <= program.bytes <= 7.5 * 12 * 2 * 256**2


@pytest.mark.parametrize("device", DEVICES)
def test_a_gather_reads_the_rows_that_it_takes(device):
    chosen = Shapes(on(device)[1]).array(8, dtype=jnp.int32)
    rows = 1 << 18  # too large for a TPU's on-chip memory

    def take(rows, chosen):
        return rows.at[chosen].get(mode="promise_in_bounds")

    program = compiled(device, take, (rows, 512), chosen, dtype=jnp.float32)
    assert 8 * 512 * 4 <= program.bytes <= 3 * 8 * 512 * 4


@pytest.mark.parametrize("device", DEVICES)
def test_an_update_in_place_writes_what_it_changes(device):
    def update(rows, few, start):
        return jax.lax.dynamic_update_slice(rows, few * 2, (start, 0))

    start, rows = Shapes(on(device)[1]).array(dtype=jnp.int32), (1 << 18, 512)
    program = compiled(device, update, rows, (8, 512), start, dtype=jnp.float32, donate=0)
    assert 8 * 512 * 4 <= program.bytes <= 3 * 8 * 512 * 4
    assert program.memory < 1.1 * (1 << 18) * 512 * 4


def test_what_a_tpu_pads():
    """A row of 50 takes as much memory as one of 128."""
    program = compiled("v5e", jnp.negative, (100_000, 50), dtype=jnp.float32)
    assert program.bytes in (2 * 100_000 * 128 * 4, 2 * 100_096 * 56 * 4)


def test_what_chips_exchange():
    mesh = Shapes(on("v5e:2x4")[1]).mesh
    spec = jax.sharding.PartitionSpec
    rows = Shapes(on("v5e:2x4")[1]).array(1024, 512, axis=0)
    gathered = jax.shard_map(
        lambda a: jax.lax.all_gather(a, "device", tiled=True),
        mesh=mesh, in_specs=spec("device"), out_specs=spec(), check_vma=False,
    )  # fmt: skip
    program = compiled("v5e:2x4", gathered, rows)
    assert program.collectives == {"all-gather": 1}
    summed = jax.shard_map(
        lambda a: jax.lax.psum(a, "device"), mesh=mesh, in_specs=spec("device"), out_specs=spec()
    )
    assert compiled("v5e:2x4", summed, rows).collectives == {"all-reduce": 1}
