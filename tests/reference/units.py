"""Oracle of windows of units: one unit of one image at a time; method: Windows of a unit."""

from types import SimpleNamespace

import numpy as np

from tests.reference import attention
from tests.reference import exemplars as rules

STEPS = 4  # from one end of a window's way to the other: five positions along each side


def unit_windows(
    network, preprocess, source, layer, pooling, cam, field, exemplars, candidates, rank
):
    """Every unit's exemplars, each cut around the peak of its own map.

    `network` gives layers [h, w, C] by name, logits [K] and `head(name, maps)`, the logits if
    `maps` took that layer's place, of normalised pixels [S, S, 3]. Units are the logits ("fc"),
    whose map is their `cam` at the last layer, or a layer's channels, which are their own maps.

    Returns each unit's `exemplars` as (image, box, value), best first, whose value is the unit's
    activation on what `rank` names, "window" or "image"; `fallbacks`, how many candidates have no
    positive value in their map; and `keys`, the distinct (image, position) of all candidates.
    """
    images = [source[index].image for index in range(len(source))]
    views = [_normalised(preprocess, preprocess.squash(image)) for image in images]
    activations = np.array([_activations(network, view, layer, pooling) for view in views])
    n = min(exemplars * candidates, len(images)) if rank == "window" else exemplars
    best, fallbacks, keys = [], 0, set()
    for unit, chosen in enumerate(rules.exemplars(activations, n)):
        rows = []
        for index in chosen:
            image = images[index]
            peak, found = attention.peak(_map(network, views[index], layer, cam, unit))
            fallbacks += not found
            side = field * min(image.width, image.height)
            row, y = snapped(peak[0], image.height, side)
            column, x = snapped(peak[1], image.width, side)
            keys.add((index, (row, column)))
            pixels, box = preprocess.cut(image, (y, x), field)
            value = activations[index, unit]
            if rank == "window":
                window = _normalised(preprocess, pixels)
                value = _activations(network, window, layer, pooling)[unit]
            rows.append((index, box, float(value)))
        if rank == "window":
            rows.sort(key=lambda row: (-row[2], row[0]))
        best.append(rows[:exemplars])
    return SimpleNamespace(exemplars=best, fallbacks=fallbacks, keys=keys)


def snapped(share, length, side):
    """Along one axis: the nearest position, 0 to 4, and its middle as a share of the length.

    `share` says at which place the middle of the window should be. A window that fills the axis is
    at position 2.
    """
    way = length - side
    if way <= 0:
        return STEPS // 2, 0.5
    along = (share * length - side / 2) / way  # 0 and 1: the window touches an edge
    position = int(np.rint(min(max(along, 0.0), 1.0) * STEPS))
    return position, (side / 2 + position / STEPS * way) / length


def _map(network, pixels, layer, cam, unit):
    """Return the map of a unit in an image [h, w]."""
    layers, _, head = network(pixels)
    if layer != "fc":
        return np.maximum(np.asarray(layers[layer], np.float64)[:, :, unit], 0.0)
    name = list(layers)[-1]
    maps = np.asarray(layers[name], np.float64)
    if cam == "score_cam":
        # The network takes float32, as everywhere.
        whole = lambda pixels: network(pixels.astype(np.float32))[1]  # noqa: E731
        return attention.score_cam(whole, pixels, maps, unit)
    # Behind a mean and a linear head, where alone CAM is defined, it is Grad-CAM times h·w.
    of_logit = getattr(attention, "grad_cam" if cam == "cam" else cam)
    return of_logit(lambda maps: head(name, maps), maps, unit)


def _activations(network, pixels, layer, pooling):
    """Every unit's activation on one view; method: Neurons."""
    layers, logits, _ = network(pixels)
    if layer == "fc":
        return np.asarray(logits, np.float64)
    maps = np.asarray(layers[layer], np.float64)
    height, width, channels = maps.shape
    cells = [maps[y, x] for y, x in np.ndindex(height, width)]
    if pooling == "mean":
        return sum(cells) / len(cells)
    return np.array([max(cell[k] for cell in cells) for k in range(channels)])


def _normalised(preprocess, pixels):
    scaled = (np.asarray(pixels, np.float64) / 255.0 - preprocess.mean) / preprocess.std
    return scaled.astype(np.float32)
