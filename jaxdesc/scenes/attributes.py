"""A second target, which tells all that a scene's truth holds: one logit an attribute.

The classifier of `target` has to know classes alone. This one, as narrow, has a logit for each
class, colour, pattern, background and context thing, so what each of its 60 neurons means is known.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Bool, Float32
from PIL import Image

from jaxdesc.evaluation.faithfulness import auc
from jaxdesc.models.formats import load_resnet, save_resnet
from jaxdesc.models.resnet import ResNet, ResNetConfig
from jaxdesc.scenes import NETWORKS, target
from jaxdesc.scenes.target import PREPROCESS, SIZE, WHOLE
from jaxdesc.scenes.training import Batch, Schedule, cut, fit, render_split
from jaxdesc.scenes.world import (
    BACKGROUNDS,
    CLASSES,
    COLOURS,
    CONTEXTS,
    PATTERNS,
    Box,
    Scene,
    inside,
)

# The names of each logit by the kind of its attribute, in the order of the logits.
ATTRIBUTES: dict[str, tuple[tuple[str, ...], ...]] = {
    "class": tuple(CLASSES.values()),
    "colour": tuple((name,) for name in COLOURS),
    "pattern": tuple((name,) for name in PATTERNS),
    "background": tuple((name,) for name in BACKGROUNDS),
    "context": tuple((name,) for name in CONTEXTS),
}
NAMES = tuple(names for of_kind in ATTRIBUTES.values() for names in of_kind)
KINDS = np.array([kind for kind, names in ATTRIBUTES.items() for _ in names])
CONFIG = target.CONFIG | {
    "num_classes": len(NAMES),
    "pretrained_cfg": target.CONFIG["pretrained_cfg"]
    | {"label_names": [", ".join(names) for names in NAMES]},
}
FULL = Schedule(steps=700, batch=128, learning_rate=3e-3, save_every=100)
QUICK = Schedule(steps=4, batch=16, learning_rate=3e-3)


def train(scenes: Sequence[Scene], schedule: Schedule, directory: Path) -> ResNet:
    """Train the network on whole scenes and on windows that hold the object.

    Args:
        scenes: of the training split.
        schedule: `FULL` or `QUICK`.
        directory: of the checkpoints.

    Returns:
        The trained network.
    """
    model = _started()
    model.train()

    def batch_of(step: int) -> Batch:
        rng = np.random.default_rng([2, step])
        return _batch([scenes[i] for i in rng.integers(len(scenes), size=schedule.batch)], rng)

    fit(model, _loss, batch_of, schedule, directory)
    model.eval()
    return model


def _started() -> ResNet:
    """The classifier's trunk, and a head that has learnt nothing.

    From nothing at all, a thousand steps taught it colours, patterns and backgrounds (mean AUC at
    least 0.99), but not classes (0.81) and context (0.82): a class is there in one scene of 32.
    """
    model = load_resnet(NETWORKS / "target")
    model.config = ResNetConfig.from_timm(CONFIG)
    model.fc = ResNet(model.config, rngs=nnx.Rngs(0)).fc
    return model


def _batch(scenes: Sequence[Scene], rng: np.random.Generator) -> Batch:
    windows = [target.window(scene, rng) for scene in scenes]
    pairs = list(zip(scenes, windows, strict=True))
    pixels = [cut(scene, window, SIZE, Image.Resampling.BILINEAR) for scene, window in pairs]
    return {"pixels": np.stack(pixels), "present": np.stack([present(*pair) for pair in pairs])}


def present(scene: Scene, window: Box = WHOLE) -> Bool[np.ndarray, " attribute"]:
    """Tell which attributes a scene has, seen through a window that holds its object.

    Args:
        scene: with its truth.
        window: (left, top, right, bottom) in pixels. A context thing counts as present where at
            least half of its box lies inside.

    Returns:
        The truth of each logit, in the order of `NAMES`.
    """
    found = {kind: np.zeros(len(names), bool) for kind, names in ATTRIBUTES.items()}
    own = (scene.kind, scene.colour, scene.pattern, scene.background)
    for kind, index in zip(("class", "colour", "pattern", "background"), own, strict=True):
        found[kind][index] = True
    for thing, box in scene.contexts:
        found["context"][thing] |= inside(box, window) >= 0.5
    return np.concatenate(list(found.values()))


def _loss(model: Any, batch: Any, progress: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    del progress
    logits = model(PREPROCESS.normalise(batch["pixels"]))
    right = jnp.mean((logits > 0) == batch["present"])
    losses = optax.sigmoid_binary_cross_entropy(logits, batch["present"].astype(jnp.float32))
    return jnp.mean(losses), {"right": right}


def areas(model: ResNet, scenes: Sequence[Scene]) -> dict[str, float]:
    """Mean area under the ROC curve of each kind's logits on whole scenes, by the kind.

    Attributes that all scenes have, or none, are left out.
    """
    of_each = np.diag(auc(logits(model, scenes), np.stack([present(scene) for scene in scenes])))
    return {kind: float(np.nanmean(of_each[kind == KINDS])) for kind in ATTRIBUTES}


def logits(
    model: ResNet, scenes: Sequence[Scene], batch: int = 200
) -> Float32[np.ndarray, "scene attribute"]:
    """Every logit on whole scenes."""
    model.eval()
    activate = nnx.jit(lambda model, pixels: model(PREPROCESS.normalise(pixels)))
    found = []
    for start in range(0, len(scenes), batch):
        part = scenes[start : start + batch]
        pixels = np.stack([cut(s, WHOLE, SIZE, Image.Resampling.BILINEAR) for s in part])
        found.append(np.asarray(activate(model, pixels)))
    return np.concatenate(found)


def build(
    schedule: Schedule, scenes: int, held_out: int, output: Path, checkpoints: Path
) -> dict[str, float]:
    """Train the network, write its folder and return its areas on validation scenes."""
    model = train(render_split("train", scenes), schedule, checkpoints)
    gates = areas(model, render_split("validation", held_out))
    save_resnet(model, output, CONFIG)
    return {f"auc_{kind}": area for kind, area in gates.items()}
