"""Oracle of the exemplars and of the doubts about them: loops over one unit at a time."""

from fractions import Fraction

import numpy as np


def exemplars(activations, n, names=None, key=str):
    """Image indices of each unit's at most n exemplars, best first, of A [I, N] without NaN.

    Method: Exemplars of sparse units. Equal activations by image index, the lower first; images
    that are drawn among tied ones by the `key` of their name (by default their index), ascending.
    """
    return [_of_unit(column, n, names, key)[0] for column in _columns(activations)]


def flags(activations, n, names=None, key=str, fewest=5):
    """Flags of each unit, as sets. A dead unit has no other."""
    result = []
    for values in _columns(activations):
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
    return np.array([min(values) == max(values) for values in _columns(activations)])


def _columns(activations):
    return np.asarray(activations, np.float64).T.tolist()


def _of_unit(values, n, names, key):
    """Exemplars of one unit, and whether they were drawn."""
    images = range(len(values))
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
