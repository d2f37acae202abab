"""Equal layers are traced once."""

from functools import partial
from typing import Any

import jax
from flax import nnx


def traced_once(module: nnx.Module, *arguments: Any) -> Any:
    """Return `module(*arguments)`; modules of one structure and shape share their trace.

    A program with a dozen equal layers is traced and lowered in half the time, and XLA, which
    inlines them, compiles the same. For modules that do not change themselves.
    """
    return _applied(*nnx.split(module), *arguments)


@partial(jax.jit, static_argnums=0)
def _applied(graph: Any, params: Any, *arguments: Any) -> Any:
    return nnx.merge(graph, params)(*arguments)
