"""Oracles of the class activation maps: float64 loops, gradients by finite differences."""

import math

import numpy as np


def gradient(head, maps, class_, step=1e-5):
    """∂y_c/∂A [h, w, C] of a float64 head, from [h, w, C] to logits."""
    maps = np.array(maps, np.float64)
    result = np.zeros(maps.shape)
    for cell in np.ndindex(*maps.shape):
        above, below = maps.copy(), maps.copy()
        above[cell] += step
        below[cell] -= step
        result[cell] = (float(head(above)[class_]) - float(head(below)[class_])) / (2 * step)
    return result


def grad_cam_pp(head, maps, class_):
    """Chattopadhay et al. 2018, for Y = exp(y_c); divided by exp(y_c).

    The first three derivatives of Y are exp(y_c) g, exp(y_c) g² and exp(y_c) g³ (where y_c is
    linear in A); α = D2 / (2 D2 + Σ_ab A_ab D3) (eq. 19) and w_k = Σ_ij α_ij relu(D1) (eq. 10).
    """
    maps = np.asarray(maps, np.float64)
    g, score = gradient(head, maps, class_), math.exp(float(head(maps)[class_]))
    height, width, channels = maps.shape
    result = np.zeros((height, width))
    for k in range(channels):
        total, weight = maps[:, :, k].sum(), 0.0
        for y in range(height):
            for x in range(width):
                first, second, third = (score * g[y, x, k] ** power for power in (1, 2, 3))
                if 2 * second + total * third != 0:
                    weight += second / (2 * second + total * third) * max(first, 0.0)
        result += weight * maps[:, :, k]
    return np.maximum(result, 0) / score


def layer_cam(head, maps, class_):
    """Jiang et al. 2021: relu(Σ_k relu(g_kij) A_kij)."""
    maps = np.asarray(maps, np.float64)
    g = gradient(head, maps, class_)
    result = np.zeros(maps.shape[:2])
    for y, x, k in np.ndindex(*maps.shape):
        result[y, x] += max(g[y, x, k], 0.0) * maps[y, x, k]
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


def score_cam(network, pixels, maps, class_):
    """Wang et al. 2020, algorithm 1; the black image is subtracted, as eq. 5 has it.

    Args:
        network: float64 [H, W, 3] -> logits.
        pixels: [H, W, 3].
        maps: A [h, w, C] of these pixels.
        class_: c.
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


def energy(cam, box):
    """Share of a map's sum inside (left, top, right, bottom), cell by cell (Wang et al.)."""
    height, width = cam.shape
    left, top, right, bottom = box
    inside = 0.0
    for row in range(height):
        for column in range(width):
            down = min(bottom, (row + 1) / height) - max(top, row / height)
            along = min(right, (column + 1) / width) - max(left, column / width)
            inside += float(cam[row, column]) * max(down, 0) * height * max(along, 0) * width
    return inside / float(np.sum(cam, dtype=np.float64))
