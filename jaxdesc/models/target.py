"""The target: the network whose neurons are described, and how to read one from a folder."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from os import PathLike
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Float32, Int, UInt8

from jaxdesc.attention import cam_of_maps
from jaxdesc.attention.saliency import DEFAULT, METHODS, check_linear, maps_and_logits
from jaxdesc.errors import InputError, as_printed, shown
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.models.formats import read_folded_resnet
from jaxdesc.models.labels import read_labels
from jaxdesc.models.packaging import TARGET, open_network
from jaxdesc.models.precision import cast, check_precision
from jaxdesc.models.preprocessor import target_preprocess
from jaxdesc.models.resnet import trunk_in_pieces, with_winograd
from jaxdesc.runtime import fingerprint
from jaxdesc.runtime.compiler import in_pieces, jit
from jaxdesc.runtime.mesh import on_each, shared_out

if TYPE_CHECKING:
    from jaxdesc.stages.sanity import Check

LOGITS = "fc"
POOLINGS = ("mean", "max")

Trunk = Callable[[Any, Any], tuple[Array, dict[str, Array]]]
Head = Callable[[Any, Array], Array]


@dataclass(frozen=True, eq=False)
class Target:
    """A vision network split where Grad-CAM looks; any network, not ours alone.

    Attributes:
        params: pytree of its weights.
        trunk: (params, pixels [B, H, W, 3]) -> (feature maps [B, h, w, C] after the last ReLU, taps
            by layer name, each [B, h', w', N]).
        head: (params, feature maps) -> logits [B, classes].
        preprocess: how it wants its images.
        classes: names of each class, the first being its usual one; may be empty, and then
            nothing is evaluated.
        name: for reports.
        mesh: devices that share views out; the default one where None.
        wnids: WordNet id of each class; may be empty.
        notes: what was assumed or stripped when it was read, a sentence each.
    """

    params: Any
    trunk: Trunk
    head: Head
    preprocess: Preprocess
    classes: tuple[tuple[str, ...], ...] = ()
    name: str = "target"
    mesh: Mesh | None = None
    wnids: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def on(self, mesh: Mesh | None) -> "Target":
        """Put it on each device of a mesh, which then share views out; a batch has to be even."""
        if mesh is None:
            return self
        return replace(self, params=on_each(self.params, mesh), mesh=mesh)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights, of what trunk, head and its gradient compute, and of preprocess."""
        size = self.preprocess.size
        pixels = np.zeros((1, size, size, 3), np.float32)
        program = fingerprint.of_function(self._everything, self.params, pixels)
        return f"{fingerprint.of_weights(self.params)} {program} {self.preprocess}"

    def _everything(self, params: Any, pixels: Array) -> Any:
        """All that the method computes with a target, Grad-CAM's gradient included.

        The other maps of attention are made of the same gradient, or of the logits. What they do
        with them is this package's code, and which one it was is an option of the crop.
        """
        feature_maps, taps, logits = self._forward(params, pixels)
        head, classes = partial(self.head, params), jnp.zeros(len(pixels), jnp.int32)
        return taps, logits, cam_of_maps(head, feature_maps, classes)

    def _forward(self, params: Any, pixels: Array) -> tuple[Array, dict[str, Array], Array]:
        feature_maps, taps = self.trunk(params, pixels)
        return feature_maps, taps, self.head(params, feature_maps)

    def check_layer(self, layer: str) -> None:
        """Raise `InputError` for a layer that does not exist."""
        if layer not in self.layers:
            layers = ", ".join(self.layers)
            raise InputError(f"Unknown layer {layer!r} of {self.name}: expected one of {layers}.")

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers whose neurons can be described: "fc" and the trunk's taps."""
        return (LOGITS, *self._shapes[1])

    @property
    def logit_count(self) -> int:
        """How many logits it has."""
        return int(self._shapes[2].shape[1])

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of each layer, for one image: how many logits, or the rows, columns and channels."""
        _, taps, logits = self._shapes
        return {LOGITS: logits.shape[1:]} | {name: own.shape[1:] for name, own in taps.items()}

    @cached_property
    def _shapes(self) -> Any:
        batch, size = 2, self.preprocess.size
        pixels = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
        maps, taps = self._shape_of(self.trunk, pixels, "trunk(params, pixels)")
        for name, own in {"the feature maps": maps, **taps}.items():
            if len(own.shape) != 4 or own.shape[0] != batch or 0 in own.shape:
                raise InputError(
                    f"{self.name} gives {name} the shape {own.shape} for pixels of shape "
                    f"{pixels.shape}: expected (batch, rows, columns, channels)."
                )
        logits = self._shape_of(self.head, maps, "head(params, feature maps)")
        if len(logits.shape) != 2 or logits.shape[0] != batch or 0 in logits.shape:
            raise InputError(
                f"{self.name} gives logits of shape {logits.shape} for pixels of shape "
                f"{pixels.shape}: expected (batch, classes)."
            )
        return maps, taps, logits

    def _shape_of(self, function: Callable[..., Any], given: Any, called: str) -> Any:
        """What trunk or head returns, which are the user's own."""
        wanted = "(feature maps, taps by name)" if function is self.trunk else "logits"
        expected = f"expected {called} -> {wanted}."
        try:
            found = jax.eval_shape(function, self.params, given)
        except InputError:
            raise
        except Exception as error:  # of no fixed type
            raise InputError(
                f"{called} of {self.name} fails for shape {given.shape}: {shown(error)}; {expected}"
            ) from error
        if function is self.trunk:
            whole = isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], dict)
        else:
            whole = hasattr(found, "shape")
        if not whole:
            raise InputError(f"{called} of {self.name} gives {shown(found)}: {expected}")
        return found

    def feature_maps(
        self, pixels: Float[Array | np.ndarray, "batch height width 3"]
    ) -> Float[Array, "batch h w channels"]:
        """Return the last stage's feature maps of normalised pixels, after ReLU."""
        return _feature_maps(self.trunk, self.params, pixels)

    def logits(
        self, pixels: Float[Array | np.ndarray, "batch height width 3"]
    ) -> Float[Array, "batch classes"]:
        """Return the class logits of normalised pixels."""
        return self.activations(pixels)

    def activations(
        self,
        pixels: Float[Array | np.ndarray, "batch height width 3"],
        layer: str = LOGITS,
        pooling: str = "mean",
    ) -> Float[Array, "batch neuron"]:
        """Return every neuron's activation on normalised pixels.

        Args:
            pixels: as `preprocess` makes them.
            layer: "fc" for the logits, or a tap of the trunk (layer1 … layer4), whose channels
                are the neurons.
            pooling: "mean" or "max" over a tap's positions.

        Raises:
            InputError: for a layer or a pooling that does not exist.
        """
        found: Array = self._activations(None, pixels, layer, pooling)
        return found

    def view_activations(
        self,
        views: UInt8[np.ndarray, "batch size size 3"],
        layer: str = LOGITS,
        pooling: str = "mean",
    ) -> Float[Array, "batch neuron"]:
        """Return `activations` of views as they were cut, not yet normalised: one program."""
        found: Array = self._activations(self.preprocess, views, layer, pooling)
        return found

    def view_activations_and_classes(
        self,
        views: UInt8[np.ndarray, "batch size size 3"],
        layer: str = LOGITS,
        pooling: str = "mean",
    ) -> tuple[Float[Array, "batch neuron"], Int[Array, " batch"]]:
        """Return `view_activations`, and the class with the largest logit, as one program."""
        found: tuple[Array, Array] = self._activations(
            self.preprocess, views, layer, pooling, classify=True
        )
        return found

    def view_cams(
        self,
        views: UInt8[np.ndarray, "batch size size 3"],
        classes: Int[np.ndarray, " batch"] | None = None,
        method: str = DEFAULT,
    ) -> Float32[Array, "batch row column"]:
        """Return `saliency.saliency` of views as they were cut, not yet normalised: one program.

        Args:
            views: as `preprocess` cuts them.
            classes: the class whose logit each is explained by, one of the network's; the predicted
                one by default.
            method: one of `saliency.METHODS`.

        Raises:
            InputError: as `check_cam`.
        """
        self.check_cam(method)
        network = self.trunk, self.head, self.preprocess, self.mesh
        return _view_cams(*network, method, self.params, views, classes)

    def check_cam(self, method: str) -> None:
        """Raise `InputError` for a map of attention that does not exist, or not of its head."""
        if method not in METHODS:
            raise InputError(
                f"Unknown map of attention {method!r}: expected one of {', '.join(METHODS)}."
            )
        if method == "cam" and self._bent:
            raise InputError(f"{self.name}: {self._bent}")

    @cached_property
    def _bent(self) -> str:
        """Why its head allows no CAM; empty where it does."""
        try:
            check_linear(self, self._shapes[0].shape[1:])
        except ValueError as error:
            return str(error)
        return ""

    def check(self, images: Any, *, layer: str = LOGITS, count: int = 64) -> "Check":
        """Look whether it does on a few images what it should, print that, and return it.

        Args:
            images: as `jaxdesc.describe` takes them; those looked at lie evenly among them.
            layer: whose activations are looked at.
            count: how many images at most.

        Returns:
            Its layers with their shapes, top-1 and top-5 where labels are known, a sheet of what it
            sees, and every doubt.

        Raises:
            InputError: it can't be used: shapes that do not fit, a tap that is missing, NaN; or no
                image can be used.
        """
        from jaxdesc.images.sources import open_source
        from jaxdesc.stages.sanity import look

        found = look(self, open_source(images), layer, count)
        print(as_printed(str(found), sys.stdout))
        return found

    def _activations(
        self,
        preprocess: Preprocess | None,
        pixels: Any,
        layer: str,
        pooling: str,
        classify: bool = False,
    ) -> Any:
        if layer != LOGITS:
            self.check_layer(layer)
        if pooling not in POOLINGS:
            raise InputError(f"Unknown pooling {pooling!r}: expected one of {', '.join(POOLINGS)}.")
        network = self.trunk, self.head, preprocess, self.mesh
        return _activations(*network, layer, pooling, classify, self.params, pixels)


