"""A run's course as TensorBoard's scalars, written by tensorboardX, on this machine alone.

tensorboardX needs neither TensorFlow nor PyTorch; where PyTorch is installed it imports it.
"""

import time
from collections import Counter
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from jaxdesc.errors import InputError
from jaxdesc.runtime import memory
from jaxdesc.runtime.progress import Display, State
from jaxdesc.stages.run import Run

EVERY = 1.0  # seconds between two values
FLUSHED = 10  # seconds until what was written can be seen


class Scalars:
    """Keeps a record of a run: a `Listener`.

    throughput/STAGE (images or texts a second), memory_GiB/STAGE (most that was resident) and
    idle_share/STAGE (of the device) over what the stage has done in all passes; seconds/STAGE over
    the passes; metrics/NAME.

    Args:
        folder: where to; each start is a folder of its own there, a run in TensorBoard's words.

    Raises:
        InputError: tensorboardX is not installed.
    """

    def __init__(self, folder: Path):
        try:
            from tensorboardX import SummaryWriter  # an extra, for those who ask for it
        except ImportError as error:
            raise InputError(
                "--tensorboard writes with tensorboardX, which is not installed: run pip install "
                "'jaxdesc[tensorboard]', or leave the flag out."
            ) from error
        self.folder = folder / time.strftime("%Y-%m-%d_%H-%M-%S")
        # Nothing is written before there is something to tell: a run may be refused yet.
        self._open = cache(partial(SummaryWriter, str(self.folder), flush_secs=FLUSHED))
        self._done: Counter[str] = Counter()
        self._passes: Counter[str] = Counter()

    def display(self, run: Run, state: State) -> Display:
        """Follow the progress of a stage."""
        return _Follower(self, run, state)

    def progressed(self, run: Run, name: str, before: State, state: State) -> None:
        """Write what a stage does at present, from one state to another."""
        self._done[name] += state.done - before.done
        rate = (state.done - before.done) / max(state.seconds - before.seconds, 1e-9)
        self._write("throughput", name, rate, self._done[name])
        self._write("memory_GiB", name, memory.peak() / 2**30, self._done[name])
        if name in run.idle:
            self._write("idle_share", name, run.idle[name], self._done[name])

    def computed(self, run: Run, stage: str) -> None:
        """Write what a stage has taken up to now."""
        self._passes[stage] += 1
        self._write("seconds", stage, run.seconds[stage], self._passes[stage])
        if stage not in self._done:
            self._write("memory_GiB", stage, run.memory[stage] / 2**30, self._passes[stage])

    def measured(self, values: Mapping[str, Mapping[str, float]]) -> None:
        """Write the metrics' means, of `Result.metrics_dict`."""
        for name, value in values.items():
            self._write("metrics", name, value["mean"], 0)

    def close(self) -> None:
        """Write what is left."""
        if self._open.cache_info().currsize:
            self._open().close()

    def _write(self, kind: str, name: str, value: Any, step: int) -> None:
        self._open().add_scalar(f"{kind}/{name}", float(value), step)


class _Follower:
    """Hands a stage's states on, no more than one a second."""

    def __init__(self, scalars: Scalars, run: Run, state: State):
        self._scalars, self._run, self._told = scalars, run, state
        self._name = state.stage.split()[0]  # without the views

    def show(self, state: State) -> None:
        if state.seconds - self._told.seconds >= EVERY:
            self.close(state)

    def close(self, state: State) -> None:
        if state.done > self._told.done:
            self._scalars.progressed(self._run, self._name, self._told, state)
            self._told = state
