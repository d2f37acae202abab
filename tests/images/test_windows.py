import numpy as np

from jaxdesc.images.windows import corner, peaks, random_centre
from tests.reference import attention as reference


def test_peaks_equal_the_definition():
    rng = np.random.default_rng(0)
    cams = np.maximum(np.round(rng.normal(size=(40, 3, 4)), 0), 0).astype(np.float32)
    cams[0] = 0
    cams[1, 2, 2] = np.nan
    cams[2] = -1
    centres, peaked = peaks(cams)
    for cam, centre, has_peak in zip(cams, centres, peaked, strict=True):
        assert (tuple(centre), has_peak) == reference.peak(cam)
    assert peaked.sum() > 20
    assert not peaked[:3].any()


def test_windows_are_around_their_centres_and_inside():
    rng = np.random.default_rng(0)
    for _ in range(300):
        shape = rng.integers(10, 300, 2)
        side, centre = int(rng.integers(1, min(shape) + 1)), rng.uniform(-0.1, 1.1, 2)
        found = corner(*shape.tolist(), side, tuple(centre.tolist()))
        nearest = np.clip(centre * shape - side / 2, 0, shape - side)
        assert np.abs(found - nearest).max() <= 0.5
    for side in (1, 96, 223, 224):
        for length in range(side, 601):
            start = round((length - side) / 2.0)  # as in torchvision's `center_crop`
            assert corner(length, 600, side, (0.5, 0.5))[0] == start
            assert corner(600, length, side, (0.5, 0.5))[1] == start


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
    # They depend on the seed and the image alone.
    assert random_centre(3, 1234, (width, height), field) == tuple(centres[1234])
    assert random_centre(4, 1234, (width, height), field) != tuple(centres[1234])
