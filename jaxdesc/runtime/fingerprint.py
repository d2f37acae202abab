"""Hashes of what a result depends on: code, versions, weights, programs, inputs."""

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal


def of_inputs(inputs: Mapping[str, Any]) -> str:
    """Hash a stage's inputs, with this package's own code and the versions it computes with.

    Args:
        inputs: JSON values; larger things by their own hash.

    Returns:
        16 hexadecimal digits.
    """
    text = json.dumps([_code(), inputs], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def of_text(text: str) -> str:
    """Hash a text."""
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _code() -> list[str]:
    """The package's source files and the versions of what computes: any change counts.

    But for what shows and times results, and computes none.
    """
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root)
        if place.parts[0] not in ("report", "benchmark", "evidence"):
            digest.update(place.as_posix().encode() + path.read_bytes())
    libraries = ("jax", "jaxlib", "flax", "numpy", "pillow", "transformers", "tokenizers")
    return [digest.hexdigest(), jax.default_backend(), *(f"{n} {version(n)}" for n in libraries)]


def of_weights(params: Any) -> str:
    """Hash every array of a pytree of weights with its place, type and shape."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    with ThreadPoolExecutor() as threads:  # a core hashes a large CLIP's in seconds
        return of_text(" ".join(threads.map(_of_leaf, leaves)))


def _of_leaf(named: tuple[Any, Any]) -> str:
    path, leaf = named
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf, order="C")
    place = f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}"
    digest = hashlib.sha256(place.encode())
    digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def of_function(function: Callable[..., Any], *arguments: Any) -> str:
    """Hash what a function computes: its jaxpr on these arguments, and the arrays it closes over.

    So a network's code needs no version number: a change that matters changes the jaxpr.
    """
    traced = jax.make_jaxpr(function)(*arguments)
    program = re.sub(r"0x[0-9a-f]+", "", str(traced))  # addresses differ from run to run
    if "callback" in program:  # it runs code that no jaxpr shows: never the same twice
        program += uuid.uuid4().hex
    digest = hashlib.sha256(program.encode())
    digest.update(of_weights(list(_constants(traced))).encode())
    return digest.hexdigest()


def _constants(program: ClosedJaxpr | Jaxpr) -> Iterator[Any]:
    """Every array that a program holds, and the programs within it: printed, they are cut short."""
    jaxpr = program
    if isinstance(program, ClosedJaxpr):
        jaxpr = program.jaxpr
        yield from program.consts
    operands = [operand for equation in jaxpr.eqns for operand in equation.invars]
    yield from (o.val for o in (*operands, *jaxpr.outvars) if isinstance(o, Literal))
    for value in jax.tree.leaves([equation.params for equation in jaxpr.eqns]):
        if isinstance(value, ClosedJaxpr | Jaxpr):
            yield from _constants(value)
        elif isinstance(value, np.ndarray | jax.Array):
            yield value


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
