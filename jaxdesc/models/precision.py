"""Precision of a network: true float32 on every device, or bfloat16 if it is asked for."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp

from jaxdesc.errors import InputError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

PRECISIONS = ("float32", "bfloat16")


def float32_products(network: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Make every product and convolution of a network, and of its gradient, a float32 one.

    By default a TPU multiplies float32 numbers as bfloat16 and a GPU as TF32, far from what the
    reference implementations were compared on. Numbers that are bfloat16 already are multiplied as
    such. On a CPU this changes nothing.
    """

    @wraps(network)
    def precise(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with jax.default_matmul_precision("float32"):
            return network(*args, **kwargs)

    return precise


def check_precision(precision: str) -> None:
    """Raise `InputError` for a precision that is not implemented."""
    if precision not in PRECISIONS:
        raise InputError(
            f"Unknown precision {precision!r}: expected one of {', '.join(PRECISIONS)}."
        )


def cast(params: Any, precision: str) -> Any:
    """Convert a network's parameters to a precision; the same arrays if they have it already."""
    return jax.tree.map(lambda array: array.astype(jnp.dtype(precision)), params)
