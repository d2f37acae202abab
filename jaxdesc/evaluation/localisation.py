"""Localisation: attention maps against true boxes, to see if a network looks at the object.

Each score is compared with the share of the image that the box covers, which a uniform map reaches.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Float64

from jaxdesc.images.windows import peaks


class Localisation(NamedTuple):
    """Scores of maps against boxes, one value per image.

    `pointing` is True if the centre of the highest cell is in the box (the pointing game of Zhang
    et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016). `energy` is the share of
    the map's sum in the box (the energy-based pointing game of Wang et al., "Score-CAM", 2020),
    each cell's value spread evenly over the cell. Without a positive value in the map they are
    False and NaN. `chance` is the share of the image in the box.
    """

    pointing: Bool[np.ndarray, "image"]
    energy: Float64[np.ndarray, "image"]
    chance: Float64[np.ndarray, "image"]


def localisation(
    maps: Float[np.ndarray | Array, "image row column"], boxes: Float[np.ndarray, "image 4"]
) -> Localisation:
    """Compare maps ≥ 0, before upsampling, with true boxes.

    Boxes are (left, top, right, bottom), as fractions of the width and height that maps cover.
    """
    left, top, right, bottom = np.asarray(boxes, np.float64).T
    centres, found = peaks(maps)
    y, x = centres.T
    pointing = found & (left <= x) & (x <= right) & (top <= y) & (y <= bottom)
    values = np.where(found[:, None, None], np.asarray(maps, np.float64), np.nan)

    def covered(start: np.ndarray, stop: np.ndarray, cells: int) -> np.ndarray:
        edges, ends = np.arange(cells + 1)[None], cells * np.stack([start, stop])[..., None]
        return np.maximum(np.minimum(edges[:, 1:], ends[1]) - np.maximum(edges[:, :-1], ends[0]), 0)

    rows, columns = covered(top, bottom, values.shape[1]), covered(left, right, values.shape[2])
    within = np.einsum("irc,ir,ic->i", values, rows, columns)
    return Localisation(pointing, within / values.sum(axis=(1, 2)), (right - left) * (bottom - top))
