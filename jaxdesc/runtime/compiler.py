"""Compilation: options for large products, and batches that are computed in pieces."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, Generic, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# The default of accelerators rounds a product's inputs to 10 bits of mantissa or fewer; the gaps
# between a neuron's best concepts are smaller than that.
product = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
contraction = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)

# With these, large float32 products take 0.7 of their time on two cores, and a ResNet-50 0.6.
_CPU_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": "",
    # Removed before fusion by default, and then `materialised` has no effect.
    "xla_disable_hlo_passes": "cse_barrier_expander",
}

# Images at a time, so that a CPU's caches or a TPU's on-chip memory hold a network's maps.
PIECES = {"cpu": 16, "tpu": 16}
# What pieces of twice or half the best size cost more: 3 to 10 % in a ResNet's stages.
_TWICE = 0.07


# Platform that a program is traced for, such as "cpu" or "tpu"; empty if nobody has said. JAX keeps
# the traces of each value apart.
lowered_for = jax.make_user_context("")


class jit(Generic[Arguments, Result]):
    """`jax.jit` for the platform of its arguments, with the options that suit it.

    Arguments may be of a device that is not there (`runtime.chips`): `trace` takes their shapes.
    Within another transformation, whose own options then hold, it is plain `jax.jit`.
    """

    def __init__(self, function: Callable[Arguments, Result], *, static: Sequence[str] = ()):
        """Wrap a function; `static` names the arguments that are compiled in."""
        self.function, self.static = function, tuple(static)
        self.compiled = cache(self._compiled)

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """Call the compiled function."""
        leaves = jax.tree.leaves((args, kwargs))
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            nested: Result = self.compiled(None)(*args, **kwargs)  # JAX allows options outermost
            return nested
        platform = platform_of(leaves)
        with lowered_for(platform):
            called: Result = self.compiled(platform)(*args, **kwargs)
        return called

    def trace(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> jax.stages.Traced:
        """Trace for the platform of the arguments, which may be `jax.ShapeDtypeStruct`s."""
        platform = platform_of(jax.tree.leaves((args, kwargs)))
        with lowered_for(platform):
            traced: jax.stages.Traced = self.compiled(platform).trace(*args, **kwargs)
        return traced

    def lower(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> jax.stages.Lowered:
        """Lower what `trace` returns."""
        return self.trace(*args, **kwargs).lower()

    def _compiled(self, platform: str | None) -> Any:
        """The result of `jax.jit` with the options of a platform; without any for None."""
        options = compiler_options(platform) if platform else None
        return jax.jit(self.function, static_argnames=self.static, compiler_options=options)


def platform_of(arguments: Sequence[Any]) -> str:
    """Name the platform of the first argument that is on a device; else JAX's default one."""
    for argument in arguments:
        sharding = getattr(argument, "sharding", None)
        if sharding is not None:
            platform: str = next(iter(sharding.device_set)).platform
            return platform
    return jax.default_backend()


@cache
def compiler_options(platform: str) -> dict[str, str]:
    """The options of `jax.jit` that suit a platform and this release; may start its backend."""
    if platform != "cpu":
        return {}
    try:
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            jax.jit(_trial, compiler_options=_CPU_OPTIONS).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:  # another release, which doesn't know the options
        return {}
    return _CPU_OPTIONS


def _trial(value: Array) -> Array:
    return materialised(value + 1) * 2


def materialised(array: Array) -> Array:
    """Return the array itself; XLA computes it once and keeps it for all its readers.

    Otherwise its CPU compiler repeats elementwise operations for every reader: each residual sum of
    a ResNet from all those before it.
    """
    kept: Array = jax.lax.optimization_barrier(array)
    return kept


def in_pieces(
    function: Callable[[Any, Any], Any],
    params: Any,
    rows: Any,
    sizes: Mapping[str, int] = PIECES,
) -> Any:
    """Return `function(params, rows)`, computed a few rows at a time on some platforms.

    For use within a function that `jit` compiles, which knows its platform. `rows` is a pytree of
    arrays with as many independent rows each, with one result for each row. A platform takes its
    entry of `sizes` at a time, or about as many if that needs less padding; others take all.
    """
    count = len(jax.tree.leaves(rows)[0])
    size = sizes.get(lowered_for.value, count)
    if count <= size:
        return function(params, rows)
    size = min(range(1, count + 1), key=partial(_cost, count, size))

    def cut(array: Array) -> Array:
        padding = jnp.repeat(array[-1:], -count % size, axis=0)
        return jnp.concatenate([array, padding]).reshape(-1, size, *array.shape[1:])

    pieces = jax.lax.map(partial(function, params), jax.tree.map(cut, rows))
    return jax.tree.map(lambda piece: piece.reshape(-1, *piece.shape[2:])[:count], pieces)


def _cost(count: int, best: int, size: int) -> float:
    """Relative time of `count` rows in pieces of a size, padding included."""
    return -(-count // size) * size * (1 + _TWICE * abs(math.log2(size / best)))
