"""Oracles of Grad-CAM, of its peak and of the window around it: float64 loops."""

from collections.abc import Callable

import numpy as np


def cam(weight: np.ndarray, feature_maps: np.ndarray, class_: int) -> np.ndarray:
    """CAM of a GAP+linear head, ``Σ_k W[c, k] A_k`` (Zhou et al. 2016).

    Method: Grad-CAM. As in Zhou et al. there is neither a ReLU nor the constant, so
    ``relu(cam) / (h·w)`` is Grad-CAM.

    Args:
        weight: W [K, C] of the linear layer.
        feature_maps: A [h, w, C].
        class_: c, below K.

    Returns:
        [h, w], float64.
    """
    weight = np.asarray(weight, dtype=np.float64)
    maps = np.asarray(feature_maps, dtype=np.float64)
    height, width, channels = maps.shape
    result = np.zeros((height, width), dtype=np.float64)
    for y in range(height):
        for x in range(width):
            for k in range(channels):
                result[y, x] += weight[class_, k] * maps[y, x, k]
    return result


def _grad_cam(gradient: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """``relu(Σ_k w_k A_k)`` with ``w_k = mean_hw ∂y_c/∂A_k``; method: Grad-CAM.

    Args:
        gradient: ∂y_c/∂A [h, w, C].
        maps: A [h, w, C].

    Returns:
        [h, w]; NaN stays NaN.
    """
    height, width, channels = maps.shape
    result = np.zeros((height, width), dtype=np.float64)
    for k in range(channels):
        w_k = 0.0
        for y in range(height):
            for x in range(width):
                w_k += gradient[y, x, k] / (height * width)
        for y in range(height):
            for x in range(width):
                result[y, x] += w_k * maps[y, x, k]
    return np.maximum(result, 0.0)


def grad_cam_linear(
    weight: np.ndarray, bias: np.ndarray, feature_maps: np.ndarray, class_: int
) -> np.ndarray:
    """Grad-CAM, by its definition, of the head ``y = W · mean_hw A + bias``.

    Method: Grad-CAM. The gradient of this head is ``∂y_c/∂A[y, x, k] = W[c, k] / (h·w)`` in every
    cell; the bias has no part in it.

    Args:
        weight: W [K, C].
        bias: [K].
        feature_maps: A [h, w, C].
        class_: c, below K.

    Returns:
        [h, w], float64, ≥ 0.
    """
    weight = np.asarray(weight, dtype=np.float64)
    maps = np.asarray(feature_maps, dtype=np.float64)
    height, width, channels = maps.shape
    gradient = np.zeros(maps.shape, dtype=np.float64)
    for y in range(height):
        for x in range(width):
            for k in range(channels):
                gradient[y, x, k] = weight[class_, k] / (height * width)
    return _grad_cam(gradient, maps)


def grad_cam_numeric(
    head: Callable[[np.ndarray], np.ndarray],
    feature_maps: np.ndarray,
    class_: int,
    step: float = 1e-5,
) -> np.ndarray:
    """Grad-CAM of any head, its gradient by central finite differences.

    Method: Grad-CAM. Right to about 1e-10 of the logits where the head is smooth; a kink of the
    head within ``step`` of a feature value makes it wrong there.

    Args:
        head: float64 [h, w, C] -> [K] logits.
        feature_maps: A [h, w, C].
        class_: c, below K.
        step: half the distance between the two evaluations.

    Returns:
        [h, w], float64, ≥ 0.
    """
    maps = np.array(feature_maps, dtype=np.float64)
    gradient = np.zeros(maps.shape, dtype=np.float64)
    for cell in np.ndindex(*maps.shape):
        above, below = maps.copy(), maps.copy()
        above[cell] += step
        below[cell] -= step
        rise = float(head(above)[class_]) - float(head(below)[class_])
        gradient[cell] = rise / (2.0 * step)
    return _grad_cam(gradient, maps)


def peak(cam: np.ndarray) -> tuple[tuple[float, float], bool]:
    """Centre of the highest cell, as fractions of the image's height and width.

    Section 3 of the paper (the area centred on the highest Grad-CAM value); method: Views. Of
    equal values the first in row-major order. No positive value, or any NaN: the middle of the
    image, and False.

    Args:
        cam: [h, w].

    Returns:
        ((y, x), found), with y = (row + 0.5) / h and x = (column + 0.5) / w.
    """
    values = np.asarray(cam, dtype=np.float64)
    height, width = values.shape
    if np.isnan(values).any():
        return (0.5, 0.5), False
    highest, centre, found = 0.0, (0.5, 0.5), False
    for row in range(height):
        for column in range(width):
            if values[row, column] > highest:
                highest, found = values[row, column], True
                centre = ((row + 0.5) / height, (column + 0.5) / width)
    return centre, found


def window(height: int, width: int, side: int, centre: tuple[float, float]) -> tuple[int, int]:
    """Top left corner of the square window around a centre, clamped inside the image.

    Method: Views. The corner ``centre · extent − side / 2`` is rounded as torchvision's CenterCrop
    does, with Python's ``round`` (halves to even), so (0.5, 0.5) is the centre crop.

    Args:
        height: of the image, in pixels.
        width: of the image, in pixels.
        side: of the window, in pixels, at most the shorter side.
        centre: (y, x), fractions of height and width.

    Returns:
        (top, left), with 0 ≤ top ≤ height − side and 0 ≤ left ≤ width − side.
    """
    if side > min(height, width):
        raise ValueError(f"a window of {side} does not fit {height} x {width}")
    corner = []
    for fraction, extent in zip(centre, (height, width), strict=True):
        start = round(float(fraction) * extent - side / 2.0)
        corner.append(min(max(start, 0), extent - side))
    return corner[0], corner[1]
