"""Attention maps: the part of an image that a network finds a class in.

A map weights the channels A_k of a layer (LayerCAM each cell of them) by what they do for the
logit y_c of a class, adds them up and keeps what is positive. `CAMS` holds every kind; a kind is
a function from the layer A and the gradient g = ∂y_c/∂A to the maps of a batch. Two kinds are of a
vision transformer's attention probabilities instead, which the network computes for them alone.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Float32, Int, UInt8

from jaxdesc.attention.probabilities import (
    check_class_attention,
    check_probabilities,
    class_attention,
    legrad,
)
from jaxdesc.config import CropConfig
from jaxdesc.errors import InputError, shown
from jaxdesc.images.loader import padded
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.models.taps import Apply, ClassGradient, class_gradient
from jaxdesc.models.target import Pixels, Target, normalised
from jaxdesc.runtime import fingerprint
from jaxdesc.runtime.compiler import contraction, in_pieces, jit, product
from jaxdesc.runtime.mesh import shared_out

Maps = Float32[Array, "batch row column"]

LINEAR_TOLERANCE = 1e-3  # of a linear head's logits, relative to the largest
MASKS_AT_ONCE = 16  # forward passes of Score-CAM in a batch; bounds memory


def cam(seen: ClassGradient) -> Maps:
    """relu(Σ_k W[c, k] A_k) (Zhou et al., CVPR 2016, eq. 2).

    The weights of a mean and a linear layer are the gradient, summed over positions.
    """
    return jax.nn.relu(_weighted(seen.maps, seen.gradient.sum(axis=(1, 2))))


def grad_cam(seen: ClassGradient) -> Maps:
    """relu(Σ_k w_k A_k), w_k = mean_hw ∂y_c/∂A_k (Selvaraju et al., ICCV 2017, eqs. 1 and 2)."""
    return jax.nn.relu(_weighted(seen.maps, seen.gradient.mean(axis=(1, 2))))


def grad_cam_pp(seen: ClassGradient) -> Maps:
    """Grad-CAM++: relu(Σ_k w_k A_k), w_k = Σ_ij α_kij relu(g_kij) (Chattopadhay et al., WACV 2018).

    α_kij = g² / (2 g² + Σ_ab A_kab g³), or 0 if g is 0, for the score exp(y_c) (eqs. 10 and 19).
    The gradient of that score is exp(y_c) g; the factor exp(y_c) overflows, and is left out because
    all cells of a map share it.
    """
    maps, gradient = seen.maps, seen.gradient
    square = gradient**2
    total = 2 * square + maps.sum(axis=(1, 2), keepdims=True) * gradient**3
    shares = jnp.where(total != 0, square / jnp.where(total != 0, total, 1), 0)
    weights = (shares * jax.nn.relu(gradient)).sum(axis=(1, 2))
    return jax.nn.relu(_weighted(maps, weights))


def layer_cam(seen: ClassGradient) -> Maps:
    """relu(Σ_k relu(g_kij) A_kij) (Jiang et al., "LayerCAM", TIP 2021, eqs. 5 to 7)."""
    return jax.nn.relu((jax.nn.relu(seen.gradient) * seen.maps).sum(axis=3))


def score_cam(seen: ClassGradient) -> Maps:
    """relu(Σ_k α_k A_k), α = softmax_k y_c(pixels ∘ s(U(A_k))) (Wang et al., CVPRW 2020, alg. 1).

    U upsamples bilinearly, s scales to [0, 1]. The logit of the black image, which the paper
    subtracts, is the same for all channels and leaves the softmax as it is. A channel without
    differences masks nothing and has no weight.
    """

    def of_image(row: tuple[Array, Array, Array]) -> Float32[Array, "row column"]:
        image, maps, label = row
        masks = jax.image.resize(maps, (*image.shape[:2], maps.shape[2]), "bilinear")
        low, high = masks.min(axis=(0, 1)), masks.max(axis=(0, 1))
        varies = high > low
        masks = (masks - low[None, None]) / jnp.where(varies, high - low, 1)[None, None]

        def logit(mask: Float32[Array, "height width"]) -> Float[Array, ""]:
            return seen.forward((image * mask[:, :, None])[None])[0, label]

        scores = jax.lax.map(logit, jnp.moveaxis(masks, 2, 0), batch_size=MASKS_AT_ONCE)
        weights = jax.nn.softmax(scores, where=varies)
        return jax.nn.relu(product(maps, weights.astype(jnp.float32)))

    return jax.lax.map(of_image, (seen.pixels, seen.maps, seen.classes))


def _weighted(
    maps: Float32[Array, "batch row column channel"], weights: Float32[Array, "batch channel"]
) -> Maps:
    return contraction("bhwc,bc->bhw", maps, weights)


def check_linear(target: Target, layer: str) -> None:
    """Refuse a network whose logits are not one linear layer on a layer's mean over positions."""
    if not is_linear(target, layer):
        raise InputError(
            f"{target.name}: CAM needs logits that are one linear layer on the mean of {layer!r} "
            "over positions, but this network's are not: choose another method."
        )


