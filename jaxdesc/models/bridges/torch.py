"""PyTorch's modules as targets, through torchax."""

import copy
import os
import threading
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdesc.errors import InputError
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
from jaxdesc.models.depthwise import conv_general_dilated
from jaxdesc.models.taps import Tap
from jaxdesc.models.target import Target

TELEMETRY = "ENABLE_RUNTIME_UPTIME_TELEMETRY"


def from_torch(
    module: Any,
    layers: Sequence[str],
    preprocess: str | Preprocess,
    classes: Classes = (),
    *,
    maps_last: Sequence[str] = (),
    **fields: Any,
) -> Target:
    """Return a PyTorch module as a target that offers some of its layers.

    The module maps pixels [B, 3, H, W] to logits [B, classes], or to something with `logits`;
    anything else, such as features of tokens, counts as no logits. torchax runs it, which knows the
    usual operations of ATen; what it lacks, such as torchvision's own operators, fails with its
    message. Branches on values of a tensor can't be compiled, nor tensors kept from call to call.

    Args:
        module: any `torch.nn.Module`; it is copied, and stays in its mode and on its device.
        layers: names as in `module.named_modules()`, such as `vit.layers.10`.
        preprocess: what the module expects, or a name in `jaxdesc.images.preprocess.PRESETS`.
        classes: name or names of each class; None if it returns something other than logits.
        maps_last: layers whose maps are [B, h, w, C] already, such as those of a `Linear`.
        fields: further fields of `Target`: name, attention, prefix, wnids.

    Raises:
        InputError: without torchax, for a layer that does not exist or is not called, or for a
            network that branches on values or keeps tensors.
    """
    torchax = _torchax()
    import torch

    fields = {"name": type(module).__name__} | fields
    network = copy.deepcopy(module).cpu().eval()
    modules = {name: layer for name, layer in network.named_modules() if name}
    layers = check_layers(fields["name"], layers, modules)

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels: Any) -> Any:
            output = self.network(pixels)
            output = output[0] if isinstance(output, tuple) else output
            logits = getattr(output, "logits", output)
            return logits if isinstance(logits, torch.Tensor) and logits.ndim == 2 else None

    with warnings.catch_warnings(action="ignore"):  # it reads every attribute, deprecated ones too
        params, function = torchax.extract_jax(Logits())
    env, tracing = torchax.default_env(), threading.Lock()

    def apply(params: Any, pixels: Any, tap: Tap) -> Any:
        as_named = numbered(tap)
        turned = channels_last(as_named)

        def hook(name: str, layer: Any, inputs: Any, output: Any) -> Any:
            del layer, inputs
            offer = as_named if name in maps_last else turned
            return replace_first(output, lambda x: env.j2t_iso(offer(name, env.t2j_iso(x))))

        with tracing, ExitStack() as stack:  # the hooks and torchax change the one module
            for name in layers:
                stack.enter_context(modules[name].register_forward_hook(partial(hook, name)))
            return function(params, (jnp.moveaxis(jnp.asarray(pixels), -1, 1),))

    target = finished(apply, params, layers, preprocess, classes, fields)
    _refuse_kept(network, target.name)
    return target


def _refuse_kept(network: Any, title: str) -> None:
    """Refuse a network that still holds a tensor of the trace just made."""
    for name, layer in network.named_modules():
        for attribute, value in vars(layer).items():
            # torchax's tensors wrap an array.
            kept = (getattr(leaf, "_elem", leaf) for leaf in jax.tree.leaves(value))
            if any(isinstance(array, jax.core.Tracer) for array in kept):
                raise InputError(
                    f"{title} keeps a tensor of one call for the next, in "
                    f"{'.'.join(filter(None, (name, attribute)))}, which a compiled network can't: "
                    "compute it in each call, or make it a buffer."
                )


def _torchax() -> Any:
    """Import torchax; release 0.0.13 names overloads that PyTorch 2.13 has no more.

    Those are of named tensors, which nothing here uses. They may be missing while torchax is
    imported and its environment built; https://github.com/google/torchax/pull/102 removes them,
    and with it this function. Tried with torch 2.13. torchax turns on a library's telemetry in the
    environment, which stays as it was.
    """
    telemetry = os.environ.get(TELEMETRY)
    requirement = "'jaxdesc[torch-target]'"
    with needed(requirement):
        from torch._ops import OpOverloadPacket as Packet
    found = Packet.__getattr__

    def tolerant(self: Any, key: str) -> Any:
        try:
            return found(self, key)
        except AttributeError:
            if "name" in key.lower():  # Dimname_Scalar, dimname, names_dim
                return object()
            raise

    Packet.__getattr__ = tolerant
    try:
        with needed(requirement):
            import torchax
        _channels_last(torchax.default_env())
    finally:
        Packet.__getattr__ = found
        if telemetry is None:
            os.environ.pop(TELEMETRY, None)
    return torchax


def _channels_last(env: Any) -> None:
    """Give torchax our convolution of images, with the channels last inside.

    In the loops of `runtime.compiler.in_pieces` XLA's CPU compiler has only slow code for others.
    """
    import torch
    from torchax.ops.ops_registry import all_aten_ops

    name = torch.ops.aten.convolution
    theirs = all_aten_ops[name].func

    def convolution(*arguments: Any) -> Any:
        images, weight, bias, stride, padding, dilation, transposed, _, groups = arguments
        if transposed or images.ndim != 4:
            return theirs(*arguments)
        # PyTorch may name one value for both sides.
        stride, padding, dilation = (
            [*each] * (2 // len(each)) for each in (stride, padding, dilation)
        )
        found = conv_general_dilated(
            jnp.moveaxis(images, 1, 3),
            jnp.transpose(weight, (2, 3, 1, 0)),
            stride,
            [(pad, pad) for pad in padding],
            rhs_dilation=dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
        return jnp.moveaxis(found if bias is None else found + bias, 3, 1)

    def in_torch(*arguments: Any) -> Any:
        return env.j2t_iso(convolution(*env.t2j_iso(arguments)))

    env.override_op_definition(name, in_torch)
