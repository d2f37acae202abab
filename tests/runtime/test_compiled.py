"""The reader of compiled programs, against counts by hand: programs for the CPU, and HLO text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdesc.errors import InputError
from jaxdesc.runtime.compiled import Compiled

FLOAT = 4


def shape(*sides, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(sides, dtype)


def compiled(function, *arguments):
    return Compiled.of(jax.jit(function).lower(*arguments))


def moved(operations, before=""):
    """Bytes that the entry moves, written as HLO; `before` holds other computations."""
    return Compiled(f"{before}\nENTRY %main (x: f32[]) -> f32[] {{\n{operations}\n}}\n", 0).bytes


def convolution(strides, padding, **options):
    def convolve(images, kernel):
        return jax.lax.conv_general_dilated(
            images, kernel, strides, padding, **options,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    return convolve


def taps(side, width, stride, before, after, dilation=1):
    """Pairs of an output and a tap along an axis that meet a row, one by one."""
    pairs = 0
    for start in range(-before, side + after - dilation * (width - 1), stride):
        pairs += sum(0 <= start + dilation * tap < side for tap in range(width))
    return pairs


def test_a_product():
    program = compiled(jnp.matmul, shape(30, 50), shape(50, 70))
    assert program.flops == 2 * 30 * 50 * 70
    assert program.bytes == FLOAT * (30 * 50 + 50 * 70 + 30 * 70)
    assert program.arguments == FLOAT * (30 * 50 + 50 * 70)
    assert program.memory >= program.bytes
    assert program.types == {"f32"}
    assert not program.collectives
    assert not program.host_calls


def test_products_by_type():
    def both(a, b, c, d):
        return a @ b, c @ d

    whole = shape(30, 50, dtype=jnp.int32), shape(50, 70, dtype=jnp.int32)
    program = compiled(both, shape(3, 5), shape(5, 7), *whole)
    assert program.flops == 2 * 3 * 5 * 7 + 2 * 30 * 50 * 70
    by_type = {each.types[0]: each.flops for each in program.products}
    assert by_type == {"f32": 2 * 3 * 5 * 7, "s32": 2 * 30 * 50 * 70}


def test_a_batch_of_products():
    program = compiled(lambda a, b: a @ b, shape(8, 30, 50), shape(8, 50, 70))
    assert program.flops == 8 * 2 * 30 * 50 * 70


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_a_convolution_without_its_padding(stride, dilation):
    program = compiled(
        convolution((stride, 1), [(3, 2), (0, 1)], rhs_dilation=(dilation, 1)),
        *(shape(2, 17, 9, 6), shape(5, 2, 6, 4)),
    )
    pairs = taps(17, 5, stride, 3, 2, dilation) * taps(9, 2, 1, 0, 1)
    assert program.flops == 2 * 2 * 6 * 4 * pairs


def test_a_batch_of_products_as_a_tpu_writes_it():
    """A convolution over the batch's axis, with gaps so that each output meets one row."""
    text = """ENTRY %main (a: f32[16,8,50], b: f32[16,128,50]) -> f32[16,8,128] {
  %a = f32[16,8,50]{2,1,0:T(8,128)} parameter(0)
  %b = f32[16,128,50]{2,1,0:T(8,128)} parameter(1)
  ROOT %c = f32[16,8,128]{2,1,0:T(8,128)} convolution(%a, %b), \
window={size=16 stride=15 lhs_dilate=16}, dim_labels=0bf_0oi->0bf
}
"""
    assert Compiled(text, 0).flops == 16 * 2 * 8 * 128 * 50


def test_several_results():
    program = compiled(lambda a, b: (a @ b, b @ a), shape(30, 50), shape(50, 30))
    assert program.flops == 2 * 30 * 50 * 30 + 2 * 50 * 30 * 50
    assert program.bytes == FLOAT * (2 * 2 * 30 * 50 + 30 * 30 + 50 * 50)