def is_linear(target: Target, layer: str) -> bool:
    """Return True if the logits are one linear layer on a layer's mean over positions.

    Made-up maps take the layer's place: the logits of the whole must be the sum of those of the
    means of either half of the channels. All values are small integers, exact in bfloat16.
    """
    *_, channels = shape = target.shapes[layer]
    cells = math.prod(shape[:-1]) - (target.prefix if len(shape) == 2 else 0)
    rng = np.random.default_rng(0)
    sign = np.sign(np.arange(cells) - (cells - 1) / 2)
    signs = rng.permuted(np.tile(sign, (2, channels, 1)), axis=2).swapaxes(1, 2)
    means = np.broadcast_to(rng.integers(1, 9, (2, 1, channels)), signs.shape)
    even = np.arange(channels) % 2 == 0
    parts = (means + signs, np.where(even, means, 0), np.where(even, 0, means), 0 * means)
    blank = np.zeros((2, target.preprocess.size, target.preprocess.size, 3), np.float32)
    network = target.apply, layer, target.prefix
    # Weights may be given as shapes: the answer is the same for any.
    params = jax.tree.map(_drawn_if_shape, target.params)
    whole, first, second, nothing = (
        np.asarray(_logits_behind(*network, params, blank, np.float32(part))) for part in parts
    )
    apart, largest = np.abs(whole - (first + second - nothing)), np.abs(whole)
    allowed = LINEAR_TOLERANCE * np.nanmax(largest, initial=1e-30)
    return bool(np.nanmax(apart, initial=0) <= allowed)


def _drawn_if_shape(weights: Any) -> Any:
    if not isinstance(weights, jax.ShapeDtypeStruct):
        return weights
    return (0.1 * jax.random.normal(jax.random.key(0), weights.shape)).astype(weights.dtype)


@partial(jit, static=("apply", "layer", "prefix"))
def _logits_behind(
    apply: Apply, layer: str, prefix: int, params: Any, pixels: Any, maps: Any
) -> Any:
    """Logits if `maps` took the place of what a layer has at its positions."""

    def tap(name: str, x: Array) -> Array:
        if name != layer:
            return x
        values = maps.astype(x.dtype)
        return values.reshape(x.shape) if x.ndim == 4 else x.at[:, prefix:].set(values)

    return apply(params, pixels, tap)


def check_seen(target: Target, layer: str) -> None:
    """Refuse tokens whose patches no logit depends on, as those after the last block.

    A network that is pooled at its class token reads nothing else of them.
    """
    names = [name for name in target.shapes if target.class_token(name)]
    read = [name for name in names if name in target.read_at_patches]
    if not read or layer in read:
        return
    before = [name for name in read if names.index(name) < names.index(layer)]
    raise InputError(
        f"The logits of {target.name} read only the class token of {layer!r}, so an attention map "
        f"of it would be zero everywhere: take the layer {(before or read)[-1]!r}."
    )


