"""A seeded split of probe images: those that labels are found on, and those kept aside."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxdesc.config import ImagesConfig
from jaxdesc.errors import InputError
from jaxdesc.images.example import Example, Source
from jaxdesc.images.labels import Matched
from jaxdesc.images.sources import open_source


class Part:
    """Some images of a source, in its order."""

    def __init__(self, source: Source, indices: Sequence[int], name: str):
        self.source, self.indices, self.name = source, indices, name
        self.spec, self.has_boxes = source.spec, source.has_boxes
        self.has_labels = source.has_labels
        self.namings = getattr(source, "namings", ())
        self.passed_over = getattr(source, "passed_over", ())
        self.shows = None
        if shows := getattr(source, "shows", None):
            self.shows = partial(_columns, shows, indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        """Decode image `index` of the part."""
        return self.source[self.indices[index]]

    def identify(self, index: int) -> str:
        """Name image `index` of the part."""
        return self.source.identify(self.indices[index])

    def fingerprint(self) -> str:
        """Hash the source's images and which of them these are."""
        return f"{self.source.fingerprint()} {self.name}"


def _columns(
    shows: Callable[[Sequence[str]], Any], indices: Sequence[int], concepts: Sequence[str]
) -> Any:
    return shows(concepts)[:, indices]


def side_of(source: Source, images: ImagesConfig, aside: bool = False) -> Source:
    """Return the images that labels are found on, or those that `images.split` keeps aside.

    `InputError` if a part would be empty.
    """
    if not images.split and not aside:
        return source
    count, kept = len(source), round(images.split * len(source))
    if not 0 < kept < count:
        raise InputError(
            f"config.images.split is {images.split}, which keeps {kept} of the {count} images of "
            f"{source.spec} aside: at least one must be on either side."
        )
    order = np.random.default_rng(images.split_seed).permutation(count)
    chosen = np.sort(order[:kept] if aside else order[kept:])
    side = "kept aside" if aside else "for finding labels"
    name = f"{images.split} of split {images.split_seed}, {side}"
    return Part(source, chosen.tolist(), name)


def kept_aside(source: Source, images: ImagesConfig) -> Source:
    """Return the images that a run on `side_of` a source has kept aside."""
    return side_of(whole(source), images, aside=True)


def whole(source: Source) -> Source:
    """Return the source that a part is of, without its labels' classes."""
    bare: Any = source.source if isinstance(source, Matched) else source
    found: Source = bare.source if isinstance(bare, Part) else bare
    return found


def open_images(images: ImagesConfig) -> Source:
    """Open the images that a run finds labels on."""
    return side_of(open_source(images.source), images)
