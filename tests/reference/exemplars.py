"""Oracle of the exemplars and of the doubts about them: loops over one unit at a time."""

from fractions import Fraction

import numpy as np


def exemplars(activations, n, names=None, key=str):
    """Image indices of each unit's exemplars, best first.

    Method: Exemplars of sparse units. Equal activations by image index, the lower first; images
    that are drawn among tied ones in ascending order.

    Args:
        activations: A [I, N], no NaN.
        n: exemplars asked for.
        names: of the images; their indices by default.
        key: from a name to what tied images are drawn by.

    Returns:
        N lists of at most n indices.
    """
    return [_of_unit(_column(activations, unit), n, names, key)[0] for unit in _units(activations)]


def flags(activations, n, names=None, key=str, fewest=5):
    """Flags of each unit, as sets. A dead unit has no other."""
    result = []
    for unit in _units(activations):
        values = _column(activations, unit)
        if min(values) == max(values):
            result.append({"dead"})
            continue
        chosen, drawn = _of_unit(values, n, names, key)
        found = {"tied"} if drawn else set()
        if len(chosen) < fewest:
            found.add("few exemplars")
        low, high, last = Fraction(min(values)), Fraction(max(values)), Fraction(values[chosen[-1]])
        # A code with both signs rests at 0, with nothing between there and where it fires.
        gap = not any(high / 10 <= Fraction(values[i]) < high / 4 for i in chosen)
        at_zero = low < 0 < high and (last < high / 10_000 or (gap and 0 <= last < high / 10))
        if last - low < (high - low) / 10 or at_zero:
            found.add("weak")
        result.append(found)
    return result


def dead(activations):
    """Units whose activation is the same on every view. The constant need not be 0."""
    columns = (_column(activations, unit) for unit in _units(activations))
    return np.array([min(values) == max(values) for values in columns])


def _units(activations):
    return range(np.shape(activations)[1])


def _column(activations, unit):
    values = [float(row[unit]) for row in activations]
    if any(value != value for value in values):
        raise ValueError("NaN has no order")
    return values


def _of_unit(values, n, names, key):
    """Exemplars of one unit, and whether they were drawn."""
    images = range(len(values))
    if n > len(values):
        raise ValueError(f"{n} exemplars of {len(values)} images")
    order = sorted(images, key=lambda image: (-values[image], image))
    at_rest = [image for image in images if values[image] == min(values)]
    left_out = set(at_rest) if len(at_rest) >= 2 else set()
    if len(order) > n and values[order[n - 1]] == values[order[n]]:
        left_out |= {image for image in images if values[image] == values[order[n]]}
    kept = [image for image in order[:n] if image not in left_out]
    if kept or min(values) == max(values):
        return kept, False
    names = names or list(map(str, images))
    tied = [image for image in images if values[image] == max(values)]
    return sorted(sorted(tied, key=lambda image: (key(names[image]), image))[:n]), True
