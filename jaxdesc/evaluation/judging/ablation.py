"""Ablation: what the class logits lose without a unit, with its concept in the image or not.

A label that says what a unit is for predicts in which images the unit matters. A unit is zeroed at
all positions by a tap; a latent of a dictionary in what the dictionary decodes.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float32, Float64, Int, UInt8

from jaxdesc.errors import InputError
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.models.taps import Apply
from jaxdesc.models.target import LOGITS, Target, normalised
from jaxdesc.runtime.compiler import jit
from jaxdesc.runtime.mesh import shared_out

NOTHING = -1  # a unit's index if none is zeroed


class Effect(NamedTuple):
    """Mean fall of the predicted class's logit in images with the concept, minus that in others.

    `random` is the same of another unit of the layer, on the same images; NaN if no image, or every
    one, shows the concept.
    """

    unit: float
    random: float


def check_ablation(target: Target, layer: str) -> None:
    """Refuse a layer whose units have no effect on logits but their own."""
    if layer == LOGITS:
        raise InputError(
            f"Ablation zeroes units before the logits, but {layer!r} is the logits: choose a layer "
            f"of {', '.join(name for name in target.layers if name != LOGITS)}."
        )
    if not target.logit_count:
        raise InputError(
            f"Ablation measures logits, but {target.name} has none: leave it out (--ablate)."
        )


def logits_without(
    target: Target,
    layer: str,
    pixels: UInt8[np.ndarray, "height width 3"],
    units: Int[np.ndarray, "unit"],
) -> Float32[Array, "unit class"]:
    """Logits of an image without each of some units of a layer; whole ones for `NOTHING`.

    What comes before the layer is computed once.
    """
    found: Array = _without(
        target.apply, target.preprocess, target.mesh, layer, target.params, pixels[None], units
    )
    return found


def effect(falls: Float64[np.ndarray, "2 image"], shown: Bool[np.ndarray, "image"]) -> Effect:
    """Compare falls of a logit, by the unit and by another one, in images with a concept."""
    if shown.all() or not shown.any():
        return Effect(np.nan, np.nan)
    gaps = falls[:, shown].mean(axis=1) - falls[:, ~shown].mean(axis=1)
    return Effect(*gaps.tolist())


def chosen_images(
    shown: Bool[np.ndarray, "image"], each: int, order: Sequence[int]
) -> Int[np.ndarray, "some"]:
    """The first `each` images that show a concept, and as many that don't, in a random order."""
    ordered = np.asarray(order)
    sides = (ordered[shown[ordered]][:each], ordered[~shown[ordered]][:each])
    return np.sort(np.concatenate(sides))


@partial(jit, static=("apply", "preprocess", "mesh", "layer"))
def _without(
    apply: Apply,
    preprocess: Preprocess,
    mesh: Mesh | None,
    layer: str,
    params: Any,
    pixels: Any,
    units: Any,
) -> Array:
    def each(given: tuple[Any, Array], units: Array) -> Array:
        params, image = given

        def run(unit: Array) -> Array:
            def tap(name: str, x: Array) -> Array:
                kept = (jnp.arange(x.shape[-1]) != unit).astype(x.dtype)
                return x * kept.reshape(*(1,) * (x.ndim - 1), -1) if name == layer else x

            logits: Array = apply(params, normalised(preprocess, image), tap)
            return logits[0].astype(jnp.float32)

        return jax.vmap(run)(units)

    found: Array = shared_out(each, mesh, (params, pixels), units)
    return found
