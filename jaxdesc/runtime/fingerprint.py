"""Hashes of everything a result depends on: code, versions, weights, programs, inputs."""

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
    """Hash a stage's inputs, with this package's own code and versions, to 16 hexadecimal digits.

    Inputs are JSON values; larger things are given by their own hash.
    """
    text = json.dumps([_code(), inputs], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def of_text(text: str) -> str:
    """Hash a text."""
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _code() -> list[str]:
    """Hash of the source files that compute results, and the libraries' versions."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if name.parts[0] not in ("report", "benchmark", "evidence"):
            digest.update(name.as_posix().encode() + path.read_bytes())
    libraries = ("jax", "jaxlib", "flax", "numpy", "pillow", "transformers", "tokenizers")
    return [digest.hexdigest(), jax.default_backend(), *(f"{n} {version(n)}" for n in libraries)]


def of_weights(params: Any) -> str:
    """Hash every array of a pytree of weights with its path, type and shape."""

    def of_leaf(item: tuple[Any, Any]) -> str:
        path, leaf = item
        is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if is_key else leaf, order="C")
        name = f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}"
        digest = hashlib.sha256(name.encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    with ThreadPoolExecutor() as threads:  # a single core takes seconds for a large CLIP
        return of_text(" ".join(threads.map(of_leaf, jax.tree_util.tree_leaves_with_path(params))))


def of_function(function: Callable[..., Any], *arguments: Any) -> str:
    """Hash a function's jaxpr on these arguments, and the arrays it closes over.

    So a network's code needs no version number: a change that matters changes the jaxpr.
    """
    traced = jax.make_jaxpr(function)(*arguments)
    program = re.sub(r"0x[0-9a-f]+", "", str(traced))  # addresses differ from run to run
    if "callback" in program:  # its code is not in the jaxpr: no two hashes are the same
        program += uuid.uuid4().hex
    digest = hashlib.sha256(program.encode())
    digest.update(of_weights(list(_constants(traced))).encode())
    return digest.hexdigest()


def _constants(program: ClosedJaxpr | Jaxpr) -> Iterator[Any]:
    """Yield every array of a program and of those inside it, which printing abbreviates."""
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