class Cam(NamedTuple):
    """One kind of attention map.

    `compute` maps a layer and its gradient to maps ≥ 0, NaN if the network gave NaN. `check` raises
    `InputError` for a target and a layer that the map does not suit; None if it suits all.
    """

    title: str  # its name in reports
    compute: Callable[[ClassGradient], Maps]
    check: Callable[[Target, str], None] | None = None
    passes: bool = False  # True if it takes a forward pass per channel rather than one
    probabilities: bool = False  # True if it is made of attention probabilities, not of a layer
    of_class: bool = True  # False if it is the same for every class, and needs none


CAMS = {
    "cam": Cam("CAM", cam, check_linear),
    "grad_cam": Cam("Grad-CAM", grad_cam),
    "grad_cam_pp": Cam("Grad-CAM++", grad_cam_pp),
    "layer_cam": Cam("LayerCAM", layer_cam),
    "score_cam": Cam("Score-CAM", score_cam, passes=True),
    "legrad": Cam("LeGrad", legrad, check_probabilities, probabilities=True),
    "class_attention": Cam(
        "Class attention",
        class_attention,
        check_class_attention,
        probabilities=True,
        of_class=False,
    ),
}
GRAD_CAM, OF_TOKENS = "grad_cam", "layer_cam"


def suited(target: Target, cam: str = "", layer: str = "") -> str:
    """Return a kind of map, or if it is empty the one that suits the network.

    The paper's Grad-CAM; but of a transformer's tokens LayerCAM, since the weights of whole
    channels fit few of their patches: on validation scenes windows around the peaks of Grad-CAM
    named 75 % of a transformer's classes, those of LayerCAM 93 %.
    """
    tokens = len(target.shapes.get(layer or target.attention_layer, ())) == 2
    return cam or (OF_TOKENS if tokens else GRAD_CAM)


def check_cam(target: Target, cam: str, layer: str = "") -> None:
    """Raise `InputError` for a kind of map that does not exist, or does not suit the network."""
    if cam not in CAMS:
        raise InputError(f"Unknown attention map {shown(cam)}: expected one of {', '.join(CAMS)}.")
    if CAMS[cam].of_class and not target.logit_count:
        free = ", ".join(repr(name) for name, each in CAMS.items() if not each.of_class)
        raise InputError(
            f"{target.name} has no classes, so it has no attention map of one: if it is a vision "
            f"transformer with a class token, take {free}, which needs none."
        )
    layer = layer or target.attention_layer
    if not layer:
        raise InputError(f"{target.name} offers its tap no layer, so it has no attention map.")
    target.check_layer(layer)
    if len(target.shapes[layer]) == 1:
        raise InputError(
            f"Layer {layer!r} of {target.name} has no rows and columns: choose another."
        )
    if target.class_token(layer) and not CAMS[cam].probabilities:
        check_seen(target, layer)
    check = CAMS[cam].check
    if check:
        check(target, layer)


def attention_maps(
    target: Target,
    pixels: Pixels,
    classes: Int[Array | np.ndarray, " batch"] | None = None,
    cam: str = "",
    layer: str = "",
) -> tuple[Maps, Int[Array, " batch"]]:
    """Compute attention maps of a batch of images, before upsampling, and their classes.

    Maps are ≥ 0, of the rows and columns of the layer whose channels are weighted, by default the
    target's attention layer; NaN if the network gave NaN. Each is of the logit of a class, by
    default the predicted one. An empty `cam` is the kind that suits the network (`suited`). Raises
    `InputError` if the map does not exist or does not suit the network, or a class is not one of
    its logits.
    """
    check_cam(target, suited(target, cam, layer), layer)
    count = target.logit_count
    if classes is not None:
        labels = np.asarray(classes)
        if labels.size and not (labels.min() >= 0 and labels.max() < count):
            raise InputError(
                f"Classes are {labels.min()} to {labels.max()}, but {target.name} has classes 0 to "
                f"{count - 1}."
            )
    return attend(target, pixels, classes, cam, layer)


