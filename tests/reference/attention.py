"""Oracles of attention maps and their peaks: float64 loops, numeric gradients.

A head is a float64 function from maps A [h, w, C] to logits; a map of the class c is [h, w].
"""

import math

import numpy as np


def cam(weight, maps, class_):
    """relu(Σ_k W[c, k] A_k) behind a mean and W [K, C] (Zhou et al. 2016, eq. 2)."""
    weight, maps = np.asarray(weight, np.float64), np.asarray(maps, np.float64)
    result = np.zeros(maps.shape[:2])
    for y, x, k in np.ndindex(*maps.shape):
        result[y, x] += weight[class_, k] * maps[y, x, k]
    return np.maximum(result, 0.0)


def gradient(head, maps, class_, step=1e-5):
    """g = ∂y_c/∂A [h, w, C] by central differences, right to about 1e-10 of a smooth head."""
    maps = np.array(maps, np.float64)
    result = np.zeros(maps.shape)
    for cell in np.ndindex(*maps.shape):
        above, below = maps.copy(), maps.copy()
        above[cell] += step
        below[cell] -= step
        result[cell] = (float(head(above)[class_]) - float(head(below)[class_])) / (2 * step)
    return result


def grad_cam(head, maps, class_):
    """relu(Σ_k w_k A_k) with w_k = mean_hw g_k (Selvaraju et al. 2017, eqs. 1 and 2)."""
    maps, g = np.asarray(maps, np.float64), gradient(head, maps, class_)
    height, width, channels = maps.shape
    result = np.zeros((height, width))
    for k in range(channels):
        weight = sum(g[y, x, k] for y in range(height) for x in range(width)) / (height * width)
        result += weight * maps[:, :, k]
    return np.maximum(result, 0.0)


def grad_cam_pp(head, maps, class_):
    """Chattopadhay et al. 2018, for Y = exp(y_c); divided by exp(y_c).

    The first three derivatives of Y are exp(y_c) g, exp(y_c) g² and exp(y_c) g³ (where y_c is
    linear in A); α = D2 / (2 D2 + Σ_ab A_ab D3) (eq. 19) and w_k = Σ_ij α_ij relu(D1) (eq. 10).
    """
    maps, g = np.asarray(maps, np.float64), gradient(head, maps, class_)
    score = math.exp(float(head(maps)[class_]))
    height, width, channels = maps.shape
    result = np.zeros((height, width))
    for k in range(channels):
        total, weight = maps[:, :, k].sum(), 0.0
        for y, x in np.ndindex(height, width):
            first, second, third = (score * g[y, x, k] ** power for power in (1, 2, 3))
            if 2 * second + total * third != 0:
                weight += second / (2 * second + total * third) * max(first, 0.0)
        result += weight * maps[:, :, k]
    return np.maximum(result, 0) / score


def layer_cam(head, maps, class_):
    """relu(Σ_k relu(g_kij) A_kij) (Jiang et al. 2021, eqs. 5 to 7)."""
    maps, g = np.asarray(maps, np.float64), gradient(head, maps, class_)
    result = np.zeros(maps.shape[:2])
    for y, x, k in np.ndindex(*maps.shape):
        result[y, x] += max(g[y, x, k], 0.0) * maps[y, x, k]
    return np.maximum(result, 0)


def score_cam(network, pixels, maps, class_):
    """Wang et al. 2020, algorithm 1; the black image is subtracted, as eq. 5 has it.

    `network` is a float64 function from pixels [H, W, 3] to logits.
    """
    maps, pixels = np.asarray(maps, np.float64), np.asarray(pixels, np.float64)
    black = float(network(np.zeros_like(pixels))[class_])
    scores = {}
    for k in range(maps.shape[2]):
        mask = upsampled(maps[:, :, k], *pixels.shape[:2])
        if mask.max() > mask.min():
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            scores[k] = float(network(pixels * mask[:, :, None])[class_]) - black
    total = sum(math.exp(score) for score in scores.values())
    result = sum(math.exp(score) / total * maps[:, :, k] for k, score in scores.items())
    return np.maximum(result, 0)


def upsampled(cells, height, width):
    """Bilinear, pixels' centres at halves, edges repeated: as PyTorch's align_corners=False."""

    def places(many, few):
        for pixel in range(many):
            place = min(max((pixel + 0.5) * few / many - 0.5, 0.0), few - 1.0)
            low = min(int(place), few - 1)
            yield low, min(low + 1, few - 1), place - low

    result = np.zeros((height, width))
    for y, (top, bottom, down) in enumerate(places(height, cells.shape[0])):
        for x, (left, right, along) in enumerate(places(width, cells.shape[1])):
            upper = cells[top, left] * (1 - along) + cells[top, right] * along
            lower = cells[bottom, left] * (1 - along) + cells[bottom, right] * along
            result[y, x] = upper * (1 - down) + lower * down
    return result


def energy(cam, box):
    """Share of a map's sum inside (left, top, right, bottom), cell by cell (Wang et al. 2020)."""
    height, width = cam.shape
    left, top, right, bottom = box
    inside = 0.0
    for row, column in np.ndindex(height, width):
        down = min(bottom, (row + 1) / height) - max(top, row / height)
        along = min(right, (column + 1) / width) - max(left, column / width)
        inside += float(cam[row, column]) * max(down, 0) * height * max(along, 0) * width
    return inside / float(np.sum(cam, dtype=np.float64))


def peak(cam):
    """(y, x) of the middle of the highest cell as fractions, and whether there is a peak.

    Section 3 of the paper; method: Views. Of equal values the first in row-major order counts. A
    map with no positive value, or with any NaN, has no peak: the middle of the image, and False.
    """
    values = np.asarray(cam, np.float64)
    height, width = values.shape
    highest, centre, found = 0.0, (0.5, 0.5), False
    for row, column in np.ndindex(height, width):
        if np.isnan(values[row, column]):
            return (0.5, 0.5), False
        if values[row, column] > highest:
            highest, found = values[row, column], True
            centre = ((row + 0.5) / height, (column + 0.5) / width)
    return centre, found
