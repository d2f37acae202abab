import itertools

import numpy as np
import pytest
from PIL import Image

from jaxdesc.scenes import shapes
from jaxdesc.scenes.world import CLASSES, CONTEXTS

NAMES = (*CLASSES, *CONTEXTS)


@pytest.mark.parametrize("name", NAMES)
def test_a_mask_fills_its_bounds(name):
    mask = shapes.mask(name)
    pixels = np.asarray(mask)
    assert mask.mode == "L"
    assert set(np.unique(pixels)) == {0, 255}  # not even the box of a crate is a full square
    assert 0.9 * shapes.MASK_SIDE < max(mask.size) <= shapes.MASK_SIDE
    for side in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert side.any()


def test_no_two_shapes_are_alike():
    """Stretched to a square, so that neither size nor aspect tells them apart."""
    masks = {}
    for name in NAMES:
        square = shapes.mask(name).resize((96, 96), Image.Resampling.BILINEAR)
        masks[name] = np.asarray(square) > 127
    for one, other in itertools.combinations(NAMES, 2):
        both, either = masks[one] & masks[other], masks[one] | masks[other]
        assert both.sum() < 0.93 * either.sum(), (one, other)