@partial(jit, static=("trunk",))
def _feature_maps(trunk: Trunk, params: Any, pixels: Any) -> Array:
    return trunk(params, pixels)[0]


# What a program does not return, XLA does not write: a ResNet-50's taps are 6 MB an image.
@partial(jit, static=("trunk", "head", "preprocess", "mesh", "layer", "pooling", "classify"))
def _activations(
    trunk: Trunk,
    head: Head,
    preprocess: Preprocess | None,
    mesh: Mesh | None,
    layer: str,
    pooling: str,
    classify: bool,
    params: Any,
    pixels: Any,
) -> Any:
    """Each neuron's activation on pixels, or on views where their preprocessing is given.

    With the class of each, where `classify` is set.
    """

    def activate(params: Any, pixels: Array) -> Any:
        feature_maps, taps = trunk(params, preprocess.normalise(pixels) if preprocess else pixels)
        if layer == LOGITS:
            found = logits = head(params, feature_maps)
        else:
            pool = jnp.mean if pooling == "mean" else jnp.max
            found = pool(taps[layer].astype(jnp.float32), axis=(1, 2))
            if not classify:
                return found
            logits = head(params, feature_maps)
        return (found, logits.argmax(axis=1)) if classify else found

    return shared_out(partial(in_pieces, activate), mesh, params, pixels)


