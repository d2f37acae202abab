"""The oracles against examples worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from jaxdesc import Preprocess
from tests.reference import attention, exemplars, metrics, scoring, units


def test_t_vmf():
    # (1 + 0.5) / (1 + 2 · 0.5) − 1 = −1/4; the ends stay in place for every κ.
    assert scoring.t_vmf(0.5, 2.0) == -0.25
    np.testing.assert_array_equal(scoring.t_vmf(np.array([-1.0, 1.0]), 16.0), [-1.0, 1.0])
    np.testing.assert_allclose(scoring.t_vmf([-0.3, 0.7], 0.0), [-0.3, 0.7], atol=1e-15)


def test_scores():
    images = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    concepts, base = np.eye(2), np.array([0.6, 0.8])
    chosen = np.array([[0, 1], [2, 2]])
    # κ = 0: neuron 0 sees cosines (1, 0) and (0, 1), base 0.6 and 0.8: 1/2 − 0.7 both times.
    # Neuron 1 sees 0.6 and 0.8 against base 1.
    expected = [[-0.2, -0.2], [-0.4, -0.2]]
    np.testing.assert_allclose(scoring.scores(images, chosen, concepts, base, 0.0), expected)
    # κ = 1, φ(c) = (1 + c)/(2 − c) − 1: φ(1) = 1, φ(0) = −1/2, φ(.6) = 1/7, φ(.8) = 1/2.
    # Neuron 0: (1 − 1/2)/2 − (1/7 + 1/2)/2 = 1/4 − 9/28 = −1/14; neuron 1: 1/7 − 1 and 1/2 − 1.
    expected = [[-1 / 14, -1 / 14], [-6 / 7, -1 / 2]]
    np.testing.assert_allclose(scoring.scores(images, chosen, concepts, base, 1.0), expected)


def test_select():
    rows = [
        [1.0, 4.0, 2.0, 4.0, 3.0],  # τ = 2: the 2.0 at the threshold stays out, the 4.0s tie
        [0.0, -1.0, -2.0, 0.0, -1.0],
        [-4.0, -1.0, -2.0, -3.0, -5.0],
    ]
    assert scoring.select(np.array(rows), 0.5) == [[(1, 4.0), (3, 4.0), (4, 3.0)], [], []]


def test_exemplars():
    activations = np.array([[1.0, 0.0], [3.0, 0.0], [3.0, -1.0], [2.0, 5.0]], dtype=np.float32)
    assert exemplars.exemplars(activations, 3) == [[1, 2, 3], [3, 0, 1]]
    assert exemplars.exemplars(activations, 2) == [[1, 2], [3]]  # the cut goes through 0, 0
    assert exemplars.exemplars(activations, 1) == [[1], [3]]  # one of two, drawn by name
    assert exemplars.exemplars(activations, 1, key=lambda name: -int(name)) == [[2], [3]]
    assert exemplars.exemplars(np.zeros((3, 1)), 2) == [[]]
    relu = np.array([[0, 0, 2, 0, 0, 5, 0, 3, 0, 0.0]]).T
    assert exemplars.exemplars(relu, 5) == [[5, 7, 2]]
    assert exemplars.flags(relu, 5) == [{"few exemplars"}]
    signed = np.array([[0, -4, 0, 7, 0, -1, 6, 0, 0, 0.0]]).T
    assert exemplars.exemplars(signed, 5) == [[3, 6]]
    noisy = np.array([[0.03, 9, 0.01, 0.05, 8, 0.02, 0.04]]).T
    assert exemplars.exemplars(noisy, 5) == [[1, 4, 3, 6, 0]]
    assert exemplars.flags(noisy, 5) == [{"weak"}]
    assert exemplars.flags(np.array([[10.0, 1.0, 0.0]]).T, 2, fewest=2) == [set()]  # not below it
    assert exemplars.flags(activations, 1, fewest=1) == [{"tied"}, set()]
    np.testing.assert_array_equal(exemplars.dead([[7.0, 0.0], [7.0, 1e-30]]), [True, False])


def test_cam_and_grad_cam():
    # Two cells, two channels; class 1 is 2 A_0 − A_1: 2 · 1 − 3 = −1 and 2 · 4 − 2 = 6.
    weight = np.array([[9.0, 9.0], [2.0, -1.0]])
    maps = np.array([[[1.0, 3.0], [4.0, 2.0]]])
    np.testing.assert_array_equal(attention.cam(weight, maps, 1), [[0.0, 6.0]])
    # The gradient is half the weight in each of the two cells, and so is its mean.
    found = attention.grad_cam(lambda a: weight @ a.mean(axis=(0, 1)) + 5.0, maps, 1)
    np.testing.assert_allclose(found, [[0.0, 3.0]], atol=1e-9)
    # y = Σ A², so the gradient is 2A: w = mean(−2, 6) = 2 and the map 2 A, negative cells cut.
    found = attention.grad_cam(lambda a: [(a**2).sum()], np.array([[[-1.0], [3.0]]]), 0)
    np.testing.assert_allclose(found, [[0.0, 6.0]], atol=1e-8)


def test_peak():
    assert attention.peak(np.array([[0.0, 1.0], [0.5, 0.0]])) == ((0.25, 0.75), True)
    assert attention.peak(np.array([[0.0, 2.0, 2.0, -9.0]])) == ((0.5, 0.375), True)
    for empty in (np.zeros((7, 7)), np.array([[-1.0, -2.0]]), np.array([[2.0, np.nan]])):
        assert attention.peak(empty) == ((0.5, 0.5), False)


def test_snapped():
    # The window of 20 can go 80 along 100. Middles beyond its ends, at 10 and 90, stay there.
    assert [units.snapped(at, 100, 20) for at in (0.02, 0.98)] == [(0, 0.1), (4, 0.9)]
    # An eighth of the way is between 0 and 1, three eighths between 1 and 2: the even one.
    assert [units.snapped(at, 100, 20)[0] for at in (0.2, 0.4)] == [0, 2]
    assert units.snapped(0.9, 20, 20) == (2, 0.5)


def picture(at, ground=0, high=64):
    """32 wide; a white spot over one of the network's 4 × 4 cells, at (row, column)."""
    pixels = np.full((high, 32, 3), ground, np.uint8)
    if at:
        row, column = at[0] * high // 4, at[1] * 8
        pixels[row : row + high // 4, column : column + 8] = 255
    return SimpleNamespace(image=Image.fromarray(pixels))


def brightness(pixels):
    """The cells' brightness and its negative; the logits are twice their means."""
    light = pixels.astype(np.float64).reshape(4, 8, 4, 8, 3).mean(axis=(1, 3, 4))[:, :, None]

    def head(name, maps):
        return {"cells": maps.mean(axis=(0, 1)) * 2}[name]

    cells = np.concatenate([light, -light], axis=2)
    return {"stem": -cells, "cells": cells}, head("cells", cells), head


def windows(source, layer, rank, exemplars=2, candidates=2):
    preprocess = Preprocess(32, 0.875, "bilinear", mean=(0.0,) * 3, std=(1.0,) * 3)
    given = (layer, "mean", "grad_cam", 0.5, exemplars, candidates, rank)
    return units.unit_windows(brightness, preprocess, source, *given)


@pytest.mark.parametrize("layer", ["fc", "cells"])
def test_windows_of_units(layer):
    corners = [picture((3, 3), ground=2), picture((0, 0), ground=1), picture((0, 3))]
    found = windows(corners, layer, "image")
    bright, dark = found.exemplars
    # Windows of 16 × 16 in the corners; those of the negative, which has no map, in the middle.
    assert [row[:2] for row in bright] == [(0, (16, 48, 32, 64)), (1, (0, 0, 16, 16))]
    middle = (8, 24, 24, 40)
    assert [row[:2] for row in dark] == [(2, middle), (1, middle)]
    assert found.fallbacks == 2
    assert found.keys == {(0, (4, 4)), (1, (0, 0)), (2, (2, 2)), (1, (2, 2))}


def test_the_second_look_ranks_the_windows():
    # Two dim pictures are brighter as a whole than the spot, but not in the spot's window.
    source = [picture(None, 50), picture(None, 50), picture((3, 0), high=32), picture(None, 1)]
    first = windows(source, "cells", "image", candidates=3).exemplars[0]
    assert [(index, round(value * 255)) for index, _, value in first] == [(0, 50), (1, 50)]
    second = windows(source, "cells", "window", candidates=2)
    assert [index for index, _, _ in second.exemplars[0]] == [2, 0]
    assert second.exemplars[0][0][1] == (0, 16, 16, 32)
    assert second.exemplars[0][0][2] > 0.2


def test_metrics():
    assert metrics.hit(["dog", "Tench"], ["tench", "Tinca tinca"])
    assert not metrics.hit(["tinca"], ["tench", "Tinca tinca"])
    assert metrics.hit([], ["None"])
    # Precision 1/2, recall 1/3: 2 · (1/6) / (5/6) = 2/5.
    assert metrics.f1(["Tench", "dog"], ["tench", "a", "b"]) == pytest.approx(0.4)
    # The copy dilutes: precision 1/2, recall 1.
    assert metrics.f1(["tench", "Tench"], ["tench"]) == pytest.approx(2 / 3)
    assert metrics.f1([], ["tench"]) == 0.0
    above = np.array([[1.5, 0.0]])
    assert metrics.mean_cosine(above, np.eye(2), cap=True) == 0.5
    assert metrics.mean_cosine(above, np.eye(2), cap=False) == 0.75
    # Mean 2, deviations (−1, 1, −1, 1): population deviation 1, over √4.
    assert metrics.standard_error([1.0, 3.0, 1.0, 3.0]) == 0.5


def test_ceilings():
    vocabulary = ["tench", "dog", "crane", "Crane", "crane", "bird"]
    names = [["Tench", "Tinca"], ["crane", "bird"], ["crane"], ["lorry"]]
    # Neuron 0: precision 1, recall 1/2. Neuron 1: "bird" alone gives 2/3, and with the three
    # cranes precision 2/4, recall 1: 2/3 too. Neuron 2: precision 1/3, recall 1.
    hits, f1s = metrics.ceilings(vocabulary, names)
    assert (hits, f1s) == ([True, True, True, False], pytest.approx([2 / 3, 2 / 3, 1 / 2, 0.0]))
    # With a fourth copy leaving the cranes out is strictly better than 2 · 2/(5 + 2) = 4/7.
    assert metrics.ceilings([*vocabulary, "crane"], names[1:2])[1] == pytest.approx([2 / 3])
