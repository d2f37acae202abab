"""The input of every method of naming neurons: one pass over the probe images."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32

from jaxdesc.exemplars import Slots


class Probe(NamedTuple):
    """Activations and CLIP features of the same probe images; all features have unit length.

    Attributes:
        activations: of each neuron on each image.
        images: features of the images.
        concepts: features of the concepts.
        base: feature of the base template.
        exemplars: each neuron's most activating images, as rows of `images`.
    """

    activations: Float32[np.ndarray, "image neuron"]
    images: Float32[np.ndarray, "image feature"]
    concepts: Float32[np.ndarray, "concept feature"]
    base: Float32[np.ndarray, "feature"]
    exemplars: Slots

    @property
    def dead(self) -> Bool[np.ndarray, "neuron"]:
        """True for neurons with the same activation on all images."""
        return self.activations.min(axis=0) == self.activations.max(axis=0)
