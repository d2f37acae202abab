"""An image source of a user's own: scenes in upright, oblong and enlarged pictures."""

import hashlib
from functools import cache

from PIL import Image

from jaxdesc.images.example import Example
from jaxdesc.scenes.world import render


class Album:
    """`count` scenes, of which some stand upright and some are larger than the others."""

    has_boxes = True
    has_labels = True

    def __init__(self, count, seed=0):
        self.spec = f"album of {count}, {seed}"
        self.count, self.seed = count, seed

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return _picture(self.seed, index)

    def identify(self, index):
        return f"picture {index}"

    def fingerprint(self):
        return hashlib.sha256(self.spec.encode()).hexdigest()


@cache
def _picture(seed, index):
    scene = render("probe", seed, index)
    image, (left, top, right, bottom) = Image.fromarray(scene.pixels), scene.box
    if index % 3 == 1:
        image = image.transpose(Image.Transpose.TRANSPOSE)
        left, top, right, bottom = top, left, bottom, right
    if index % 4 == 3:
        image = image.resize((image.width * 2 - 1, image.height * 2 - 1))
        left, top, right, bottom = 2 * left, 2 * top, 2 * right - 1, 2 * bottom - 1
    return Example(image, scene.kind, (left, top, right, bottom))
