"""An image source of a user's own: scenes in upright, oblong and enlarged pictures."""

import hashlib
from collections import Counter
from functools import cache

import numpy as np
from PIL import Image

from jaxdesc.images.example import Example
from jaxdesc.scenes.world import render


class Album:
    """`count` scenes, of which some stand upright and some are larger than the others."""

    has_boxes = has_labels = True

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


class Counting(Album):
    """Counts how often each picture is decoded."""

    def __init__(self, count, seed=0):
        super().__init__(count, seed)
        self.decoded = Counter()

    def __getitem__(self, index):
        self.decoded[index] += 1
        return super().__getitem__(index)


@cache
def _picture(seed, index):
    scene = render("probe", seed, index)
    image, box = Image.fromarray(scene.pixels), np.array(scene.box)
    if index % 3 == 1:
        image, box = image.transpose(Image.Transpose.TRANSPOSE), box[[1, 0, 3, 2]]
    if index % 4 == 3:
        image, box = (
            image.resize((image.width * 2 - 1, image.height * 2 - 1)),
            2 * box - [0, 0, 1, 1],
        )
    return Example(image, scene.kind, tuple(box.tolist()))