@partial(jit, static=("trunk", "head", "preprocess", "mesh", "method"))
def _view_cams(
    trunk: Trunk,
    head: Head,
    preprocess: Preprocess,
    mesh: Mesh | None,
    method: str,
    params: Any,
    views: Any,
    classes: Any,
) -> Array:
    def attend(params: Any, rows: Any) -> Array:
        views, classes = rows
        pixels = preprocess.normalise(views)
        return maps_and_logits(method, trunk, head, params, pixels, classes)[0]

    return shared_out(partial(in_pieces, attend), mesh, params, (views, classes))


def load_target(
    source: str | PathLike[str],
    *,
    revision: str | None = None,
    precision: str = "float32",
    preprocess: str | Preprocess = "",
) -> Target:
    """Read a target network, its BatchNorm folded.

    Args:
        source: one of
            a local folder with timm's `config.json` and torchvision's tensors, with a Hugging Face
            `ResNetForImageClassification` or `TimmWrapperForImageClassification`, or with what
            `launch.convert` wrote;
            a file of torchvision's tensors, such as `resnet50-11ad3fa6.pth`, or a training
            checkpoint that holds them;
            a Hugging Face id, such as timm/resnet50.tv_in1k (torchvision's V1 weights) or
            timm/resnet50.tv2_in1k (V2);
            "scenes", the embedded world's own, or "scenes:attributes", its network of attributes.
        revision: branch, tag or commit of a Hugging Face id; its main branch by default. The
            target's name tells the commit.
        precision: "float32", or "bfloat16" for weights and feature maps; logits, pooled activations
            and Grad-CAM's weights are computed in float32 all the same.
        preprocess: a name in `jaxdesc.images.preprocess.PRESETS` or a `Preprocess`, in place of
            the checkpoint's own; by default that one, the one for evaluation, or ImageNet's usual
            one if there is none.

    Returns:
        The target, its classes as `labels.read_labels` reads them. Its notes say what was assumed
        or left out.

    Raises:
        InputError: a missing source, a config that is not understood, tensors that do not fit, or
            another precision or preprocessing.
    """
    check_precision(precision)
    path, name, notes = open_network(source, TARGET, revision)
    model = read_folded_resnet(path, notes)
    labels = read_labels(path, model.config.num_classes, notes)
    own_preprocess = target_preprocess(path, preprocess, notes)
    if jax.default_backend() == "cpu" and precision == "float32":
        model = with_winograd(model)
    graph, params = nnx.split(model)

    def trunk(params: Any, pixels: Array) -> tuple[Array, dict[str, Array]]:
        return trunk_in_pieces(nnx.merge(graph, params), pixels)

    def head(params: Any, feature_maps: Array) -> Array:
        return nnx.merge(graph, params).head(feature_maps)

    return Target(
        params=cast(params, precision),
        trunk=trunk,
        head=head,
        preprocess=own_preprocess,
        classes=labels.names,
        name=name,
        wnids=labels.wnids,
        notes=tuple(notes),
    )
