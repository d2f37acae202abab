"""Geometry of views: the squares of an image that a network sees.

A window is a square of the image after its shorter side was resized. The centre window is
torchvision's `CenterCrop`, pixel for pixel; the others differ from it in their position only.
Centres are (y, x) as fractions of the height and the width.
"""

import numpy as np
from jaxtyping import Array, Bool, Float, Float64, Int

from jaxdesc.images.example import Box

VIEWS = ("centre", "attention", "random", "box", "full")  # "full" is the whole image, no window

POSITIONS = 5  # of a unit's window along each side of an image, so that units share windows

Centre = tuple[float, float]
MIDDLE: Centre = (0.5, 0.5)


def resized_shape(height: int, width: int, shorter: int) -> tuple[int, int]:
    """(height, width) after torchvision's `Resize(shorter)`: the longer side is rounded down."""
    longer = int(shorter * max(height, width) / min(height, width))
    return (shorter, longer) if height <= width else (longer, shorter)


def corner(height: int, width: int, side: int, centre: Centre) -> tuple[int, int]:
    """(top, left) of the window around a centre, moved inside the resized image if it juts out.

    All are in pixels, and the side is at most the shorter side. (0.5, 0.5) gives torchvision's
    `CenterCrop(side)`, whose rounding (halves to even) is used for every centre.
    """
    top, left = (
        min(max(round(float(fraction) * length - side / 2), 0), length - side)
        for fraction, length in zip(centre, (height, width), strict=True)
    )
    return top, left


def random_centre(seed: int, image: int, size: tuple[int, int], field: float) -> Centre:
    """Centre of a random window of image number `image`, of (width, height) in pixels.

    It is uniform over the positions at which the whole window, `field` of the shorter side, is
    inside: a centre uniform over the image would be clamped to its edges most of the time. The
    generator is keyed by seed and image, so a window depends neither on its batch nor on the number
    of images.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, image]))
    (y, x) = _centred(generator.random(2), np.array(size[::-1], np.float64), field)
    return float(y), float(x)


def _centred(
    shares: Float[np.ndarray, "*n 2"], size: Float[np.ndarray, "*n 2"], field: float
) -> Float[np.ndarray, "*n 2"]:
    """Centres of windows at shares of the way that they can go, down and to the right."""
    side = field * size.min(axis=-1, keepdims=True)
    return (side / 2 + shares * (size - side)) / size


def snapped(
    centres: Float[np.ndarray, "*n 2"], sizes: Float[np.ndarray, "*n 2"], field: float
) -> Int[np.ndarray, "*n"]:
    """Number of the position, among 5 × 5 in each image, that is nearest to a window's centre.

    Positions are at equal steps of the way that a window can go; along an axis on which it can't
    move it is in the middle. Sizes are (height, width) in pixels.
    """
    side = field * sizes.min(axis=-1, keepdims=True)
    free = sizes - side
    shares = np.where(free > 0, (centres * sizes - side / 2) / np.where(free > 0, free, 1), 0.5)
    down, across = np.moveaxis(np.rint((POSITIONS - 1) * np.clip(shares, 0, 1)), -1, 0)
    return (POSITIONS * down + across).astype(np.int64)


def at_positions(
    positions: Int[np.ndarray, "*n"], sizes: Float[np.ndarray, "*n 2"], field: float
) -> Float64[np.ndarray, "*n 2"]:
    """Centres of the windows at the positions that `snapped` numbers."""
    shares = np.stack(np.divmod(positions, POSITIONS), axis=-1) / (POSITIONS - 1)
    return _centred(shares, sizes, field)


def whole(size: tuple[int, int]) -> Box:
    """Box of a whole image of (width, height)."""
    return (0.0, 0.0, float(size[0]), float(size[1]))


def box_centre(box: Box, size: tuple[int, int]) -> Centre:
    """Centre of a box (left, top, right, bottom) in pixels of an image of (width, height)."""
    left, top, right, bottom = box
    return (top + bottom) / 2 / size[1], (left + right) / 2 / size[0]


def peaks(
    cams: Float[np.ndarray | Array, "batch row column"],
) -> tuple[Float64[np.ndarray, "batch 2"], Bool[np.ndarray, "batch"]]:
    """Centre of each attention map's highest cell, and whether the map has a peak.

    Of several such cells the first in row-major order is taken. Maps are not upsampled, and centres
    are fractions of them. A map with no positive value or with any NaN has no peak; its centre is
    (0.5, 0.5). (The argmax of zeros would silently point at the top-left corner.)
    """
    # On the host in float64: the middle cell of an odd grid must give exactly one half.
    maps = np.asarray(cams, np.float64)
    _, height, width = maps.shape
    flat = maps.reshape(len(maps), -1)
    peaked = np.any(flat > 0, axis=1) & ~np.any(np.isnan(flat), axis=1)
    row, column = np.divmod(flat.argmax(axis=1), width)
    centres = np.stack([(row + 0.5) / height, (column + 0.5) / width], axis=1)
    return np.where(peaked[:, None], centres, 0.5), peaked


def in_image(peak: Float[np.ndarray, "2"], box: Box, size: tuple[int, int]) -> Centre:
    """Convert a centre from fractions of a box to fractions of the image of (width, height)."""
    (y, x), (left, top, right, bottom) = peak.tolist(), box
    down, across = top + y * (bottom - top), left + x * (right - left)
    return down / size[1], across / size[0]
