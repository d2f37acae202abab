"""A third target: a small vision transformer that classifies the salient object of a scene.

It reads whole scenes as 10 × 10 patches and its class token, as published vision transformers do.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from flax import nnx
from PIL import Image
from transformers import BitImageProcessorPil

from jaxdesc.models.vit import ViT, save_vit
from jaxdesc.models.vit_config import ViTConfig
from jaxdesc.scenes import target
from jaxdesc.scenes.training import Batch, Schedule, batches, cut, fit, render_split, sine_positions
from jaxdesc.scenes.world import CLASSES, HEIGHT, WIDTH, Box, Scene

SIZE, RESIZED = 80, 91  # px: the input, and the shorter side from whose centre it is cut
PREPROCESS = replace(target.PREPROCESS, size=SIZE, field=SIZE / RESIZED)
CONFIG = ViTConfig(
    hidden_size=96,
    intermediate_size=288,
    num_hidden_layers=4,
    num_attention_heads=3,
    layer_norm_eps=1e-6,
    image_size=SIZE,
    patch_size=8,
    num_classes=len(CLASSES),
)
WARM_UP = 0.4  # of all steps: windows around the object, from half the size
# In 600 steps on windows AdamW alone reached 15 % of training windows, Muon 78 %.
FULL = Schedule(steps=4_500, batch=64, learning_rate=2e-3, muon=0.02, save_every=100)
QUICK = Schedule(steps=4, batch=16, muon=0.02)


def train(scenes: Sequence[Scene], schedule: Schedule, directory: Path) -> ViT:
    """Train the classifier on windows, from tight to wide, and then on whole scenes too.

    From random weights and whole scenes a transformer learns backgrounds first, as CLIP's tower
    does. The windows' sizes in pixels grow with them, so that the object stays as large, in
    patches, as in a whole scene; tight ones have a quarter of its patches.
    """
    model = ViT(CONFIG, rngs=nnx.Rngs(0))
    side = SIZE // CONFIG.patch_size
    model.positions[...] = sine_positions(side, CONFIG.hidden_size)

    def batch(chosen: Sequence[Scene], rng: np.random.Generator, step: int) -> Batch:
        return _batch(chosen, min(step / (WARM_UP * schedule.steps), 1.0), rng)

    fit(model, target.loss, batches(scenes, 3, schedule, batch), schedule, directory)
    return model


def _batch(scenes: Sequence[Scene], reach: float, rng: np.random.Generator) -> Batch:
    patch = CONFIG.patch_size
    size = patch * round(SIZE / patch * (1 + reach) / 2)
    windows = [_window(scene, reach, rng) for scene in scenes]
    pairs = zip(scenes, windows, strict=True)
    pixels = [cut(scene, window, size, Image.Resampling.BILINEAR) for scene, window in pairs]
    return {"pixels": np.stack(pixels), "classes": np.array([scene.kind for scene in scenes])}


def _window(scene: Scene, reach: float, rng: np.random.Generator) -> Box:
    """A rectangle that holds the object, and each side's margin up to a share `reach` of it.

    At full reach, 1, it is drawn as for the other targets.
    """
    if reach == 1:
        return target.window(scene, rng)
    left, top, right, bottom = scene.box
    u = rng.uniform(0, reach, 4)
    x1, y1 = right + u[2] * (WIDTH - right), bottom + u[3] * (HEIGHT - bottom)
    return left * (1 - u[0]), top * (1 - u[1]), x1, y1


def build(
    schedule: Schedule, scenes: int, held_out: int, output: Path, checkpoints: Path
) -> dict[str, float]:
    """Train the network, write its folder and return its accuracy on validation scenes."""
    model = train(render_split("train", scenes), schedule, checkpoints)
    gate = target.accuracy(model, render_split("validation", held_out), PREPROCESS)
    names = [", ".join(names) for names in CLASSES.values()]
    save_vit(model, output, names)
    BitImageProcessorPil(
        size={"shortest_edge": RESIZED},
        crop_size={"height": SIZE, "width": SIZE},
        resample=Image.Resampling.BILINEAR,
        image_mean=PREPROCESS.mean,
        image_std=PREPROCESS.std,
    ).save_pretrained(output)
    return {"accuracy": gate}
