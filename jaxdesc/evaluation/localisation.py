"""Does a network look at the object? Maps of attention against true boxes.

Each score is compared with the share of the image that the box covers, which a uniform map reaches.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Float64

from jaxdesc.images.windows import peaks


class Localisation(NamedTuple):
    """Scores of maps against boxes, one value per image.

    Attributes:
        pointing: True if the centre of the highest cell is in the box (the pointing game of Zhang
            et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016); False if the map
            has no positive value.
        energy: share of the map's sum in the box (the energy-based pointing game of Wang et al.,
            "Score-CAM", 2020), each cell's value spread evenly over the cell; NaN if the map has no
            positive value.
        chance: share of the image in the box.
    """

    pointing: Bool[np.ndarray, "image"]
    energy: Float64[np.ndarray, "image"]
    chance: Float64[np.ndarray, "image"]


def localisation(
    maps: Float[np.ndarray | Array, "image row column"], boxes: Float[np.ndarray, "image 4"]
) -> Localisation:
    """Compare maps with true boxes.

    Args:
        maps: ≥ 0, before upsampling, as `attention.grad_cam` gives them.
        boxes: (left, top, right, bottom), as fractions of the width and height that the maps cover.
    """
    left, top, right, bottom = np.asarray(boxes, np.float64).T
    centres, found = peaks(maps)
    y, x = centres.T
    pointing = found & (left <= x) & (x <= right) & (top <= y) & (y <= bottom)
    values = np.where(found[:, None, None], np.asarray(maps, np.float64), np.nan)
    rows = _covered(top, bottom, values.shape[1])
    columns = _covered(left, right, values.shape[2])
    within = np.einsum("irc,ir,ic->i", values, rows, columns)
    return Localisation(pointing, within / values.sum(axis=(1, 2)), (right - left) * (bottom - top))


def _covered(
    start: Float64[np.ndarray, "image"], stop: Float64[np.ndarray, "image"], cells: int
) -> Float64[np.ndarray, "image cell"]:
    """Share of each cell's length between start and stop."""
    edges = np.arange(cells + 1)
    low = np.maximum(edges[None, :-1], cells * start[:, None])
    return np.maximum(np.minimum(edges[None, 1:], cells * stop[:, None]) - low, 0)