def test_a_convolution_in_groups():
    program = compiled(
        convolution((1, 1), "VALID", feature_group_count=3), shape(2, 8, 8, 6), shape(3, 3, 2, 9)
    )
    assert program.flops == 2 * 2 * 6 * 6 * 9 * (3 * 3 * 2)


def test_the_gradient_of_a_convolution_takes_as_much():
    """XLA writes it as a convolution of an image with gaps."""
    convolve = convolution((2, 2), "SAME")
    images, kernel = shape(2, 9, 9, 6), shape(3, 3, 6, 4)

    def gradient(images, kernel):
        return jax.grad(lambda each: (convolve(each, kernel) ** 3).sum())(images)

    forward = compiled(convolve, images, kernel).flops
    assert compiled(gradient, images, kernel).flops == 2 * forward


def test_a_loop_counts_as_often_as_it_runs():
    def looped(a, matrices):
        return jax.lax.scan(lambda total, each: (total @ each, None), a, matrices)[0]

    program = compiled(looped, shape(30, 30), shape(12, 30, 30))
    assert program.flops == 12 * 2 * 30**3
    nested = compiled(
        lambda a, m: jax.lax.fori_loop(0, 5, lambda _, each: looped(each, m), a),
        *(shape(30, 30), shape(12, 30, 30)),
    )
    assert nested.flops == 5 * 12 * 2 * 30**3


@pytest.mark.parametrize("fused", [False, True])
def test_a_loop_whose_text_does_not_say_how_often_it_runs(fused):
    number, comparison = "%n = s32[] constant(7)", "ROOT %c = pred[] compare(%i, %n), direction=LT"
    test = f"  %i = s32[] parameter(0)\n  {number}\n  {comparison}\n}}\n"
    before = "%test (i: s32[]) -> pred[] {\n" + test
    if fused:
        before = (
            "%inside (i: s32[]) -> pred[] {\n"
            + test
            + (
                "%test (i: s32[]) -> pred[] {\n  %i = s32[] parameter(0)\n"
                "  ROOT %c = pred[] fusion(%i), kind=kLoop, calls=%inside\n}\n"
            )
        )
    before += (
        "%body (x: f32[10]) -> f32[10] {\n  %x = f32[10]{0} parameter(0)\n"
        "  ROOT %y = f32[10]{0} negate(%x)\n}\n"
    )
    loop = "  ROOT %w = f32[10]{0} while(%x), condition=%test, body=%body"
    assert moved(loop, before) == 7 * 2 * 10 * FLOAT


def test_every_branch_counts():
    def branching(a, b):
        return jax.lax.cond(a[0, 0] > 0, lambda: a @ b, lambda: a @ b @ b)

    assert compiled(branching, shape(30, 30), shape(30, 30)).flops == 3 * 2 * 30**3


def test_a_gather_reads_the_rows_that_it_takes():
    def take(rows, chosen):
        return rows.at[chosen].get(mode="promise_in_bounds")

    program = compiled(take, shape(10_000, 50), shape(8, dtype=jnp.int32))
    assert program.bytes == FLOAT * (2 * 8 * 50 + 8)


def test_an_update_in_place_writes_what_it_changes():
    def update(rows, few, start):
        return jax.lax.dynamic_update_slice(rows, few * 2, (start, 0))

    arguments = shape(10_000, 50), shape(8, 50), shape(dtype=jnp.int32)
    lowered = jax.jit(update, donate_argnums=0).lower(*arguments)
    program = Compiled.of(lowered)
    assert 2 * 8 * 50 * FLOAT <= program.bytes <= 4 * 8 * 50 * FLOAT + 100
    assert program.memory < 2 * 10_000 * 50 * FLOAT  # the result is the argument


