"""Attention maps that are made of a vision transformer's attention probabilities.

The network computes them for these maps alone; otherwise its attention is fused.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32

from jaxdesc.errors import InputError
from jaxdesc.models.taps import ATTENTION_PROBS, Asking, ClassGradient, attention_probs, grid
from jaxdesc.models.target import Target

LEGRAD_BLOCKS = 2  # the last ones, as in the authors' code


def legrad(seen: ClassGradient) -> Float32[Array, "batch row column"]:
    """Σ_l mean_hq relu(∂s_l/∂A_l)[h, q, k] / L at patch k (Bousselham et al., "LeGrad", ICCV 2025).

    A_l is the attention probabilities [head, query, key] of block l, and s_l the class's logit if
    the mean of all tokens after block l took the place of the last block's tokens: the last norm
    and the head read it. Conventions are those of the authors' code (github.com/WalBouss/LeGrad):
    the last L = 2 blocks, class token and registers as queries too, but not as keys. Their code
    min-max scales the map, which this does not, and has the cosine with a text for the logit.
    """
    blocks = attention_probs(seen.forward, seen.pixels)
    last = next(reversed(blocks))

    def score(zeros: Array, block: str) -> Array:
        mean: list[Array] = []

        def tap(name: str, x: Array) -> Array:
            if name == f"{block}/{ATTENTION_PROBS}":
                return x + zeros.astype(x.dtype)
            if name == block:
                mean.append(x.mean(axis=1, keepdims=True))
            return jnp.broadcast_to(mean[0], x.shape) if name == last else x

        logits = seen.forward(seen.pixels, Asking(tap, (ATTENTION_PROBS,))).astype(jnp.float32)
        return jnp.take_along_axis(logits, seen.classes[:, None], axis=1).sum()

    chosen = list(blocks)[-LEGRAD_BLOCKS:]
    gradients = [jax.grad(score)(jnp.zeros(blocks[block]), block) for block in chosen]
    keys = jnp.stack([jax.nn.relu(each).mean(axis=(1, 2)) for each in gradients]).mean(axis=0)
    return grid(keys[:, :, None], seen.prefix)[..., 0]


def class_attention(seen: ClassGradient) -> Float32[Array, "batch row column"]:
    """Mean over heads of the class token's attention to the patches, in the last block.

    As in Caron et al., "Emerging Properties in Self-Supervised Vision Transformers" (DINO), ICCV
    2021, which draws each head alone. It is the same for all classes.
    """
    last = next(reversed(attention_probs(seen.forward, seen.pixels)))
    probs: dict[str, Array] = {}

    def tap(name: str, x: Array) -> Array:
        probs[name] = x
        return x

    seen.forward(seen.pixels, Asking(tap, (ATTENTION_PROBS,)))
    attended = probs[f"{last}/{ATTENTION_PROBS}"][:, :, 0].astype(jnp.float32).mean(axis=1)
    return grid(attended[:, :, None], seen.prefix)[..., 0]


def check_probabilities(target: Target, layer: str) -> None:
    """Refuse a network that offers no attention probabilities, and any layer that was asked for."""
    if not target.attention_blocks:
        raise InputError(
            f"{target.name} offers no attention probabilities, which this map is made from: take "
            f"'grad_cam', or a vision transformer that load_target reads."
        )
    if layer != target.attention_layer:
        raise InputError(
            f"A map of attention probabilities is of the last blocks, not of the layer {layer!r}: "
            f"leave the layer out, or take 'grad_cam'."
        )


def check_class_attention(target: Target, layer: str) -> None:
    """Refuse as `check_probabilities`, and a network without a class token."""
    check_probabilities(target, layer)
    if not target.prefix:
        raise InputError(
            f"{target.name} has no class token, whose attention this map shows: take 'legrad' or "
            f"'grad_cam'."
        )
