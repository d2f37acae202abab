"""Modules of Flax NNX as targets."""

from collections.abc import Sequence
from typing import Any

from flax import nnx

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


def from_nnx(
    module: nnx.Module,
    layers: Sequence[str],
    preprocess: str | Preprocess,
    classes: Classes = (),
    **fields: Any,
) -> Target:
    """Return a Flax NNX module as a target that offers some of its layers.

    The module maps pixels [B, H, W, 3] to logits [B, classes]. Layers inside `nnx.scan`, `vmap`,
    `remat` or `jit` are refused.

    Args:
        module: any `nnx.Module`; it is copied, and the copy set to evaluation mode.
        layers: paths such as `blocks.10.norm1`, as in `nnx.iter_modules`.
        preprocess: what the module expects, or a name in `jaxdesc.images.preprocess.PRESETS`.
        classes: name or names of each class; None if it returns something other than logits.
        fields: further fields of `Target`: name, attention, prefix, wnids.

    Raises:
        InputError: for a layer that does not exist or is not called.
    """
    fields = {"name": type(module).__name__} | fields
    network = nnx.merge(*nnx.split(module), copy=True)
    network.eval()
    layers = check_layers(fields["name"], layers, filter(None, _paths(network)))
    graph, params = nnx.split(network)

    def apply(params: Any, pixels: Any, tap: Tap) -> Any:
        network = nnx.merge(graph, params)
        paths, offer = _paths(network), numbered(tap)
        for name in layers:
            # A call looks __call__ up in the class: one patched on the instance is not seen.
            layer = paths[name]
            object.__setattr__(layer, "__class__", _tapped(type(layer), name, offer))
        return network(pixels)

    return finished(apply, params, layers, preprocess, classes, fields)


def _paths(network: nnx.Module) -> dict[str, Any]:
    return {".".join(map(str, path)): layer for path, layer in nnx.iter_modules(network)}


def _tapped(kind: Any, name: str, offer: Tap) -> type:
    """Return a subclass whose calls hand their output to a tap."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = kind.__call__(self, *args, **kwargs)
        return replace_first(output, lambda x: offer(name, x))

    return type(kind)(kind.__name__, (kind,), {"__call__": call})
