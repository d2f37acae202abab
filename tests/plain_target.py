"""A network in plain JAX, as a user would hand one over: cheap to compile, easy to work out."""

import jax.numpy as jnp
import numpy as np

import jaxdesc as jd
from jaxdesc.models.taps import recorded

PREPROCESS = jd.Preprocess(32, 0.875, "bilinear", mean=(0.5,) * 3, std=(0.25,) * 3)


def patches(params, pixels):
    """Mean colours of 4 × 4 patches, mixed and cut at zero."""
    colours = pixels.reshape(len(pixels), 4, 8, 4, 8, 3).mean(axis=(2, 4))
    return jnp.maximum(jnp.matmul(colours, params["mix"], precision="highest"), 0)


def head(params, maps):
    pooled = maps.mean(axis=(1, 2))
    return jnp.matmul(pooled, params["weight"], precision="highest") + params["bias"][None]


def network(patches=patches, head=head):
    """A network of two parts, with a tap between them."""

    def apply(params, pixels, tap):
        return head(params, tap("patches", patches(params, pixels)))

    return apply


apply = network()  # one function, so that its programs are compiled once


def parameters(neurons=6, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"mix": (3, 10), "weight": (10, neurons), "bias": (neurons,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def plain_target(params=None, classes=(), **changes):
    """A target of these parameters; `changes` replace its other fields."""
    fields = {"apply": apply, "preprocess": PREPROCESS, "classes": classes} | changes
    return jd.Target(params=parameters() if params is None else params, **fields)


def maps_and_logits(target, pixels):
    """The value of a target's attention layer, and its logits."""
    logits, values = recorded(target.apply, target.params, pixels, [target.attention_layer])
    return values[target.attention_layer], logits


def logits_behind(target, maps):
    """The logits if `maps` took the place of that layer."""
    size = target.preprocess.size
    blank = jnp.zeros((len(maps), size, size, 3))
    layer = target.attention_layer
    return target.apply(target.params, blank, lambda name, x: maps if name == layer else x)
