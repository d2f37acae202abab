"""Equinox's modules as targets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields as fields_of
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdesc.images.preprocess import Preprocess
from jaxdesc.models.bridges.common import (
    Classes,
    channels_last,
    check_layers,
    finished,
    needed,
    numbered,
    replace_first,
)
from jaxdesc.models.taps import Tap
from jaxdesc.models.target import Target


def from_equinox(
    module: Any,
    layers: Sequence[str],
    preprocess: str | Preprocess,
    classes: Classes = (),
    *,
    state: Any = None,
    arguments: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Target:
    """Return an Equinox module as a target that offers some of its layers.

    The module maps one image [3, H, W] to logits [classes], as Equinox's networks do; layers of an
    image are maps [C, h, w] or tokens [prefix + patches, D].

    Args:
        module: any `equinox.Module`; a copy of it is set to inference mode.
        layers: paths such as `blocks.10.norm1`, by attribute, index and key.
        preprocess: what the module expects, or a name in `jaxdesc.images.preprocess.PRESETS`.
        classes: name or names of each class; None if it returns something other than logits.
        state: `equinox.nn.State` of its BatchNorm, the second argument of its call.
        arguments: further ones of its call, such as {"key": None}.
        fields: further fields of `Target`: name, attention, prefix, wnids.

    Raises:
        InputError: without Equinox, or for a layer that does not exist or is not called.
    """
    with needed("equinox"):
        import equinox
    fields = {"name": type(module).__name__} | fields
    layers = check_layers(fields["name"], layers, (name for name, _ in _paths(module)))
    network = equinox.nn.inference_mode(module)
    params, static = equinox.partition((network, state, dict(arguments or {})), equinox.is_array)

    class Tapped(equinox.Module):
        layer: Any
        offer: Any = equinox.field(static=True)

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return replace_first(self.layer(*args, **kwargs), self.offer)

        def __getattr__(self, key: str) -> Any:  # for networks that read a layer's sizes
            if key == "layer":
                raise AttributeError(key)
            return getattr(self.layer, key)

    def apply(params: Any, pixels: Any, tap: Tap) -> Any:
        network, state, arguments = equinox.combine(params, static)
        offer = channels_last(numbered(tap))
        # The longest paths first: a tapped layer may be a part of another one.
        for name in sorted(set(layers), key=lambda name: -name.count(".")):
            tapped = Tapped(_at(name, network), _batched(name, offer))
            network = equinox.tree_at(partial(_at, name), network, tapped)

        def classify(image: Any) -> Any:
            given = () if state is None else (state,)
            output = network(image, *given, **arguments)
            return output[0] if isinstance(output, tuple) else output

        return jax.vmap(classify)(jnp.moveaxis(jnp.asarray(pixels), -1, 1))

    return finished(apply, params, layers, preprocess, classes, fields)


def _paths(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path of everything that can be called within a module, and the thing itself."""
    if isinstance(node, list | tuple):
        parts: list[tuple[Any, Any]] = list(enumerate(node))
    elif isinstance(node, dict):
        parts = list(node.items())
    elif hasattr(node, "__dataclass_fields__"):
        parts = [(f.name, getattr(node, f.name, None)) for f in fields_of(node)]
        if path and callable(node):
            yield path, node
    else:
        return
    for name, part in parts:
        yield from _paths(part, f"{path}.{name}" if path else str(name))


def _at(name: str, node: Any) -> Any:
    return dict(_paths(node))[name]


def _batched(name: str, offer: Tap) -> Any:
    """Return a tap for one image of a batch that `jax.vmap` maps: it gets the whole batch.

    A tap that adds zeros of its own batch would be broadcast against each image instead.
    """

    @jax.custom_batching.custom_vmap
    def tapped(x: Any) -> Any:
        return x

    @tapped.def_vmap
    def batch(size: int, is_batched: Any, x: Any) -> Any:
        x = x if is_batched[0] else jnp.broadcast_to(x, (size, *x.shape))
        return offer(name, x), True

    return tapped
