"""Depthwise convolutions, which XLA computes with slow loops on a CPU."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxdesc.runtime.compiler import lowered_for


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    **options: Any,
) -> Array:
    """Convolve as `lax.conv_general_dilated` does, but a depthwise one on a CPU by shifts.

    That is the sum, over the places of the kernel, of the shifted image times a weight per channel,
    which XLA fuses into one loop; it is added up in float32. Only for programs of
    `runtime.compiler.jit`, which says what it compiles for.
    """
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    _, channel, *space = numbers.lhs_spec
    count = lhs.shape[channel]
    depthwise = feature_group_count == count == rhs.shape[numbers.rhs_spec[0]]
    plain = numbers.lhs_spec == numbers.out_spec and set(lhs_dilation or ()) <= {1}
    if not (lowered_for.value == "cpu" and depthwise and plain):
        options |= {"lhs_dilation": lhs_dilation, "rhs_dilation": rhs_dilation}
        options |= {"dimension_numbers": numbers, "feature_group_count": feature_group_count}
        return lax.conv_general_dilated(lhs, rhs, tuple(window_strides), padding, **options)
    kernel = [rhs.shape[axis] for axis in numbers.rhs_spec[2:]]
    apart = rhs_dilation or (1,) * len(kernel)
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, apart, strict=True)]
    if isinstance(padding, str):
        sides = [lhs.shape[axis] for axis in space]
        padding = lax.padtype_to_pads(sides, reach, window_strides, padding)
    around: list[tuple[int, int]] = [(0, 0)] * lhs.ndim
    for axis, pads in zip(space, padding, strict=True):
        around[axis] = pads
    padded = jnp.pad(lhs, around)
    weights = lax.transpose(rhs, numbers.rhs_spec)[:, 0].astype(jnp.float32)
    per_channel = [count if axis == channel else 1 for axis in range(lhs.ndim)]
    total = jnp.zeros((), jnp.float32)
    for place in product(*map(range, kernel)):
        shifted = [slice(None)] * lhs.ndim
        for axis, at, step, size, stride in zip(
            space, place, apart, reach, window_strides, strict=True
        ):
            first = at * step
            shifted[axis] = slice(first, first + padded.shape[axis] - size + 1, stride)
        weight = weights[(slice(None), *place)].reshape(per_channel)
        total = total + padded[tuple(shifted)] * weight
    return total.astype(lhs.dtype)