def attend(
    target: Target, pixels: Any, classes: Any, cam: str = "", layer: str = ""
) -> tuple[Maps, Int[Array, " batch"]]:
    """Return `attention_maps` of input that was checked, without waiting for them."""
    layer = layer or target.attention_layer
    found: tuple[Array, Array] = look(
        CAMS[suited(target, cam, layer)].compute, target, pixels, classes, layer, target.mesh
    )
    return found


def look(
    compute: Callable[[ClassGradient], Any],
    target: Target,
    pixels: Any,
    classes: Any,
    layer: str,
    mesh: Mesh | None = None,
) -> Any:
    """Return what a function computes of a layer's gradients, and the images' classes."""
    return looking(compute, target, pixels.shape[1:3], layer, mesh)(pixels, classes)


def looking(
    compute: Callable[[ClassGradient], Any],
    target: Target,
    size: tuple[int, int],
    layer: str,
    mesh: Mesh | None,
) -> partial[Any]:
    """Return the program of `look`, which takes pixels of this height and width, and classes."""
    side = target.preprocess.size
    shapes = target.shapes if size == (side, side) else target.shapes_at(*size)
    seen = layer, shapes[layer], target.prefix
    network = target.apply, target.preprocess, mesh, compute, *seen
    return partial(_attend, *network, target.params)


def attend_as(
    crop: CropConfig,
    target: Target,
    pixels: UInt8[np.ndarray, "padded size size 3"],
    labels: Sequence[int | None],
) -> tuple[Maps, Int[Array, " padded"]]:
    """Return the attention maps of a run, and their classes, without waiting for them.

    Pixels without a label are padding. `InputError` if a label that is needed is not one of the
    target's classes.
    """
    classes = None
    if crop.cam_class == "label":
        for label in labels:
            if label is None or not 0 <= label < target.logit_count:
                raise InputError(
                    f"config.crop.cam_class is 'label', but an image is labelled {label}, and "
                    f"{target.name} has classes 0 to {target.logit_count - 1}: choose 'predicted'."
                )
        classes = padded(np.array(labels, np.int32), len(pixels))
    return attend(target, pixels, classes, crop.cam)


@partial(jit, static=("apply", "preprocess", "mesh", "compute", "layer", "shape", "prefix"))
def _attend(
    apply: Apply,
    preprocess: Preprocess,
    mesh: Mesh | None,
    compute: Callable[[ClassGradient], Any],
    layer: str,
    shape: tuple[int, ...],
    prefix: int,
    params: Any,
    pixels: Any,
    classes: Any,
) -> Any:
    def attend(params: Any, rows: Any) -> Any:
        pixels, classes = rows
        pixels = normalised(preprocess, pixels)
        seen = class_gradient(apply, params, pixels, classes, layer, shape, prefix)
        return compute(seen), seen.classes

    return shared_out(partial(in_pieces, attend), mesh, params, (pixels, classes))


def cam_fingerprint(target: Target, cam: str) -> str:
    """Name a map in fingerprints, one that the target's does not cover by its program.

    These are maps from outside this package, and those of values that a network computes only if
    asked, which its fingerprint leaves out.
    """
    compute = CAMS[cam].compute
    if compute.__module__.startswith(f"{__package__}.") and not CAMS[cam].probabilities:
        return cam
    layer = target.attention_layer
    size = target.preprocess.size

    def program(params: Any, pixels: Array) -> Maps:
        seen = None, layer, target.shapes[layer], target.prefix
        return compute(class_gradient(target.apply, params, pixels, *seen))

    pixels = np.zeros((1, size, size, 3), np.float32)
    return f"{cam} {fingerprint.of_function(program, target.params, pixels)}"
