"""Hashes of what a result depends on: code, versions, weights, programs, inputs."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr


def of_inputs(inputs: Mapping[str, Any]) -> str:
    """Hash a stage's inputs, with this package's own code and the versions it computes with.

    Args:
        inputs: JSON values; larger things by their own hash.

    Returns:
        16 hexadecimal digits.
    """
    text = json.dumps([_code(), inputs], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def of_text(text: str) -> str:
    """Hash a text."""
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _code() -> list[str]:
    """Every source file of the package and the versions of what computes: any change counts."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    libraries = ("jax", "jaxlib", "flax", "numpy", "pillow", "transformers")
    return [digest.hexdigest(), jax.default_backend(), *(f"{n} {version(n)}" for n in libraries)]


def of_weights(params: Any) -> str:
    """Hash every array of a pytree of weights with its place, type and shape."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def of_function(function: Callable[..., Any], *arguments: Any) -> str:
    """Hash what a function computes: its jaxpr on these arguments, and the arrays it closes over.

    So a network's code needs no version number: a change that matters changes the jaxpr.
    """
    traced = jax.make_jaxpr(function)(*arguments)
    program = re.sub(r"0x[0-9a-f]+", "", str(traced))  # addresses differ from run to run
    digest = hashlib.sha256(program.encode())
    digest.update(of_weights(list(_constants(traced))).encode())
    return digest.hexdigest()


def _constants(part: Any) -> Iterator[Any]:
    """Every array that a traced program closes over; those of an inner jit stand within it."""
    if isinstance(part, ClosedJaxpr):
        yield from part.consts
        yield from _constants(part.jaxpr)
    elif isinstance(part, Jaxpr):
        for equation in part.eqns:
            yield from _constants(list(equation.params.values()))
    elif isinstance(part, list | tuple):
        for inner in part:
            yield from _constants(inner)
