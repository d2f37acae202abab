"""Oracle of where and why (Ahn et al. 2024): loops in float64, by the rules of the method."""

import math


def contributions(activations, weights):
    """φ_k = W[y, k] · a_k of one image, a_k being the mean of its channel.

    Args:
        activations: [row, column, neuron].
        weights: W[y], [neuron].
    """
    rows, columns, neurons = activations.shape
    found = []
    for k in range(neurons):
        total = 0.0
        for y in range(rows):
            for x in range(columns):
                total += float(activations[y, x, k])
        found.append(float(weights[k]) * total / (rows * columns))
    return found


def class_contributions(activations_of_images, weights):
    """Φ[y, k] = W[y, k] · mean(a_k | label y)."""
    each = [contributions(own, weights) for own in activations_of_images]
    return [sum(own[k] for own in each) / len(each) for k in range(len(weights))]


def percentile(values, percent):
    """NumPy's and PyTorch's usual one: linear between the two nearest ranks."""
    ordered = sorted(values)
    place = percent / 100 * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def neuron_map(channel, size):
    """Values ≤ the 70th percentile are 0; bilinear to the view; between 0 and 1."""
    rows, columns = channel.shape
    values = [[float(channel[y, x]) for x in range(columns)] for y in range(rows)]
    limit = percentile([value for row in values for value in row], 70)
    kept = [[value if value > limit else 0.0 for value in row] for row in values]
    large = [[_between(kept, (y + 0.5) * rows / size - 0.5, (x + 0.5) * columns / size - 0.5)
              for x in range(size)] for y in range(size)]  # fmt: skip
    low = min(value for row in large for value in row)
    high = max(value for row in large for value in row)
    return [[(v - low) / (high - low) if high > low else 0.0 for v in row] for row in large]


def _between(values, y, x):
    """Bilinear, the border's values standing for what lies beyond."""
    y, x = min(max(y, 0.0), len(values) - 1.0), min(max(x, 0.0), len(values[0]) - 1.0)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, len(values) - 1), min(left + 1, len(values[0]) - 1)
    above = values[top][left] * (left + 1 - x) + values[top][right] * (x - left)
    below = values[bottom][left] * (left + 1 - x) + values[bottom][right] * (x - left)
    return above * (top + 1 - y) + below * (y - top)


def image_map(contributed, activations, size):
    """Σ over the three neurons of largest φ of φ_k/Σφ × map; Σφ over those three."""
    best = sorted(range(len(contributed)), key=lambda k: (-contributed[k], k))[:3]
    best = [k for k in best if contributed[k] > 0]
    total = sum(contributed[k] for k in best)
    found = [[0.0] * size for _ in range(size)]
    for k in best:
        own = neuron_map(activations[:, :, k], size)
        for y in range(size):
            for x in range(size):
                found[y][x] += contributed[k] / total * own[y][x]
    return found


def cosine(one, other):
    """Between two maps, all positions in a row."""
    a, b = ([value for row in own for value in row] for own in (one, other))
    norms = math.sqrt(sum(v * v for v in a)) * math.sqrt(sum(v * v for v in b))
    return sum(v * w for v, w in zip(a, b, strict=True)) / norms if norms > 0 else math.nan
