"""The target: the network whose neurons are described, and how to read one from a folder."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxdesc import fingerprint
from jaxdesc.attention import cam_of_maps
from jaxdesc.errors import InputError
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.models.checkpoint import load_resnet, read_config
from jaxdesc.models.resnet import fold_batch_norm
from jaxdesc.scenes import NETWORKS

LOGITS = "fc"
POOLINGS = ("mean", "max")

Trunk = Callable[[Any, Array], tuple[Array, dict[str, Array]]]
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
    """

    params: Any
    trunk: Trunk
    head: Head
    preprocess: Preprocess
    classes: tuple[tuple[str, ...], ...] = ()
    name: str = "target"

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights, of what trunk, head and its gradient compute, and of preprocess."""
        size = self.preprocess.size
        pixels = np.zeros((1, size, size, 3), np.float32)
        program = fingerprint.of_function(self._attend, self.params, pixels)
        return f"{fingerprint.of_weights(self.params)} {program} {self.preprocess}"

    def _attend(self, params: Any, pixels: Array) -> Any:
        """All that the method computes with a target, Grad-CAM's gradient included."""
        feature_maps, taps, logits = _forward(self.trunk, self.head, params, pixels)
        head, classes = partial(self.head, params), jnp.zeros(len(pixels), jnp.int32)
        return taps, logits, cam_of_maps(head, feature_maps, classes)

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

    @cached_property
    def _shapes(self) -> Any:
        size = self.preprocess.size
        pixels = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
        return jax.eval_shape(partial(_forward, self.trunk, self.head), self.params, pixels)

    def feature_maps(
        self, pixels: Float[Array | np.ndarray, "batch height width 3"]
    ) -> Float[Array, "batch h w channels"]:
        """Return the last stage's feature maps of normalised pixels, after ReLU."""
        return _forward(self.trunk, self.head, self.params, pixels)[0]

    def logits(
        self, pixels: Float[Array | np.ndarray, "batch height width 3"]
    ) -> Float[Array, "batch classes"]:
        """Return the class logits of normalised pixels."""
        return _forward(self.trunk, self.head, self.params, pixels)[2]

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
        _, taps, logits = _forward(self.trunk, self.head, self.params, pixels)
        if layer == LOGITS:
            return logits
        self.check_layer(layer)
        if pooling not in POOLINGS:
            raise InputError(f"Unknown pooling {pooling!r}: expected one of {', '.join(POOLINGS)}.")
        pool = jnp.mean if pooling == "mean" else jnp.max
        return pool(taps[layer], axis=(1, 2))


@partial(jax.jit, static_argnums=(0, 1))
def _forward(
    trunk: Trunk, head: Head, params: Any, pixels: Array
) -> tuple[Array, dict[str, Array], Array]:
    feature_maps, taps = trunk(params, pixels)
    return feature_maps, taps, head(params, feature_maps)


def load_target(folder: str) -> Target:
    """Read a target network, its BatchNorm folded.

    Args:
        folder: with timm's `config.json` and a `model.safetensors` of torchvision's names; or
            "scenes", the embedded world's own.

    Returns:
        The target; its classes are `label_names` of the config's `pretrained_cfg`, each split at
        its commas.

    Raises:
        InputError: a missing folder, a config that is not understood, or tensors that do not fit.
    """
    path = existing_folder(folder, "target")
    pretrained = read_config(path).get("pretrained_cfg") or {}
    model = fold_batch_norm(load_resnet(path))
    model.eval()
    graph, params = nnx.split(model)

    def trunk(params: Any, pixels: Array) -> tuple[Array, dict[str, Array]]:
        return nnx.merge(graph, params).trunk(pixels)

    def head(params: Any, feature_maps: Array) -> Array:
        return nnx.merge(graph, params).head(feature_maps)

    return Target(
        params=params,
        trunk=trunk,
        head=head,
        preprocess=Preprocess.from_timm(pretrained),
        classes=_classes(path, pretrained.get("label_names") or []),
        name=folder,
    )


def _classes(path: Path, labels: Any) -> tuple[tuple[str, ...], ...]:
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise InputError(
            f"label_names in {path / 'config.json'} are {str(labels)[:60]}: expected a list of "
            "strings, a class each, several names of a class separated by commas."
        )
    return tuple(tuple(label.split(", ")) for label in labels)


def existing_folder(folder: str, what: str) -> Path:
    """Find a checkpoint's folder, the embedded world's own where `folder` is "scenes".

    Raises:
        InputError: it does not exist.
    """
    path = NETWORKS / what if folder == "scenes" else Path(folder).expanduser()
    if not folder or not path.is_dir():
        raise InputError(
            f"The {what} folder {folder!r} does not exist: give a local folder with config.json "
            "and model.safetensors, or 'scenes' for the embedded world's own network."
        )
    return path
