"""Training that all networks of the embedded world share: seeded and resumable."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import orbax.checkpoint as ocp
from flax import nnx
from jaxtyping import Float
from PIL import Image
from tqdm import tqdm

from jaxdesc.scenes.world import Scene, render

Batch = dict[str, np.ndarray]
Loss = Callable[[Any, Any, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]


@dataclass(frozen=True)
class Schedule:
    """Steps and rates of training: AdamW, linear warm-up, cosine decay to zero.

    With `muon`, its peak rate, that optimiser steps the matrices instead (Jordan et al., "Muon",
    2024), and AdamW everything else.
    """

    steps: int
    batch: int
    learning_rate: float = 1e-3
    muon: float = 0.0
    weight_decay: float = 0.05
    save_every: int = 500

    def optimiser(self) -> optax.GradientTransformation:
        """Build the optax transformation; only matrices decay."""
        clip, decay = optax.clip_by_global_norm(1.0), self.weight_decay
        rate = self._rate(self.learning_rate)
        if self.muon:
            muon = optax.contrib.muon(
                self._rate(self.muon), adam_learning_rate=rate, adam_b2=0.98, weight_decay=decay
            )
            return optax.chain(clip, muon)
        matrices = partial(jax.tree.map, lambda param: param.ndim > 1)
        return optax.chain(clip, optax.adamw(rate, b2=0.98, weight_decay=decay, mask=matrices))

    def _rate(self, peak: float) -> optax.Schedule:
        warm_up = max(1, self.steps // 20)
        return optax.warmup_cosine_decay_schedule(0.0, peak, warm_up, self.steps)


def render_split(split: str, count: int) -> list[Scene]:
    """Render the first `count` scenes of a split's world 0, kept in memory (37 kB per scene)."""
    return [render(split, 0, i) for i in tqdm(range(count), f"rendering {split}", mininterval=5)]


def cut(scene: Scene, window: Sequence[float], size: int, resample: int) -> np.ndarray:
    """Cut a box (left, top, right, bottom in pixels) out of a scene, as [size, size, 3] uint8."""
    box = (float(window[0]), float(window[1]), float(window[2]), float(window[3]))
    image = Image.fromarray(scene.pixels)
    return np.asarray(image.resize((size, size), Image.Resampling(resample), box=box))


def sine_positions(side: int, width: int) -> Float[jax.Array, "token width"]:
    """2-D sine–cosine positions after a zero row for the class token; trained as usual."""
    frequencies = 1.0 / 100 ** (np.arange(width // 4) / (width // 4))
    steps = np.arange(side)[:, None] * frequencies
    line = np.concatenate([np.sin(steps), np.cos(steps)], 1)
    rows = np.repeat(line, side, 0)
    columns = np.tile(line, (side, 1))
    grid = np.concatenate([rows, columns], 1)
    # At the scale of the patch embedding's initialisation: larger positions drown the pixels.
    return jnp.asarray(0.1 * np.concatenate([np.zeros((1, width)), grid]), jnp.float32)


def batches(
    scenes: Sequence[Scene],
    seed: int,
    schedule: Schedule,
    batch: Callable[[list[Scene], np.random.Generator, int], Batch],
) -> Callable[[int], Batch]:
    """Batch of each step, made of scenes that depend on the seed and the step alone."""

    def batch_of(step: int) -> Batch:
        rng = np.random.default_rng([seed, step])
        chosen = [scenes[i] for i in rng.integers(len(scenes), size=schedule.batch)]
        return batch(chosen, rng, step)

    return batch_of


def fit(
    model: nnx.Module,
    loss: Loss,
    batch_of: Callable[[int], Batch],
    schedule: Schedule,
    directory: Path,
) -> None:
    """Train the parameters of `model` in place, from the newest checkpoint in `directory` if any.

    `loss` is (model, batch, progress in [0, 1]) -> (scalar, metrics to print). A batch depends only
    on its step, so a resumed run gets the batches of an uninterrupted one.
    """
    model.train()
    optimiser = nnx.Optimizer(model, schedule.optimiser(), wrt=nnx.Param)

    @nnx.jit
    def step_(
        model: nnx.Module, optimiser: nnx.Optimizer, batch: Any, progress: jax.Array
    ) -> dict[str, jax.Array]:
        differentiate = nnx.value_and_grad(loss, has_aux=True)
        (value, metrics), gradients = differentiate(model, batch, progress)
        optimiser.update(model, gradients)
        return {"loss": value, **metrics}

    options = ocp.CheckpointManagerOptions(max_to_keep=1, create=True)
    with (
        ocp.CheckpointManager(directory.absolute(), options=options) as checkpoints,
        ThreadPoolExecutor(1) as ahead,
    ):
        first = _resume(checkpoints, model, optimiser)
        coming = ahead.submit(batch_of, first)
        began = time.monotonic()
        for step in range(first, schedule.steps):
            batch, done = coming.result(), step + 1
            coming = ahead.submit(batch_of, done)  # drawn while the device works
            metrics = step_(model, optimiser, batch, jnp.float32(step / schedule.steps))
            if done % 100 == 0 or done == schedule.steps:
                _report(done, schedule, metrics, (time.monotonic() - began) / (done - first))
            if done % schedule.save_every == 0 or done == schedule.steps:
                state = nnx.to_pure_dict(nnx.state((model, optimiser)))
                checkpoints.save(done, args=ocp.args.StandardSave(state))
                checkpoints.wait_until_finished()
    model.eval()


def _resume(checkpoints: ocp.CheckpointManager, model: nnx.Module, optimiser: nnx.Optimizer) -> int:
    latest = checkpoints.latest_step()
    if latest is None:
        return 0
    state = nnx.state((model, optimiser))
    shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, nnx.to_pure_dict(state))
    restored = checkpoints.restore(latest, args=ocp.args.StandardRestore(shapes))
    nnx.replace_by_pure_dict(state, restored)
    nnx.update((model, optimiser), state)
    print(f"resumed from step {latest}", flush=True)
    return latest


def _report(
    done: int, schedule: Schedule, metrics: dict[str, jax.Array], seconds_per_step: float
) -> None:
    numbers = ", ".join(f"{name} {float(value):.3f}" for name, value in metrics.items())
    left, rate = (schedule.steps - done) * seconds_per_step / 60, schedule.batch / seconds_per_step
    speed = f"{rate:.0f} samples/s, {left:.1f} min left"
    print(f"step {done}/{schedule.steps}: {numbers}; {speed}", flush=True)
