"""Arithmetic of a traced program: 2 per multiplication and addition of products and convolutions.

A loop counts as often as it runs, of branches the largest, and a mapped function on each of its
devices.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr


def operations(function: Callable[..., Any], *arguments: Any) -> float:
    """Count the arithmetic of a function of some arguments."""
    return counted(jax.make_jaxpr(function)(*arguments))


def counted(program: ClosedJaxpr | Jaxpr, *, padding: bool = True, vectors: bool = True) -> float:
    """Count the arithmetic of a traced program.

    Without `padding`, a convolution's taps on padding do not count; without `vectors`, nor do
    products of a matrix and a vector, or of two vectors.
    """
    jaxpr = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    total = 0.0
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        inner = [
            counted(part, padding=padding, vectors=vectors)
            for part in jax.tree.leaves(list(parameters.values()))
            if isinstance(part, ClosedJaxpr | Jaxpr)
        ]
        times = parameters.get("length", 1)  # of a scan
        if name == "shard_map":
            times = parameters["mesh"].size
        total += times * (max(inner, default=0) if name == "cond" else sum(inner))
        if name == "dot_general":
            total += _multiplied(equation, vectors)
        elif name == "conv_general_dilated":
            total += _convolved(equation, padding)
    return total


def _multiplied(equation: Any, vectors: bool) -> float:
    contracted, batched = equation.params["dimension_numbers"]
    sizes = [prod(operand.aval.shape) for operand in equation.invars]
    within = [
        prod(operand.aval.shape[axis] for axis in (*summed, *shared))
        for operand, summed, shared in zip(equation.invars, contracted, batched, strict=True)
    ]
    if not vectors and any(map(int.__eq__, sizes, within)):
        return 0.0
    inner = [equation.invars[0].aval.shape[axis] for axis in contracted[0]]
    return 2.0 * prod(equation.outvars[0].aval.shape) * prod(inner)


def _convolved(equation: Any, padding: bool) -> float:
    parameters = equation.params
    image, kernel = (operand.aval.shape for operand in equation.invars)
    result, axes = equation.outvars[0].aval.shape, parameters["dimension_numbers"]
    pairs = 1
    for index, (step, (before, _), apart, spread) in enumerate(
        zip(
            *(parameters["window_strides"], parameters["padding"]),
            *(parameters["lhs_dilation"], parameters["rhs_dilation"]),
            strict=True,
        ),
        start=2,
    ):
        rows, taps, outputs = (
            shape[spec[index]] for shape, spec in zip((image, kernel, result), axes, strict=True)
        )
        if padding:
            pairs *= taps * outputs
        else:
            pairs *= taps_on_rows(rows, taps, outputs, step, spread, apart, before)
    batch, features = axes.out_spec[:2]
    return 2.0 * pairs * result[batch] * result[features] * kernel[axes.rhs_spec[1]]


def taps_on_rows(
    rows: int, taps: int, outputs: int, step: int, spread: int, apart: int, before: int
) -> int:
    """Count the taps of all outputs, along an axis, that fall on a row.

    `step` is the stride, `spread` the kernel's dilation, `apart` the image's, and `before` the
    padding in front.
    """
    place = np.arange(outputs)[:, None] * step + np.arange(taps)[None] * spread - before
    return int(((place >= 0) & (place <= (rows - 1) * apart) & (place % apart == 0)).sum())
