"""Insertion and deletion: what a network says as pixels appear, or vanish, in a map's order.

The better a map, the sooner its first pixels show the class, and the sooner the class is gone
without them (Petsiuk et al., "RISE", BMVC 2018, section 3.2).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
import scipy.special
from jaxtyping import Array, Float, Float64, Int, UInt8

from jaxdesc.models.target import Target

STEPS = 8  # of as many pixels each; RISE takes 224
BLUR, REACH = 5.0, 1.0  # Gaussian in pixels, cut off after as many standard deviations, as RISE's


class Curves(NamedTuple):
    """Probability of a class, by the share of pixels that have appeared or vanished, 0 to 1."""

    insertion: Float64[np.ndarray, "image step"]
    deletion: Float64[np.ndarray, "image step"]

    def areas(self) -> tuple[Float64[np.ndarray, " image"], Float64[np.ndarray, " image"]]:
        """Areas under both curves, by trapezoids: insertion better if large, deletion if small."""
        insertion, deletion = (np.trapezoid(curve, axis=1) for curve in self)
        return insertion / (self.insertion.shape[1] - 1), deletion / (self.deletion.shape[1] - 1)


def curves(
    target: Target,
    pixels: UInt8[np.ndarray, "image size size 3"],
    maps: Float[np.ndarray | Array, "image row column"],
    classes: Int[np.ndarray, " image"],
    steps: int = STEPS,
) -> Curves:
    """Measure both curves of attention maps, whose rows and columns cover the pixels.

    Maps are upsampled bilinearly; of pixels of the same value the first in row-major order comes
    first. Insertion starts from the blurred image, deletion ends at the mean colour of the target's
    preprocessing. Blurring mirrors the image at its edges, where RISE sees black.
    """
    count, size = pixels.shape[:2]
    wanted = np.asarray(classes)[:, None]
    image = np.asarray(target.preprocess.normalise(jnp.asarray(pixels)), np.float32)
    blurred = scipy.ndimage.gaussian_filter(image, (0, BLUR, BLUR, 0), truncate=REACH)
    large = np.asarray(jax.image.resize(jnp.asarray(maps), (count, size, size), "bilinear"))
    order = np.argsort(-large.reshape(count, -1), axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(size**2)[None], axis=1)
    ranks = ranks.reshape(count, size, size, 1)

    def probability(images: np.ndarray) -> np.ndarray:
        logits = np.asarray(target.logits(images), np.float64)
        return np.take_along_axis(scipy.special.softmax(logits, axis=1), wanted, axis=1)[:, 0]

    found: list[tuple[np.ndarray, np.ndarray]] = []
    for step in range(steps + 1):
        first = ranks < round(step / steps * size**2)
        appeared, vanished = np.where(first, image, blurred), np.where(first, 0, image)
        found.append((probability(appeared), probability(vanished)))
    insertion, deletion = (np.stack(curve, axis=1) for curve in zip(*found, strict=True))
    return Curves(insertion, deletion)
