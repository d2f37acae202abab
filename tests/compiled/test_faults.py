"""Each check of checks.py catches a planted fault; the real programs pass the same functions."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from jaxdesc.runtime.compiled import Compiled
from jaxdesc.runtime.mesh import Shapes
from jaxdesc.stages.programs import Program
from tests.compiled import checks
from tests.compiled.cases import devices

SIDE = 512


def planted(function, *arguments, devices=1, stage="embed"):
    """A program of our own, as the list of a run would have it."""
    return Program(stage, "planted", partial(jax.jit(function)), arguments, 1, SIDE, devices)


def compiled(program, device):
    """The program, compiled, and the chip, as the checks take them."""
    chip, _ = devices(device)
    return program, Compiled.of(program.lower(), chip.compiler), chip


def shape(device, *sides, dtype=jnp.float32):
    return Shapes(devices(device)[1]).array(*sides, dtype=dtype)


def square(device, dtype=jnp.float32):
    return shape(device, SIDE, SIDE, dtype=dtype)


@pytest.mark.parametrize("device", ["v5e", "h100"])
def test_a_plain_product_passes(device):
    program = planted(jnp.matmul, *[square(device, jnp.bfloat16)] * 2)
    checks.check(*compiled(program, device), bfloat16=True)


@pytest.mark.parametrize("device", ["v5e", "h100"])
def test_more_memory_than_the_chip_has(device):
    program, program_compiled, chip = compiled(planted(jnp.matmul, *[square(device)] * 2), device)
    checks.fits(program, program_compiled, chip)
    with pytest.raises(AssertionError, match="bytes of"):
        checks.fits(program, program_compiled, replace(chip, memory=3 * 4 * SIDE**2 - 1))


@pytest.mark.parametrize(
    ("stage", "exchanged"), [("embed", "f32"), ("score (full)", "more than the reach")]
)
def test_an_exchange_between_chips(stage, exchanged):
    several = devices("v5e:2x4")[1]
    shapes = Shapes(several)

    def summed(rows):
        return jax.lax.psum(rows.sum(0, keepdims=exchanged != "f32"), "device")

    each = partial(
        jax.shard_map,
        mesh=shapes.mesh,
        in_specs=PartitionSpec("device"),
        out_specs=PartitionSpec(),
    )
    rows, reach = shapes.array(SIDE, 7, axis=0), jax.ShapeDtypeStruct((1, 1000, 1), jnp.float32)
    program = planted(
        lambda rows, *_: each(summed)(rows), rows, reach, 8, devices=len(several), stage=stage
    )
    program = replace(program, name="a block of concepts")
    with pytest.raises(AssertionError, match=r"all-reduce|1, 7"):
        checks.exchanges_little(*compiled(program, "v5e:2x4"))


@pytest.mark.parametrize("device", ["v5e", "h100"])
def test_a_number_of_64_bits(device):
    with jax.enable_x64(True):
        program = planted(lambda a: a.astype(jnp.float64).sum() * 1.1, square(device))
        faulty = compiled(program, device)
    with pytest.raises(AssertionError, match="f64"):
        checks.holds_no_wide_types(*faulty)


def test_a_call_of_the_host():
    def calling(a):
        return jax.pure_callback(lambda b: b, a, a)

    faulty = compiled(planted(calling, square("v5e")), "v5e")  # JAX lowers none for an absent GPU
    with pytest.raises(AssertionError, match=r"call|send|recv"):
        checks.leaves_the_host_alone(*faulty)


@pytest.mark.parametrize("device", ["v5e", "h100"])
def test_a_float32_convolution_in_a_bfloat16_network(device):
    def network(images, kernel, weights):
        maps = jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=jax.lax.Precision.HIGHEST,
        )  # fmt: skip
        return maps.astype(jnp.bfloat16).mean((1, 2)) @ weights

    given = partial(shape, device)
    weights = given(64, SIDE, dtype=jnp.bfloat16)
    program = planted(network, given(8, 16, 16, 64), given(3, 3, 64, 64), weights)
    faulty = compiled(program, device)
    checks.multiplies_on_the_matrix_unit(*faulty)
    with pytest.raises(AssertionError, match="is not bfloat16"):
        checks.multiplies_in_bfloat16(*faulty)


@pytest.mark.parametrize("device", ["v5e", "h100"])
def test_a_product_as_a_sum(device):
    def by_hand(a, b):
        return (a[:, :, None] * b[None]).sum(1)

    faulty = compiled(planted(by_hand, *[square(device)] * 2), device)
    with pytest.raises(AssertionError, match="reduce"):
        checks.multiplies_on_the_matrix_unit(*faulty)
    product = planted(jnp.matmul, *[square(device)] * 2)  # if a compiler made that of it
    with pytest.raises(AssertionError, match=r"0 of 2.* operations"):
        checks.multiplies_on_the_matrix_unit(product, *faulty[1:])


@pytest.mark.parametrize("device", ["v5e", "h100"])
def test_a_product_with_a_vector_is_free_to_be_a_sum(device):
    program = planted(jnp.matmul, square(device), shape(device, SIDE))
    checks.multiplies_on_the_matrix_unit(*compiled(program, device))


@pytest.mark.parametrize("device", ["v5e", "h100"])
def test_a_product_too_many(device):
    program = planted(jnp.matmul, *[square(device)] * 2)
    twice = planted(lambda a, b: a @ b @ b, *[square(device)] * 2)
    with pytest.raises(AssertionError, match="instead of"):
        checks.multiplies_on_the_matrix_unit(program, *compiled(twice, device)[1:])


def test_a_program_twice():
    double = [planted(function, *[square("v5e")] * 2) for function in (jnp.matmul, jnp.dot)]
    checks.are_different([double[0], planted(jnp.add, *[square("v5e")] * 2)])
    with pytest.raises(AssertionError, match="planted"):
        checks.are_different(double)
    # Scoring and certainty have one program in common, the other way round none.
    pair = [("score (pairs)", "cosines"), ("certainty", "cosines")]
    both = [replace(double[0], stage=stage, name=name) for stage, name in pair]
    checks.are_different(both)
    with pytest.raises(AssertionError, match="cosines"):
        checks.are_different(both[::-1])


@pytest.mark.parametrize("key", ["flops", "bytes"])
def test_other_numbers_than_recorded(key):
    program, program_compiled, _ = compiled(planted(jnp.matmul, *[square("v5e")] * 2), "v5e")
    found = checks.per_item(program, program_compiled)
    assert found == {"flops": 2 * SIDE**2, "bytes": 3 * 4 * SIDE}
    checks.is_as_recorded(found, found, same_versions=True)
    faulty = {**found, key: 1.1 * found[key]}
    with pytest.raises(AssertionError, match=key):
        checks.is_as_recorded(found, faulty, same_versions=True)
    if key == "bytes":
        checks.is_as_recorded(found, faulty, same_versions=False)
        faulty = {**found, key: 1.4 * found[key]}
    with pytest.raises(AssertionError, match=key):
        checks.is_as_recorded(found, faulty, same_versions=False)
