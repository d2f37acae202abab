"""Insertion and deletion, against pixels that are set one at a time in float64."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

import jaxdesc as jd
from jaxdesc.evaluation.insertion import Curves, curves

SIZE, STEPS = 12, 6
PREPROCESS = jd.Preprocess(SIZE, 1.0, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def reddest_corner(params, pixels, tap):
    """Logits: how red the upper left and the lower right quarter are."""
    half = SIZE // 2
    red = tap("pixels", pixels)[..., 0]
    corners = [red[:, :half, :half], red[:, half:, half:]]
    return jnp.stack([corner.mean(axis=(1, 2)) for corner in corners], axis=1) * params["scale"]


@pytest.fixture(scope="module")
def target():
    return jd.Target({"scale": np.float32(2)}, reddest_corner, PREPROCESS, attention="pixels")


def upsampled(map_, size):
    """A map at the centre of each pixel, between the centres of its cells."""
    rows, columns = map_.shape
    large = np.zeros((size, size))
    for y, x in np.ndindex(size, size):
        down = min(max((y + 0.5) * rows / size - 0.5, 0), rows - 1)
        across = min(max((x + 0.5) * columns / size - 0.5, 0), columns - 1)
        top, left = min(int(down), rows - 2), min(int(across), columns - 2)
        v, u = down - top, across - left
        large[y, x] = (
            map_[top, left] * (1 - v) * (1 - u)
            + map_[top + 1, left] * v * (1 - u)
            + map_[top, left + 1] * (1 - v) * u
            + map_[top + 1, left + 1] * v * u
        )
    return large


def blur(image):
    """Weights exp(−d²/2σ²) for |d| ≤ σ = 5 on each axis, mirrored with the edge repeated."""
    weights = [math.exp(-(d**2) / 50) for d in range(-5, 6)]
    around = np.pad(image, ((5, 5), (5, 5), (0, 0)), "symmetric")
    out = np.zeros_like(image)
    for y, x in np.ndindex(SIZE, SIZE):
        for dy, dx in np.ndindex(11, 11):
            out[y, x] += around[y + dy, x + dx] * weights[dy] * weights[dx]
    return out / sum(weights) ** 2


def one_by_one(pixels, map_, class_):
    mean, std = np.array(PREPROCESS.mean), np.array(PREPROCESS.std)
    image = (pixels / 255 - mean) / std
    large, blurred = upsampled(np.float64(map_), SIZE), blur(image)
    order = sorted(np.ndindex(SIZE, SIZE), key=lambda place: -np.float32(large[place]))

    def says(image):
        half = SIZE // 2
        logits = 2 * image[:half, :half, 0].mean(), 2 * image[half:, half:, 0].mean()
        return math.exp(logits[class_]) / sum(map(math.exp, logits))

    insertion, deletion = [], []
    for step in range(STEPS + 1):
        appeared, vanished = blurred.copy(), image.copy()
        for place in order[: round(step / STEPS * SIZE**2)]:
            appeared[place], vanished[place] = image[place], 0
        insertion.append(says(appeared))
        deletion.append(says(vanished))
    return insertion, deletion


def test_curves_are_their_definition(target, rng):
    pixels = rng.integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    maps = rng.random((3, 3, 4)).astype(np.float32)
    classes = np.array([0, 1, 1])
    found = curves(target, pixels, maps, classes, STEPS)
    wanted = [one_by_one(*each) for each in zip(pixels, maps, classes, strict=True)]
    np.testing.assert_allclose(found.insertion, [each[0] for each in wanted], rtol=2e-5)
    np.testing.assert_allclose(found.deletion, [each[1] for each in wanted], rtol=2e-5)
    insertion, _ = found.areas()
    areas = (found.insertion[:, 1:] + found.insertion[:, :-1]).mean(axis=1) / 2
    np.testing.assert_allclose(insertion, areas)


def test_a_map_of_the_class_beats_one_of_another(target):
    pixels = np.full((1, SIZE, SIZE, 3), 80, np.uint8)
    pixels[0, : SIZE // 2, : SIZE // 2, 0] = 255
    there, elsewhere = np.zeros((1, 2, 2), np.float32), np.zeros((1, 2, 2), np.float32)
    there[0, 0, 0] = elsewhere[0, 1, 1] = 1
    right, wrong = (curves(target, pixels, m, np.array([0])).areas() for m in (there, elsewhere))
    assert right[0] > wrong[0]
    assert right[1] < wrong[1]


def test_areas_of_known_curves():
    insertion, deletion = Curves(np.array([[0.0, 0.5, 1.0]]), np.array([[1.0, 0.0, 0.0]])).areas()
    np.testing.assert_allclose([insertion[0], deletion[0]], [0.5, 0.25])
