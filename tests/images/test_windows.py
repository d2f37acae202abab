import numpy as np
import pytest

from jaxdesc.images.windows import corner, peaks, random_centre, resized_shape
from tests.reference import attention as reference


def test_peaks_equal_the_definition():
    rng = np.random.default_rng(0)
    cams = np.maximum(np.round(rng.normal(size=(40, 3, 4)), 0), 0).astype(np.float32)
    cams[0] = 0
    cams[1, 2, 2] = np.nan
    cams[2] = np.nan
    cams[3] = -1
    centres, peaked = peaks(cams)
    for cam, centre, has_peak in zip(cams, centres, peaked, strict=True):
        assert (tuple(centre), has_peak) == reference.peak(cam)
    assert peaked.sum() > 20
    np.testing.assert_array_equal(centres[:4], 0.5)
    np.testing.assert_array_equal(peaked[:4], False)


@pytest.mark.parametrize("cells", [1, 3, 7, 13])
def test_the_middle_cell_is_the_exact_middle(cells):
    cams = np.zeros((1, cells, cells), np.float32)
    cams[0, cells // 2, cells // 2] = 1
    centres, peaked = peaks(cams)
    assert peaked[0]
    np.testing.assert_array_equal(centres, [[0.5, 0.5]])


def test_the_middle_window_is_torchvisions_centre_crop():
    for side in (1, 96, 223, 224):
        for length in range(side, 601):
            # As in torchvision's `center_crop`.
            start = round((length - side) / 2.0)
            assert corner(length, 600, side, (0.5, 0.5))[0] == start
            assert corner(600, length, side, (0.5, 0.5))[1] == start


def test_windows_equal_the_definition_and_stay_inside():
    rng = np.random.default_rng(0)
    for _ in range(300):
        height, width = rng.integers(10, 300, 2).tolist()
        side = int(rng.integers(1, min(height, width) + 1))
        centre = tuple(rng.uniform(-0.1, 1.1, 2).tolist())
        top, left = corner(height, width, side, centre)
        assert (top, left) == reference.window(height, width, side, centre)
        assert 0 <= top <= height - side
        assert 0 <= left <= width - side


@pytest.mark.parametrize(
    ("shape", "shorter", "expected"),
    [
        ((375, 500), 256, (256, 341)),
        ((500, 375), 256, (341, 256)),
        ((1, 1000), 2, (2, 2000)),
        ((333, 500), 224, (224, 336)),
    ],
)
def test_resized_shape(shape, shorter, expected):
    assert resized_shape(*shape, shorter) == expected


def test_random_windows_are_uniform_over_the_positions_that_fit():
    height, width, field = 96, 128, 0.5
    centres = np.array([random_centre(3, i, (width, height), field) for i in range(2000)])
    side = field * min(height, width)
    lowest = np.array([side / 2 / height, side / 2 / width])
    shares = (centres - lowest) / (1 - 2 * lowest)
    assert shares.min() >= 0
    assert shares.max() <= 1
    # Uniform: mean 1/2 and variance 1/12, each within four standard errors.
    np.testing.assert_allclose(shares.mean(axis=0), 0.5, atol=4 / np.sqrt(12 * 2000))
    np.testing.assert_allclose(shares.var(axis=0), 1 / 12, atol=4 / np.sqrt(180 * 2000))
    assert abs(np.corrcoef(shares.T)[0, 1]) < 4 / np.sqrt(2000)


def test_random_windows_depend_on_seed_and_image_only():
    centre = random_centre(3, 1234, (128, 96), 0.5)
    assert centre == random_centre(3, 1234, (128, 96), 0.5)
    assert centre != random_centre(4, 1234, (128, 96), 0.5)
    assert centre != random_centre(3, 1235, (128, 96), 0.5)
