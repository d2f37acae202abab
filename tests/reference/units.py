"""Oracle of windows of units: image by image, unit by unit; method: Windows of a unit."""

from types import SimpleNamespace

import numpy as np

from tests.reference import attention, exemplars

STEPS = 4  # a window is at one of 5 places along each side


def unit_windows(network, preprocess, source, crop, layer, pooling, count):
    """Each unit's exemplars with its own windows.

    `network` maps normalised pixels [S, S, 3] to (layers, logits): by name the layers' maps
    [h, w, C], and the logits [K]. Units are those of `layer`, "fc" for logits, or channels pooled
    by "mean" or "max". `network.map(pixels, unit)` is a logit's attention map.

    Returns `exemplars`, for each unit (image, box, activation), best first; `windows`, the distinct
    (image, place) of all candidates; and `fallbacks`, the number of candidates without a map.
    """
    images = [source[index].image for index in range(len(source))]
    whole = [normalised(preprocess, preprocess.squash(image)) for image in images]
    activations = np.array([activation(network, pixels, layer, pooling) for pixels in whole])
    most = count * crop.candidates if crop.rank == "window" else count
    candidates = exemplars.exemplars(activations, min(most, len(images)))
    found, windows, fallbacks = [], set(), 0
    for unit, chosen in enumerate(candidates):
        rows = []
        for image in chosen:
            if layer == "fc":
                seen = network.map(whole[image], unit)
            else:
                seen = np.maximum(network(whole[image])[0][layer][..., unit], 0)
            peak, peaked = attention.peak(seen)
            fallbacks += not peaked
            height, width = images[image].height, images[image].width
            side = crop.field * min(height, width)
            place = tuple(
                nearest(share, length, side)
                for share, length in zip(peak, (height, width), strict=True)
            )
            windows.add((image, place))
            middle = tuple(
                (side / 2 + step / STEPS * (length - side)) / length
                for step, length in zip(place, (height, width), strict=True)
            )
            pixels, box = preprocess.cut(images[image], middle, crop.field)
            value = activations[image, unit]
            if crop.rank == "window":
                view = normalised(preprocess, pixels)
                value = activation(network, view, layer, pooling)[unit]
            rows.append((image, box, value))
        if crop.rank == "window":
            rows.sort(key=lambda row: (-row[2], row[0]))
        found.append(rows[:count])
    return SimpleNamespace(exemplars=found, windows=windows, fallbacks=fallbacks)


def nearest(share, length, side):
    """Step, out of 0 to `STEPS`, of a window with its middle at a share of the image's length."""
    if length <= side:
        return STEPS // 2
    way = (share * length - side / 2) / (length - side)
    return int(np.rint(STEPS * min(max(way, 0.0), 1.0)))


def activation(network, pixels, layer, pooling):
    """Every unit's activation."""
    layers, logits = network(pixels)
    if layer == "fc":
        return np.asarray(logits, np.float64)
    cells = np.asarray(layers[layer], np.float64).reshape(-1, layers[layer].shape[-1])
    return cells.mean(axis=0) if pooling == "mean" else cells.max(axis=0)


def normalised(preprocess, pixels):
    """Pixels as the network expects them."""
    return (np.asarray(pixels, np.float64) / 255.0 - preprocess.mean) / preprocess.std
