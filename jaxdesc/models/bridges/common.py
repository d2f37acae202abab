"""Parts that all bridges share: names of layers, outputs of several parts, the finished target."""

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp

from jaxdesc.errors import InputError, shown
from jaxdesc.images.preprocess import PRESETS, Preprocess, check_preset
from jaxdesc.models.precision import float32_products
from jaxdesc.models.taps import Apply, Tap
from jaxdesc.models.target import Target

Classes = Sequence[str | Sequence[str]] | None

# Raised for Python code that needs numbers, which a traced network does not have.
BRANCHES = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


@contextmanager
def needed(requirement: str) -> Iterator[None]:
    """Import libraries that only a bridge needs; the requirement is how pip installs them."""
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"This network's library can't be imported ({error}): run pip install {requirement}."
        ) from error


def numbered(tap: Tap) -> Tap:
    """Return a tap for one pass that counts the calls of each layer: `x`, `x:2`, `x:3`."""
    calls: Counter[str] = Counter()

    def count(name: str, x: Any) -> Any:
        calls[name] += 1
        return tap(name if calls[name] == 1 else f"{name}:{calls[name]}", x)

    return count


def channels_last(tap: Tap) -> Tap:
    """Return a tap for maps [B, C, h, w]; values of another rank are handed on as they are."""

    def turn(name: str, x: Any) -> Any:
        if x.ndim != 4:
            return tap(name, x)
        return jnp.moveaxis(tap(name, jnp.moveaxis(x, 1, -1)), -1, 1)

    return turn


def replace_first(output: Any, change: Callable[[Any], Any]) -> Any:
    """Change an array, or the first part of a tuple or of a dict."""
    if isinstance(output, dict):
        first = next(iter(output))
        output[first] = change(output[first])
        return output
    if not isinstance(output, tuple):
        return change(output)
    parts = (change(output[0]), *output[1:])
    return type(output)(*parts) if hasattr(output, "_fields") else parts


def check_layers(title: str, layers: Sequence[str], known: Iterable[str]) -> tuple[str, ...]:
    """Return the layers asked for; refuse those that do not exist, with names near to theirs."""
    layers = (layers,) if isinstance(layers, str) else tuple(layers)
    known = list(dict.fromkeys(known))
    for layer in layers:
        if layer not in known:
            near = difflib.get_close_matches(str(layer), known, n=5, cutoff=0.4) or known[:5]
            raise InputError(
                f"{title} has no layer {shown(layer)}: expected the path of one of its "
                f"{len(known)} modules, such as {', '.join(near)}."
            )
    return layers


def finished(
    apply: Apply,
    params: Any,
    layers: Sequence[str],
    preprocess: str | Preprocess,
    classes: Classes,
    fields: dict[str, Any],
) -> Target:
    """Return the target, once its layers have been seen to be called.

    If `classes` is None, what `apply` returns is not read as logits. Other libraries promote ranks
    and types, regardless of JAX's settings here. A network that branches on values is refused.
    """
    title = fields["name"]

    @wraps(apply)
    def lenient(params: Any, pixels: Any, tap: Tap) -> Any:
        try:
            with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
                output = apply(params, pixels, tap)
        except BRANCHES as error:
            raise InputError(
                f"{title} needs the values of an array in Python ({type(error).__name__}), for a "
                "branch, a length or NumPy, which a compiled network can't have: choose by "
                "jnp.where or torch.where instead."
            ) from error
        return None if classes is None else output

    if not isinstance(preprocess, Preprocess):
        check_preset(preprocess)
        preprocess = PRESETS[preprocess]
    target = Target(
        params=params,
        apply=float32_products(lenient),
        preprocess=preprocess,
        classes=tuple(
            (names,) if isinstance(names, str) else tuple(names) for names in classes or ()
        ),
        **fields,
    )
    called = target.layers
    for layer in layers:
        if layer not in called:
            raise InputError(
                f"{target.name} has a layer {layer!r} but does not call it for an image: leave it "
                f"out, or choose a layer that is called; {', '.join(called)} are."
            )
    return target
