import itertools

import numpy as np
import pytest
from PIL import Image

from jaxdesc.scenes import shapes
from jaxdesc.scenes.world import CLASSES, CONTEXTS

NAMES = (*CLASSES, *CONTEXTS)
SIDE = 96


def silhouette(name):
    """A shape stretched to a square, so that neither its size nor its aspect tells it apart."""
    return np.asarray(shapes.mask(name).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) > 127


def test_every_class_and_context_is_drawn_and_nothing_else():
    assert set(shapes._SHAPES) == set(NAMES)
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_mask_fills_its_bounds(name):
    mask = shapes.mask(name)
    pixels = np.asarray(mask)
    assert mask.mode == "L"
    assert set(np.unique(pixels)) == {0, 255}  # not even the box of a crate is a full square
    assert max(mask.size) <= shapes.MASK_SIDE
    assert max(mask.size) > 0.9 * shapes.MASK_SIDE
    for side in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert side.any()


def test_no_two_shapes_are_alike():
    masks = {name: silhouette(name) for name in NAMES}
    overlaps = {
        (one, other): (masks[one] & masks[other]).sum() / (masks[one] | masks[other]).sum()
        for one, other in itertools.combinations(NAMES, 2)
    }
    alike = max(overlaps, key=overlaps.get)
    assert overlaps[alike] < 0.93, alike
