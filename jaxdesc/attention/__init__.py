"""Attention maps: where a network looks in an image.

Grad-CAM (Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", ICCV 2017) weights the channels of the last feature maps by how much each raises the
logit of a class. The network is split into a trunk, which makes those maps, and a head, which reads
them; only the head is differentiated.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Float32, Int

from jaxdesc.runtime.compiler import jit

# Feature maps [batch, row, column, channel] -> logits [batch, class].
Head = Callable[[Array], Array]


@runtime_checkable
class SplitNetwork(Protocol):
    """What Grad-CAM needs of a network: its parameters, and its two halves as hashable functions.

    `trunk(params, pixels)` returns the last feature maps, [batch, row, column, channel], and
    anything else; `head(params, feature_maps)` returns logits, [batch, class].
    """

    @property
    def params(self) -> Any:
        """The parameters of both halves, a pytree."""

    @property
    def trunk(self) -> Callable[..., Any]:
        """From (params, pixels) to (feature maps, anything else)."""

    @property
    def head(self) -> Callable[..., Any]:
        """From (params, feature maps) to logits."""


def grad_cam(
    target: SplitNetwork,
    pixels: Float[ArrayLike, "batch height width 3"],
    classes: Int[ArrayLike, "batch"] | None = None,
) -> Float32[Array, "batch row column"]:
    """Grad-CAM of a batch of images, before upsampling (Selvaraju et al. 2017, eqs. 1 and 2).

    Args:
        target: the network.
        pixels: images, normalised as the network's own preprocessing says.
        classes: the class whose logit each image is explained by; the predicted one by default.

    Returns:
        Maps ≥ 0 of the size of the last feature maps; NaN where the network gave NaN.

    Raises:
        ValueError: a class isn't one of the network's.
    """
    cams, logits = _grad_cam(target.trunk, target.head, target.params, pixels, classes)
    if classes is not None:
        check_classes(np.asarray(classes), logits.shape[1])
    return cams


def cams_and_logits(
    trunk: Callable[..., Any],
    head: Callable[..., Any],
    params: Any,
    pixels: Float[ArrayLike, "batch height width 3"],
    classes: Int[ArrayLike, "batch"] | None,
) -> tuple[Float32[Array, "batch row column"], Float[Array, "batch class"]]:
    """Grad-CAM as `grad_cam` gives it, and the logits, for a program of the caller's own.

    Args:
        trunk: from (params, pixels) to (feature maps, anything else).
        head: from (params, feature maps) to logits.
        params: the parameters of both.
        pixels: normalised images.
        classes: the class that each image is explained by, not checked; the predicted one where
            None.
    """
    feature_maps, _ = trunk(params, pixels)
    logits = head(params, feature_maps)
    if classes is None:
        classes = logits.argmax(axis=1)
    return cam_of_maps(partial(head, params), feature_maps, classes), logits


def cam_of_maps(
    head: Head,
    feature_maps: Float[ArrayLike, "batch row column channel"],
    classes: Int[ArrayLike, "batch"],
) -> Float32[Array, "batch row column"]:
    """Grad-CAM from feature maps A: w_k = mean_hw ∂y_c/∂A_k, then relu(Σ_k w_k A_k).

    The gradient is that of the head alone, image by image, so no image's logit depends on another
    image's maps.

    Args:
        head: from feature maps, [batch, row, column, channel], to logits, [batch, class].
        feature_maps: A, the trunk's output.
        classes: c, the class that each image is explained by.

    Returns:
        Maps ≥ 0; NaN where the feature maps or the head's gradient are.
    """
    return jax.vmap(partial(_cam_of_one, head))(jnp.asarray(feature_maps), jnp.asarray(classes))


_grad_cam = jit(cams_and_logits, static=("trunk", "head"))


def _cam_of_one(
    head: Head, feature_map: Float[Array, "row column channel"], label: Int[Array, ""]
) -> Float32[Array, "row column"]:
    def logit(feature_map: Array) -> Array:
        return head(feature_map[None])[0, label]

    feature_map = feature_map.astype(jnp.float32)
    weights = jax.grad(logit)(feature_map).astype(jnp.float32).mean(axis=(0, 1))
    weighted = jnp.matmul(feature_map, weights, precision=jax.lax.Precision.HIGHEST)
    return jax.nn.relu(weighted)


def check_classes(classes: np.ndarray, count: int) -> None:
    """Raise `ValueError` where a class isn't one of a network's."""
    if classes.size and (classes.min() < 0 or classes.max() >= count):
        raise ValueError(
            f"classes run from {classes.min()} to {classes.max()}, but the network has "
            f"classes 0 to {count - 1}."
        )
