"""Why and where: each neuron's share in one logit, and the part of the image that it looks at.

The rules are those of WWW (Ahn et al. 2024): a neuron's contribution to class y is
φ_k = a_k · ∂z_y/∂a_k, its map is its channel without the values up to their 70th percentile, and
an image's map is the sum of its foremost neurons' maps, weighted by their contributions.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Var, jaxpr_as_fun
from jaxtyping import Array, Float, Int

from jaxdesc.runtime.compiler import jit

PERCENTILE = 70  # of a channel's values: those up to it are no part of its map
FOREMOST = 3  # neurons of an image's map


class Contributions(NamedTuple):
    """What a layer's neurons contribute to a logit of each image, and their maps.

    Attributes:
        values: φ, Σ over positions of A · ∂z/∂A. Behind a mean over positions and a linear head
            that is W[y, k] · a_k exactly; elsewhere it is Taylor's first order.
        maps: A, each neuron's activation at each position.
        logits: of every class.
    """

    values: Float[Array, "batch neuron"]
    maps: Float[Array, "batch row column neuron"]
    logits: Float[Array, "batch class"]


@partial(jit, static=("trunk", "head", "layer"))
def contributions(
    trunk: Callable[..., Any],
    head: Callable[..., Any],
    layer: str,
    params: Any,
    pixels: Float[Array | np.ndarray, "batch height width 3"],
    classes: Int[Array | np.ndarray, " batch"] | None = None,
) -> Contributions:
    """Compute every neuron's contribution to one logit of each image.

    Args:
        trunk: from (params, pixels) to (feature maps, taps by layer).
        head: from (params, feature maps) to logits.
        layer: a tap.
        params: the parameters of both.
        pixels: normalised images, which must not depend on each other.
        classes: y of each image; the predicted one where None.

    Raises:
        ValueError: the logits can't be traced back to the tap.
    """

    def forward(params: Any, pixels: Any) -> tuple[Array, Array]:
        feature_maps, taps = trunk(params, pixels)
        return taps[layer], head(params, feature_maps)

    behind = _behind_first(jax.make_jaxpr(forward)(params, pixels))
    if behind is None:
        raise ValueError(
            f"the logits can't be traced back to the tap {layer!r}: expected the trunk itself, and "
            "no function compiled within it, to compute the tap."
        )
    maps, logits = forward(params, pixels)
    labels = logits.argmax(axis=1) if classes is None else jnp.asarray(classes)
    leaves = jax.tree.leaves((params, pixels))

    def logit(maps: Array) -> Array:
        (logits,) = behind(*leaves, maps)
        return jnp.take_along_axis(logits.astype(jnp.float32), labels[:, None], axis=1).sum()

    products = maps.astype(jnp.float32) * jax.grad(logit)(maps).astype(jnp.float32)
    return Contributions(products.sum(axis=(1, 2)), maps.astype(jnp.float32), logits)


def _behind_first(program: ClosedJaxpr) -> Callable[..., Any] | None:
    """Of a program with two results the second, as a function of its inputs and the first.

    Nothing where the second does not depend on the first, or on more of what computes it: a program
    within the program may compute both.
    """
    jaxpr = program.jaxpr
    first, second = jaxpr.outvars
    kept, needed = [], {second}
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(equation.outvars) - {first}:
            if first in equation.outvars:
                return None
            kept.append(equation)
            needed.update(operand for operand in equation.invars if isinstance(operand, Var))
    if first not in needed:
        return None
    cut = jaxpr.replace(invars=[*jaxpr.invars, first], outvars=[second], eqns=kept[::-1])
    behind: Callable[..., Any] = jaxpr_as_fun(program.replace(jaxpr=cut))
    return behind


def neuron_map(
    channel: Float[np.ndarray, "row column"], size: int
) -> Float[np.ndarray, "size size"]:
    """Where a neuron looks: its channel's largest values, enlarged, between 0 and 1.

    Values up to the 70th percentile become 0, the rest is enlarged bilinearly (half-pixel centres)
    and scaled from its smallest to its largest value. A channel without differences gives zeros.
    """
    channel = np.asarray(channel, np.float32)
    kept = np.where(channel > np.percentile(channel, PERCENTILE), channel, np.float32(0))
    enlarged = np.asarray(jax.image.resize(kept, (size, size), "bilinear"))
    return _scaled(enlarged)


def image_map(
    contributed: Float[np.ndarray, " neuron"],
    maps: Float[np.ndarray, "row column neuron"],
    size: int,
) -> Float[np.ndarray, "size size"]:
    """Where an image's foremost neurons look: Σ φ_k/Σφ × map over the three of largest φ.

    Σφ is over those three, so the weights sum to 1; one that does not contribute, φ ≤ 0, has none.
    """
    best = foremost(contributed, FOREMOST)
    weights = np.maximum(contributed[best], 0).astype(np.float64)
    if not weights.sum() > 0:
        return np.zeros((size, size), np.float32)
    each = [neuron_map(maps[..., unit], size) for unit in best]
    weighted = zip(weights / weights.sum(), each, strict=True)
    return np.sum([weight * own for weight, own in weighted], axis=0).astype(np.float32)


def foremost(contributed: Float[np.ndarray, " neuron"], count: int) -> list[int]:
    """The neurons that contribute most, best first, ties by index."""
    order: list[int] = np.argsort(-np.asarray(contributed), kind="stable")[:count].tolist()
    return order


def cosine(one: Float[np.ndarray, "..."], other: Float[np.ndarray, "..."]) -> float:
    """Cosine between two maps; NaN where one of them is empty."""
    a, b = (np.asarray(own, np.float64).ravel() for own in (one, other))
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norms) if norms > 0 else float("nan")


def _scaled(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)
