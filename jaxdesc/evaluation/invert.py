"""INVERT: a neuron is what separates the images that excite it from those that don't.

Bykov et al., "Labeling Neural Representations with Inverse Recognition", NeurIPS 2023, maximise the
AUC of a neuron's activation between images with and without a concept, over formulas of a data
set's labels. Here formulas are single concepts. Where an image has no labels, it has the concepts
that CLIP finds in it; where it has, `ranks.auc` takes them.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32

from jaxdesc.evaluation.blocks import Look
from jaxdesc.evaluation.probe import Probe
from jaxdesc.evaluation.ranks import mid_ranks
from jaxdesc.runtime.compiler import jit, product


def auc(probe: Probe, block: int, share: float = 0.05) -> Look:
    """Chance that an image with the concept excites the neuron more than one without; ties ½.

    An image has a concept where it is among the `share` of images that lie nearest to it.

    Raises:
        ValueError: `share` leaves no image with a concept, or none without.
    """
    del block
    images = len(probe.images)
    count = int(images * share)
    if not 1 <= count < images:
        raise ValueError(
            f"{share:.3g} of {images} images is {count}, but there must be images with a concept "
            "and images without: give more images or another share."
        )
    ranks = np.stack([mid_ranks(own) for own in probe.activations.T])
    centred = jnp.asarray((ranks - (images + 1) / 2) / images, jnp.float32)
    return partial(_auc, centred, jnp.asarray(probe.images), count=count)


@partial(jit, static=("count",))
def _auc(
    ranks: Float32[Array, "neuron image"],
    images: Float32[Array, "image feature"],
    texts: Float32[Array, "block feature"],
    *,
    count: int,
) -> Float32[Array, "neuron block"]:
    cosines = product(images, texts.T)
    least = jax.lax.top_k(cosines.T, count)[0][:, -1]
    present = (cosines >= least[None]).astype(jnp.float32)
    positive = present.sum(axis=0)
    pairs = positive * (len(images) - positive)
    # Ranks are centred and scaled: of large ones float32 would lose the last digits.
    return 0.5 + len(images) * product(ranks, present) / pairs[None]
