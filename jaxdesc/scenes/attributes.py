"""A second target, with one logit per attribute of a scene.

The classifier of `target` distinguishes classes only. This network is as narrow, but has a logit
for each class, colour, pattern, background and context thing: its 60 neurons have known meanings.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Bool
from PIL import Image

from jaxdesc.evaluation.faithfulness import auc
from jaxdesc.models.resnet import ResNet, load_resnet, save_resnet
from jaxdesc.models.resnet_config import ResNetConfig
from jaxdesc.scenes import NETWORKS, target
from jaxdesc.scenes.target import PREPROCESS, SIZE, WHOLE
from jaxdesc.scenes.training import Batch, Schedule, batches, cut, fit, render_split
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

# Names of each logit, by the kind of its attribute, in the order of the logits.
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
    """Train the classifier, with a new head, on whole scenes and on windows that hold the object.

    From random weights, a thousand steps suffice for colours, patterns and backgrounds (mean AUC at
    least 0.99), but not for classes (0.81) and context (0.82): each class is in one scene of 32.
    """
    model = load_resnet(NETWORKS / "target")
    model.config = ResNetConfig.from_timm(CONFIG)
    model.fc = ResNet(model.config, rngs=nnx.Rngs(0)).fc
    fit(model, _loss, batches(scenes, 2, schedule, _batch), schedule, directory)
    return model


def _batch(scenes: Sequence[Scene], rng: np.random.Generator, _: int = 0) -> Batch:
    windows = [target.window(scene, rng) for scene in scenes]
    pairs = list(zip(scenes, windows, strict=True))
    pixels = [cut(scene, window, SIZE, Image.Resampling.BILINEAR) for scene, window in pairs]
    return {"pixels": np.stack(pixels), "present": np.stack([present(*pair) for pair in pairs])}


def present(scene: Scene, window: Box = WHOLE) -> Bool[np.ndarray, " attribute"]:
    """Truth of each logit in a window that holds the scene's object, in the order of `NAMES`.

    The window is (left, top, right, bottom) in pixels. A context thing counts as present if at
    least half of its box is inside.
    """
    truth = {kind: np.zeros(len(names), bool) for kind, names in ATTRIBUTES.items()}
    truth["class"][scene.kind] = truth["colour"][scene.colour] = True
    truth["pattern"][scene.pattern] = truth["background"][scene.background] = True
    for thing, box in scene.contexts:
        truth["context"][thing] |= inside(box, window) >= 0.5
    return np.concatenate(list(truth.values()))


def _loss(model: Any, batch: Any, progress: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    del progress
    logits = model(PREPROCESS.normalise(batch["pixels"]))
    right = jnp.mean((logits > 0) == batch["present"])
    losses = optax.sigmoid_binary_cross_entropy(logits, batch["present"].astype(jnp.float32))
    return jnp.mean(losses), {"right": right}


def areas(model: ResNet, scenes: Sequence[Scene]) -> dict[str, float]:
    """Mean area under the ROC curve of each kind's logits on whole scenes.

    Attributes that all scenes have, or none, are left out.
    """
    truth = np.stack([present(scene) for scene in scenes])
    each = np.diag(auc(target.logits(model, scenes), truth))
    return {kind: float(np.nanmean(each[kind == KINDS])) for kind in ATTRIBUTES}


def build(
    schedule: Schedule, scenes: int, held_out: int, output: Path, checkpoints: Path
) -> dict[str, float]:
    """Train the network, write its folder and return its areas on validation scenes."""
    model = train(render_split("train", scenes), schedule, checkpoints)
    gates = areas(model, render_split("validation", held_out))
    save_resnet(model, output, CONFIG)
    return {f"auc_{kind}": area for kind, area in gates.items()}
