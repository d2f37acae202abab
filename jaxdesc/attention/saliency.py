"""Where a network looks: CAM, Grad-CAM, Grad-CAM++, LayerCAM and Score-CAM behind one interface.

All of them weight the channels A_k of the last feature maps (LayerCAM each cell of them) by what
they do for the logit y_c of a class, add them up and cut negative cells off. With g = ∂y_c/∂A of
the head alone:

- CAM (Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016): the
  class's weights of a head that takes the mean over positions and applies one linear layer.
- Grad-CAM (Selvaraju et al., ICCV 2017): the mean of g over positions.
- Grad-CAM++ (Chattopadhay et al., WACV 2018): positive g, weighted by position.
- LayerCAM (Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps", TIP 2021): the
  positive g of each cell itself.
- Score-CAM (Wang et al., CVPR Workshops 2020): the logit of the image seen through the channel.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Float32, Int

from jaxdesc.attention import Head, SplitNetwork, cam_of_maps, cams_and_logits, check_classes
from jaxdesc.runtime.compiler import jit, product

# How far logits may be from those of a linear head, relative to the largest.
_LINEAR = 1e-3

# Channels that Score-CAM shows an image through at a time; bounds memory.
_CHANNELS = 16


def saliency(
    method: str,
    target: SplitNetwork,
    pixels: Float[ArrayLike, "batch height width 3"],
    classes: Int[ArrayLike, "batch"] | None = None,
) -> Float32[Array, "batch row column"]:
    """Maps of where a network looks, before upsampling, as `attention.grad_cam` gives them.

    Args:
        method: one of `METHODS`.
        target: the network.
        pixels: images, normalised as the network's own preprocessing says.
        classes: the class whose logit each image is explained by; the predicted one by default.

    Returns:
        Maps ≥ 0 of the size of the last feature maps; NaN where the network gave NaN.

    Raises:
        ValueError: the method is unknown, a class isn't one of the network's, or the method is
            "cam" and the head isn't a mean over positions and one linear layer.
    """
    if method not in METHODS:
        raise ValueError(f"{method!r} is no map of attention: choose one of {', '.join(METHODS)}.")
    network = target.trunk, target.head, target.params
    pixels = jnp.asarray(pixels, jnp.float32)
    if method == "cam":
        maps, _ = jax.eval_shape(target.trunk, target.params, pixels)
        check_linear(target, maps.shape[1:])
    found, logits = _maps_and_logits(method, *network, pixels, classes)
    if classes is not None:
        check_classes(np.asarray(classes), logits.shape[1])
    return found


def maps_and_logits(
    method: str,
    trunk: Callable[..., Any],
    head: Callable[..., Any],
    params: Any,
    pixels: Float[Array, "batch height width 3"],
    classes: Int[ArrayLike, "batch"] | None,
) -> tuple[Float32[Array, "batch row column"], Float[Array, "batch class"]]:
    """Maps as `saliency` gives them, and the logits, for a program of the caller's own.

    Args:
        method: one of `METHODS`; for "cam" the head must pass `check_linear`.
        trunk: from (params, pixels) to (feature maps, anything else).
        head: from (params, feature maps) to logits.
        params: the parameters of both.
        pixels: normalised images.
        classes: the class that each image is explained by, not checked; the predicted one where
            None.
    """
    if method == "grad_cam":
        return cams_and_logits(trunk, head, params, pixels, classes)
    feature_maps, _ = trunk(params, pixels)
    logits = head(params, feature_maps)
    labels = logits.argmax(axis=1) if classes is None else jnp.asarray(classes)
    maps = feature_maps.astype(jnp.float32)
    if method == "score_cam":
        return _score_cam(trunk, head, params, pixels, maps, labels), logits
    return _of_maps(_OF_MAPS[method], head, params, maps, labels), logits


_maps_and_logits = jit(maps_and_logits, static=("method", "trunk", "head"))


def check_linear(target: SplitNetwork, shape: tuple[int, int, int]) -> None:
    """Find out whether a head is what CAM needs, on two made-up feature maps.

    Args:
        target: the network, whose trunk isn't run.
        shape: rows, columns and channels of its feature maps.

    Raises:
        ValueError: the head isn't a mean over positions and one linear layer.
    """
    maps = jnp.asarray(np.random.default_rng(0).exponential(size=(2, *shape)), jnp.float32)
    _check_linear(target, maps, target.head(target.params, maps))


def cam(head: Head, feature_map: Array, label: Array) -> Float32[Array, "row column"]:
    """Σ_k W[c, k] A_k of one image (eq. 2 of Zhou et al.), negative cells cut off.

    The weights are the head's gradient, summed over positions: that of a mean and a linear layer.
    """
    weights = _gradient(head, feature_map, label).sum(axis=(0, 1))
    return jax.nn.relu(product(feature_map, weights))


def grad_cam_pp(head: Head, feature_map: Array, label: Array) -> Float32[Array, "row column"]:
    """Grad-CAM++ of one image: w_k = Σ_ij α_kij relu(g_kij), then relu(Σ_k w_k A_k).

    α_kij = g² / (2 g² + Σ_ab A_kab g³), 0 where g is, for the score exp(y_c) (eqs. 10 and 19). Its
    gradient is exp(y_c) g; that factor, the same in the whole map, is left out, as it overflows.
    """
    gradient = _gradient(head, feature_map, label)
    square = gradient**2
    total = 2 * square + feature_map.sum(axis=(0, 1))[None, None] * gradient**3
    shares = jnp.where(total != 0, square / jnp.where(total != 0, total, 1), 0)
    weights = (shares * jax.nn.relu(gradient)).sum(axis=(0, 1))
    return jax.nn.relu(product(feature_map, weights))


def layer_cam(head: Head, feature_map: Array, label: Array) -> Float32[Array, "row column"]:
    """LayerCAM of one image: relu(Σ_k relu(g_kij) A_kij) (eqs. 5 to 7 of Jiang et al.)."""
    positive = jax.nn.relu(_gradient(head, feature_map, label))
    return jax.nn.relu((positive * feature_map).sum(axis=2))


def grad_cam(head: Head, feature_map: Array, label: Array) -> Float32[Array, "row column"]:
    """Grad-CAM of one image, as `attention.cam_of_maps` gives it."""
    return cam_of_maps(head, feature_map[None], label[None])[0]


_OF_MAPS = {
    "cam": cam,
    "grad_cam": grad_cam,
    "grad_cam_pp": grad_cam_pp,
    "layer_cam": layer_cam,
}
# How reports call them.
TITLES = {
    "cam": "CAM",
    "grad_cam": "Grad-CAM",
    "grad_cam_pp": "Grad-CAM++",
    "layer_cam": "LayerCAM",
    "score_cam": "Score-CAM",
}
METHODS = tuple(TITLES)
DEFAULT = "grad_cam"


def _gradient(head: Head, feature_map: Array, label: Array) -> Float32[Array, "row column channel"]:
    def logit(feature_map: Array) -> Array:
        return head(feature_map[None])[0, label]

    return jax.grad(logit)(feature_map).astype(jnp.float32)


@partial(jit, static=("method", "head"))
def _of_maps(
    method: Callable[..., Any],
    head: Callable[..., Any],
    params: Any,
    maps: Float32[Array, "batch row column channel"],
    labels: Int[Array, "batch"],
) -> Float32[Array, "batch row column"]:
    return jax.vmap(partial(method, partial(head, params)))(maps, labels)


@partial(jit, static=("trunk", "head"))
def _score_cam(
    trunk: Callable[..., Any],
    head: Callable[..., Any],
    params: Any,
    pixels: Float32[Array, "batch height width 3"],
    maps: Float32[Array, "batch row column channel"],
    labels: Int[Array, "batch"],
) -> Float32[Array, "batch row column"]:
    """relu(Σ_k α_k A_k), α the softmax over channels of the logit of pixels ∘ s(U(A_k)).

    U upsamples bilinearly, s scales to 0 to 1 (algorithm 1 of Wang et al.); the logit of the black
    image, which the paper subtracts, is the same for all channels, so that the softmax has none of
    it. A channel that is the same everywhere masks nothing and has no part.
    """

    def of_image(own: tuple[Array, Array, Array]) -> Float32[Array, "row column"]:
        image, feature_map, label = own
        masks = jax.image.resize(feature_map, (*image.shape[:2], feature_map.shape[2]), "bilinear")
        low, high = masks.min(axis=(0, 1)), masks.max(axis=(0, 1))
        varies = high > low
        masks = (masks - low[None, None]) / jnp.where(varies, high - low, 1)[None, None]

        def logit(mask: Float32[Array, "height width"]) -> Float[Array, ""]:
            seen, _ = trunk(params, (image * mask[:, :, None])[None])
            return head(params, seen)[0, label]

        scores = jax.lax.map(logit, jnp.moveaxis(masks, 2, 0), batch_size=_CHANNELS)
        weights = jax.nn.softmax(scores, where=varies)
        return jax.nn.relu(product(feature_map, weights.astype(jnp.float32)))

    return jax.lax.map(of_image, (pixels, maps, labels))


def _check_linear(
    target: SplitNetwork,
    maps: Float32[Array, "batch row column channel"],
    logits: Float[Array, "batch class"],
) -> None:
    """Compare the logits with those of the maps' means, half of the channels at a time.

    Raises:
        ValueError: their sum isn't the logits', as it is where the head is linear in those means.
    """
    means = jnp.broadcast_to(maps.mean(axis=(1, 2), keepdims=True), maps.shape)
    even = (jnp.arange(maps.shape[3]) % 2 == 0)[None, None, None]
    parts = [jnp.where(even, means, 0), jnp.where(even, 0, means), jnp.zeros_like(maps)]
    first, second, nothing = (np.asarray(target.head(target.params, part)) for part in parts)
    expected, known = first + second - nothing, np.asarray(logits)
    apart, largest = np.abs(known - expected), np.abs(known)
    if np.nanmax(apart, initial=0) > _LINEAR * np.nanmax(largest, initial=1e-30):
        raise ValueError(
            "CAM needs a head that takes the mean over positions and applies one linear layer, but "
            "this network's does otherwise: choose another method."
        )
