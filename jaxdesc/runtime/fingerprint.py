"""Hashes of everything a result depends on: code, versions, weights, programs, inputs."""

import hashlib
import inspect
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

ADDRESS = r"0x[0-9a-f]+"  # in memory; differs from run to run


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


def of_entry(entry: Any) -> str:
    """Hash the source of a registered function or class, or of another object's class.

    It shows that an entry from outside the package has changed. Functions that the entry calls and
    values that it captures don't count.
    """
    code = inspect.unwrap(entry) if callable(entry) else entry
    if not (inspect.isroutine(code) or inspect.isclass(code)):
        code = type(code)
    try:
        return of_text(inspect.getsource(code))
    except (OSError, TypeError):  # typed into a prompt, or built in
        compiled = getattr(code, "__code__", None)
        text = repr((compiled.co_code, compiled.co_consts, compiled.co_names) if compiled else code)
        return of_text(re.sub(ADDRESS, "", text))


def of_function(function: Callable[..., Any], *arguments: Any) -> str:
    """Hash a function's jaxpr on these arguments, and the arrays it closes over.

    So a network's code needs no version number: a change that matters changes the jaxpr.
    """
    traced = jax.make_jaxpr(function)(*arguments)
    program = re.sub(ADDRESS, "", str(traced))
    if "callback" in program:  # it runs code that a jaxpr doesn't show: never the same twice
        program += uuid.uuid4().hex
    digest = hashlib.sha256(program.encode())
    digest.update(of_weights(list(_constants(traced))).encode())
    return digest.hexdigest()


def _constants(program: ClosedJaxpr | Jaxpr) -> Iterator[Any]:
    """Yield every array of a program and the programs within it; printed, they are cut short."""
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
