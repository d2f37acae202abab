"""Modules of Flax Linen as targets."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

from jaxdesc.images.preprocess import Preprocess
from jaxdesc.models.bridges.common import (
    Classes,
    check_layers,
    finished,
    numbered,
    replace_first,
)
from jaxdesc.models.taps import Tap
from jaxdesc.models.target import Target


def from_linen(
    module: Any,
    variables: Any,
    layers: Sequence[str],
    preprocess: str | Preprocess,
    classes: Classes = (),
    *,
    arguments: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Target:
    """Return a Flax Linen module as a target that offers some of its layers.

    The module maps pixels [B, H, W, 3] to logits [B, classes]. Layers inside `nn.scan`, `vmap`,
    `remat` or `jit` are refused.

    Args:
        module: any `flax.linen.Module`.
        variables: all its collections, as `module.init` returns them.
        layers: paths such as `backbone.Conv_0`, as the parameters have them.
        preprocess: what the module expects, or a name in `jaxdesc.images.preprocess.PRESETS`.
        classes: name or names of each class; None if it returns something other than logits.
        arguments: those by which its call is one of evaluation, such as {"train": False}.
        fields: further fields of `Target`: name, attention, prefix, wnids.

    Raises:
        InputError: for a layer that does not exist or is not called.
    """
    fields = {"name": type(module).__name__} | fields
    layers = (layers,) if isinstance(layers, str) else tuple(layers)
    params, arguments = jax.tree.map(jnp.asarray, variables), dict(arguments or {})
    called: list[str] = []  # paths of all modules, in the order of their first calls

    def apply(params: Any, pixels: Any, tap: Tap) -> Any:
        offer = numbered(tap)

        def intercept(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
            output, name = method(*args, **kwargs), ".".join(context.module.path)
            if context.method_name != "__call__":
                return output
            called.append(name)
            return replace_first(output, lambda x: offer(name, x)) if name in layers else output

        with linen.intercept_methods(intercept):
            return module.apply(params, pixels, **arguments)

    target = finished(apply, params, (), preprocess, classes, fields)
    check_layers(target.name, layers, filter(None, called))
    return target
