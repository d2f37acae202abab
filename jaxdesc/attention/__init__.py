"""Where a network looks in an image, and the window of the image that shows it.

Grad-CAM (Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", ICCV 2017) weights the channels of the last feature maps by how much each raises the
logit of a class. The network is split into a trunk, which makes those maps, and a head, which reads
them; only the head is differentiated.

A window is a square of the image after its shorter side was resized. The centre window is
torchvision's `CenterCrop`, pixel for pixel; the others differ from it only in where they lie.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Float32, Float64, Int

from jaxdesc.runtime.compiler import jit

# Feature maps [batch, row, column, channel] -> logits [batch, class].
Head = Callable[[Array], Array]

WINDOWS = ("centre", "attention", "random", "box", "full")


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


def peaks(
    cams: Float[ArrayLike, "batch row column"],
) -> tuple[Float64[np.ndarray, "batch 2"], Bool[np.ndarray, "batch"]]:
    """The centre of each map's highest cell, the first in row-major order where several are.

    Args:
        cams: Grad-CAM maps.

    Returns:
        Centres as (y, x) fractions of height and width, and whether a peak was found. There is
        none in a map with no positive value or with any NaN: the centre is then (0.5, 0.5). (The
        argmax of zeros would silently point at the top-left corner.)
    """
    # On the host in float64: the middle cell of an odd grid must give exactly one half.
    maps = np.asarray(cams, np.float64)
    _, height, width = maps.shape
    flat = maps.reshape(len(maps), -1)
    found = np.any(flat > 0, axis=1) & ~np.any(np.isnan(flat), axis=1)
    row, column = np.divmod(flat.argmax(axis=1), width)
    centres = np.stack([(row + 0.5) / height, (column + 0.5) / width], axis=1)
    return np.where(found[:, None], centres, 0.5), found


class Window(NamedTuple):
    """A square of an image: its first row, its first column and its side, in pixels."""

    top: int
    left: int
    side: int


def resized_shape(height: int, width: int, shorter: int) -> tuple[int, int]:
    """(height, width) after torchvision's `Resize(shorter)`: the longer side is rounded down.

    Raises:
        ValueError: a length is below 1 pixel.
    """
    if min(height, width, shorter) < 1:
        raise ValueError(
            f"an image of {height} x {width} can't be resized to a shorter side of {shorter}: "
            "all three must be at least 1 pixel."
        )
    longer = int(shorter * max(height, width) / min(height, width))
    return (shorter, longer) if height <= width else (longer, shorter)


def window(height: int, width: int, side: int, centre: tuple[float, float]) -> Window:
    """The window of a given side around a centre, moved inside the image where it juts out.

    Args:
        height: of the resized image, in pixels.
        width: of the resized image, in pixels.
        side: of the window, in pixels.
        centre: (y, x) fractions of height and width. (0.5, 0.5) gives torchvision's
            `CenterCrop(side)`, whose rounding (halves to even) is used for every centre.

    Returns:
        The window.

    Raises:
        ValueError: the window is larger than the image, or the centre isn't finite.
    """
    if not 1 <= side <= min(height, width):
        raise ValueError(f"a window of side {side} doesn't fit an image of {height} x {width}.")
    if not np.isfinite(centre).all():
        raise ValueError(f"the window's centre is {tuple(centre)}, but it must be finite.")
    top, left = (
        min(max(round(float(fraction) * length - side / 2), 0), length - side)
        for fraction, length in zip(centre, (height, width), strict=True)
    )
    return Window(top, left, side)


def random_centre(
    seed: int, image: int, height: int, width: int, field: float
) -> tuple[float, float]:
    """The centre of a random window of image number `image`, as (y, x) fractions.

    Uniform over the places where the whole window lies inside: a centre uniform over the image
    would be clamped to its edges most of the time. The generator is keyed by the pair, so a window
    depends neither on its batch nor on how many images there are.

    Args:
        seed: of all images' windows.
        image: its index.
        height: of the image, in pixels.
        width: of the image, in pixels.
        field: side of the window as a share of the shorter side.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, image]))
    side = field * min(height, width)
    y, x = (
        (side / 2 + float(share) * (length - side)) / length
        for share, length in zip(generator.random(2), (height, width), strict=True)
    )
    return y, x


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
