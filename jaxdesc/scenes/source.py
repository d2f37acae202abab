"""The image source of the embedded world."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float32
from PIL import Image

from jaxdesc.errors import InputError, shown
from jaxdesc.images.example import Example
from jaxdesc.scenes.captions import seen_through, truth, vocabulary
from jaxdesc.scenes.world import CLASSES, SPLITS, WIDTH, render

MOST_SCENES = 10**9  # scenes of a source; their indices fit into 32 bits
FORM = "scenes:split=probe,seed=0,count=1600,correlation=0"


class Scenes:
    """Rendered scenes of the embedded world, with labels and true boxes.

    Raises:
        InputError: an unknown option, one that is given twice, or a bad value.
    """

    has_boxes = True
    has_labels = True

    def __init__(self, options: str):
        spec = shown(f"scenes:{options}")
        pairs = [item.partition("=") for item in options.split(",") if item]
        given = {key.strip(): value.strip() for key, _, value in pairs}
        if len(given) < len(pairs):
            raise InputError(f"The image source {spec} gives an option twice: give it once.")
        try:
            self.split = given.pop("split", "probe")
            self.seed = int(given.pop("seed", "0"))
            self.count = int(given.pop("count", "1600"))
            self.correlation = float(given.pop("correlation", "0"))
        except ValueError as error:
            raise InputError(
                f"The image source {spec} has a bad number: {error}; expected {FORM}."
            ) from None
        whole = 0 <= self.seed < 2**32 and 1 <= self.count <= MOST_SCENES
        if given or self.split not in SPLITS or not (whole and 0 <= self.correlation <= 1):
            raise InputError(
                f"The image source {spec} can't be read: expected {FORM}, with split one of "
                f"{', '.join(SPLITS)}, seed at least 0 and below 2**32, count at least 1 and at "
                f"most {MOST_SCENES} and correlation in [0, 1]."
            )
        self.spec = (
            f"scenes:split={self.split},seed={self.seed},count={self.count},"
            f"correlation={str(self.correlation).removesuffix('.0')}"
        )

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        """Render one scene; every view of it is cut from the same rendering."""
        scene = _rendered(self.split, self.seed, index, self.correlation)
        return Example(Image.fromarray(scene.pixels), scene.kind, scene.box)

    def identify(self, index: int) -> str:
        """Name the scene by its split, seed, index and class."""
        name = list(CLASSES)[index % len(CLASSES)]
        return f"{self.split}-{self.seed}/{index:05d}_{name}.png"

    def shows(self, concepts: Sequence[str]) -> Float32[np.ndarray, "concept image"]:
        """Return which phrases are true of each whole scene; NaN for texts that are not phrases."""
        true = _truth(self.split, self.seed, self.count, self.correlation)
        places = {text: place for place, text in enumerate(vocabulary())}
        rows = np.full((len(concepts), self.count), np.nan, np.float32)
        for row, concept in zip(rows, concepts, strict=True):
            if concept in places:
                row[:] = true[:, places[concept]]
        return rows

    def fingerprint(self) -> str:
        """Hash the options; the renderer's code is part of every fingerprint anyway."""
        return hashlib.sha256(self.spec.encode()).hexdigest()


@lru_cache(maxsize=4)
def _truth(
    split: str, seed: int, count: int, correlation: float
) -> Bool[np.ndarray, "image phrase"]:
    scenes = [_rendered(split, seed, index, correlation) for index in range(count)]
    whole = np.tile([0, 0, WIDTH], (count, 1))
    return truth(seen_through(scenes, whole)[0])


# 37 kB per scene: at most 600 MB, and a probe set of usual size is rendered once for all its views.
_rendered = lru_cache(maxsize=16_384)(render)