SLICED = """%inner (p: f32[1000,50], i: s32[]) -> f32[8,50] {
  %p = f32[1000,50]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %z = s32[] constant(0)
  ROOT %s = f32[8,50]{1,0} dynamic-slice(%p, %i, %z), dynamic_slice_sizes={8,50}
}
%outer (p: f32[1000,50], i: s32[]) -> f32[8,50] {
  %q = f32[1000,50]{1,0} parameter(0)
  %j = s32[] parameter(1)
  %f = f32[8,50]{1,0} fusion(%q, %j), kind=kLoop, calls=%inner
  ROOT %n = f32[8,50]{1,0} negate(%f)
}
"""
UPDATED = """%inner (p: f32[1000,50], u: f32[8,50], i: s32[]) -> f32[1000,50] {
  %p = f32[1000,50]{1,0} parameter(0)
  %u = f32[8,50]{1,0} parameter(1)
  %i = s32[] parameter(2)
  ROOT %s = f32[1000,50]{1,0} dynamic-update-slice(%p, %u, %i, %i)
}
"""
GIVEN = """  %x = f32[1000,50]{1,0} parameter(0)
  %on = f32[1000,50]{1,0:T(8,128)S(1)} parameter(1)
  %few = f32[8,50]{1,0} parameter(2)
  %i = s32[] parameter(3)
"""
ROWS, FEW = 1000 * 50 * FLOAT, 8 * 50 * FLOAT
SLICE = "dynamic_slice_sizes={8,50}"
CASES = {
    "reads and writes": ("ROOT %r = f32[1000,50]{1,0} negate(%x)", 2 * ROWS),
    "on chip, read": ("ROOT %r = f32[1000,50]{1,0} negate(%on)", ROWS),
    "on chip, both": ("ROOT %r = f32[1000,50]{1,0:T(8,128)S(1)} negate(%on)", 0),
    "padded": (
        "ROOT %r = f32[1000,50]{1,0:T(8,128)} negate(%x)",
        ROWS + 1000 * 128 * FLOAT,
    ),
    "padded, the other order": (
        "ROOT %r = bf16[1000,50]{0,1:T(8,128)(2,1)} convert(%x)",
        ROWS + 1024 * 56 * 2,
    ),
    "slice": (f"ROOT %r = f32[8,50]{{1,0}} dynamic-slice(%x, %i, %i), {SLICE}", 2 * FEW + 8),
    "slice to the chip": (
        f"ROOT %r = f32[8,50]{{1,0:T(8)S(1)}} dynamic-slice(%x, %i, %i), {SLICE}",
        8 * 56 * FLOAT + 8,
    ),
    "slice on the chip": (
        f"ROOT %r = f32[8,50]{{1,0}} dynamic-slice(%on, %i, %i), {SLICE}",
        FEW + 8,
    ),
    "update": (
        "ROOT %r = f32[1000,50]{1,0} dynamic-update-slice(%x, %few, %i, %i)",
        2 * FEW + 8,
    ),
    "update on the chip": (
        "ROOT %r = f32[1000,50]{1,0:T(8,128)S(1)} dynamic-update-slice(%on, %few, %i, %i)",
        FEW + 8,
    ),
    "copy to the chip": (
        "%c = (f32[1000,50]{1,0:S(1)}, f32[1000,50]{1,0}, u32[]{:S(2)}) copy-start(%x)\n"
        "  ROOT %r = f32[1000,50]{1,0:T(8,128)S(1)} copy-done(%c)",
        ROWS,
    ),
    "slice to the chip, started": (
        "%c = ((f32[1000,50]{1,0}), f32[8,50]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) slice-start(%x), "
        "slice={[0:8], [0:50]}\n  ROOT %r = f32[8,50]{1,0:T(8,128)S(1)} slice-done(%c)",
        8 * 128 * FLOAT,
    ),
    "all-gather, started": (
        "%c = (f32[8,50]{1,0}, f32[64,50]{1,0}) all-gather-start(%few), dimensions={0}\n"
        "  ROOT %r = f32[64,50]{1,0} all-gather-done(%c)",
        9 * FEW,
    ),
    "scratch of a library": (
        "ROOT %r = (f32[1000,1000]{1,0}, s8[4194304]{0}) custom-call(%x, %x), "
        'custom_call_target="__cublas$lt$matmul"',
        2 * ROWS + 1000 * 1000 * FLOAT,
    ),
    "a name for memory": (
        'ROOT %r = f32[1000,50]{1,0} custom-call(), custom_call_target="AllocateBuffer"',
        0,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_traffic(case):
    operations, expected = CASES[case]
    assert moved(GIVEN + "  " + operations) == expected


@pytest.mark.parametrize("computation", ["inner", "outer"])
def test_a_fusion_reads_the_slice_that_it_takes(computation):
    fused = f"  ROOT %r = f32[8,50]{{1,0}} fusion(%x, %i), kind=kLoop, calls=%{computation}"
    assert moved(GIVEN + fused, SLICED) == 2 * FEW + 4
    twice = SLICED.replace("negate(%f)", "add(%f, %q)")
    assert (moved(GIVEN + fused, twice) == ROWS + FEW + 4) == (computation == "outer")


def test_a_fusion_updates_in_place():
    calls = "kind=kLoop, calls=%inner"
    fused = f"  ROOT %r = f32[1000,50]{{1,0}} fusion(%x, %few, %i), {calls}"
    assert moved(GIVEN + fused, UPDATED) == 2 * FEW + 4
    # The result in other memory than the operand can't be the operand.
    elsewhere = f"  ROOT %r = f32[1000,50]{{1,0:S(1)}} fusion(%x, %few, %i), {calls}"
    assert moved(GIVEN + elsewhere, UPDATED) == ROWS + FEW + 4


def test_scratch_space_of_a_call_in_a_fusion_is_not_written():
    inside = """%inner (p: f32[8,50]) -> (f32[8,8], s8[9000]) {
  %p = f32[8,50]{1,0} parameter(0)
  ROOT %c = (f32[8,8]{1,0}, s8[9000]{0}) custom-call(%p, %p), custom_call_target="TARGET"
}
"""
    fused = "  ROOT %r = (f32[8,8]{1,0}, s8[9000]{0}) fusion(%few), kind=kCustom, calls=%inner"
    for target, scratch in (("__cublas$lt$matmul", 0), ("mine", 9000)):
        written = 8 * 8 * FLOAT + scratch
        assert moved(GIVEN + fused, inside.replace("TARGET", target)) == FEW + written


def test_exchanges_and_calls_of_the_host():
    text = "ENTRY %main (x: f32[8]) -> f32[8] {\n  %x = f32[8]{0} parameter(0)\n" + "\n".join(
        [
            "  %a = (f32[8]{0}, f32[64]{0}) all-gather-start(%x), dimensions={0}",
            "  %b = f32[64]{0} all-gather-done(%a)",
            "  %c = f32[8]{0} all-reduce(%x), to_apply=%add",
            '  ROOT %d = f32[8]{0} custom-call(%c), custom_call_target="xla_ffi_python_callback"',
            "}",
        ]
    )
    program = Compiled(text, 0)
    assert program.collectives == {"all-gather": 1, "all-reduce": 1}
    assert program.host_calls == ["d"]


def test_a_compiler_too_new_to_be_read(monkeypatch):
    def unread(self):
        raise jax.errors.JaxRuntimeError("INTERNAL: RET_CHECK failure")

    monkeypatch.setattr(jax.stages.Compiled, "as_text", unread)
    with pytest.raises(InputError, match=r"can't read what the device's compiler made .*RET_CHECK"):
        Compiled.of(jax.jit(lambda x: x + 1).lower(1.0))


def test_a_host_callback_of_a_compiled_program():
    def calling(a):
        return jax.pure_callback(lambda b: np.asarray(b), a, a)

    assert compiled(calling, shape(8)).host_calls


def test_types_of_all_arrays():
    with jax.enable_x64(True):
        program = compiled(lambda a: (a.astype(jnp.float64) * 1.1).astype(jnp.float32), shape(8))
    assert "f64" in program.types
