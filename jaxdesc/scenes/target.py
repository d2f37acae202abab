"""The embedded world's target: a narrow ResNet that classifies the salient object of a scene."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Float32
from PIL import Image

from jaxdesc.images.preprocess import Preprocess
from jaxdesc.models.resnet import ResNet, save_resnet
from jaxdesc.models.resnet_config import ResNetConfig
from jaxdesc.models.vit import ViT
from jaxdesc.scenes.training import Batch, Schedule, batches, cut, fit, render_split
from jaxdesc.scenes.world import CLASSES, HEIGHT, WIDTH, Box, Scene

SIZE = 112  # px: layer4 is 4 × 4
PREPROCESS = Preprocess(SIZE, 0.875, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
WHOLE: Box = (0, 0, WIDTH, HEIGHT)
MODEL_ARGS = {"layers": [1, 1, 1, 1], "channels": [16, 32, 64, 128], "stem_width": 16}
CONFIG: dict[str, Any] = {
    "architecture": "resnet18",
    "num_classes": len(CLASSES),
    "model_args": MODEL_ARGS,
    "pretrained_cfg": {
        "input_size": [3, SIZE, SIZE],
        "crop_pct": PREPROCESS.field,
        "interpolation": PREPROCESS.interpolation,
        "mean": list(PREPROCESS.mean),
        "std": list(PREPROCESS.std),
        "label_names": [", ".join(names) for names in CLASSES.values()],
    },
}
FULL = Schedule(steps=800, batch=128, learning_rate=3e-3)
QUICK = Schedule(steps=4, batch=16, learning_rate=3e-3)


def train(scenes: Sequence[Scene], schedule: Schedule, directory: Path) -> ResNet:
    """Train the target on whole scenes and on windows that hold the object."""
    model = ResNet(ResNetConfig.from_timm(CONFIG), rngs=nnx.Rngs(0))
    fit(model, loss, batches(scenes, 1, schedule, _batch), schedule, directory)
    return model


def _batch(scenes: Sequence[Scene], rng: np.random.Generator, _: int) -> Batch:
    pixels = [cut(scene, window(scene, rng), SIZE, Image.Resampling.BILINEAR) for scene in scenes]
    return {"pixels": np.stack(pixels), "classes": np.array([scene.kind for scene in scenes])}


def window(scene: Scene, rng: np.random.Generator) -> Box:
    """Draw (left, top, right, bottom) in pixels: half the time the whole scene, else any window.

    Any window is a random rectangle around the object.
    """
    if rng.random() < 0.5:
        return WHOLE
    left, top, right, bottom = scene.box
    edges = (0, left), (0, top), (right, WIDTH), (bottom, HEIGHT)
    x0, y0, x1, y1 = (rng.uniform(*each) for each in edges)
    return x0, y0, x1, y1


def loss(model: Any, batch: Any, progress: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Cross-entropy of a batch's classes, and the share of them that is predicted."""
    del progress
    logits = model(PREPROCESS.normalise(batch["pixels"]))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["classes"])
    right = jnp.mean(jnp.argmax(logits, -1) == batch["classes"])
    return jnp.mean(losses), {"accuracy": right}


def logits(
    model: ResNet | ViT,
    scenes: Sequence[Scene],
    preprocess: Preprocess = PREPROCESS,
    batch: int = 200,
) -> Float32[np.ndarray, "scene logit"]:
    """Logits of whole scenes, squashed to the size that the network expects."""
    model.eval()
    compute = nnx.jit(lambda model, pixels: model(preprocess.normalise(pixels)))
    parts = []
    for start in range(0, len(scenes), batch):
        part = scenes[start : start + batch]
        pixels = np.stack([cut(s, WHOLE, preprocess.size, Image.Resampling.BILINEAR) for s in part])
        parts.append(np.asarray(compute(model, pixels)))
    return np.concatenate(parts)


def accuracy(
    model: ResNet | ViT, scenes: Sequence[Scene], preprocess: Preprocess = PREPROCESS
) -> float:
    """Share of whole scenes whose class a target predicts."""
    predicted = logits(model, scenes, preprocess).argmax(1)
    return float(np.mean(predicted == [scene.kind for scene in scenes]))


def build(
    schedule: Schedule, scenes: int, held_out: int, output: Path, checkpoints: Path
) -> dict[str, float]:
    """Train the target, write its folder and return its accuracy on validation scenes."""
    model = train(render_split("train", scenes), schedule, checkpoints)
    gate = accuracy(model, render_split("validation", held_out))
    save_resnet(model, output, CONFIG)
    return {"accuracy": gate}
