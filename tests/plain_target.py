"""A network in plain JAX, as a user would hand one over: cheap to compile, easy to work out."""

import jax.numpy as jnp
import numpy as np

import jaxdesc as jd

PREPROCESS = jd.Preprocess(
    size=32, field=0.875, interpolation="bilinear", mean=(0.5,) * 3, std=(0.25,) * 3
)


def trunk(params, pixels):
    """Mean colours of 4 × 4 patches, mixed and cut at zero."""
    batch = pixels.shape[0]
    patches = pixels.reshape(batch, 4, 8, 4, 8, 3).mean(axis=(2, 4))
    maps = jnp.maximum(jnp.matmul(patches, params["mix"], precision="highest"), 0)
    return maps, {"patches": maps}


def head(params, maps):
    pooled = maps.mean(axis=(1, 2))
    return jnp.matmul(pooled, params["weight"], precision="highest") + params["bias"][None]


def parameters(neurons=6, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"mix": (3, 10), "weight": (10, neurons), "bias": (neurons,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def plain_target(params=None, classes=(), **changes):
    """A target of these parameters; `changes` replace its other fields."""
    fields = {
        "params": parameters() if params is None else params,
        "trunk": trunk,
        "head": head,
        "preprocess": PREPROCESS,
        "classes": classes,
    }
    return jd.Target(**(fields | changes))
