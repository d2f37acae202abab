"""A run's progress as TensorBoard scalars, written by tensorboardX to a local folder.

tensorboardX needs neither TensorFlow nor PyTorch; if PyTorch is installed, it imports it.
"""

import time
from collections import Counter
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path

from jaxdesc.errors import InputError
from jaxdesc.runtime import memory
from jaxdesc.runtime.progress import Display, State
from jaxdesc.stages.run import Run

EVERY = 1.0  # seconds between two values
FLUSHED = 10  # seconds until a value can be seen


class Scalars:
    """A `Listener` that records a run; each start has a subfolder, which is a run in TensorBoard.

    throughput/STAGE (images or texts/s), memory_GiB/STAGE (largest resident size) and
    idle_share/STAGE (of the device) over the items that the stage has done in all passes;
    seconds/STAGE over the passes; metrics/NAME.

    Raises:
        InputError: tensorboardX is not installed.
    """

    def __init__(self, folder: Path):
        try:
            from tensorboardX import SummaryWriter  # an optional dependency
        except ImportError as error:
            raise InputError(
                "--tensorboard writes with tensorboardX, which is not installed: run pip install "
                "'jaxdesc[tensorboard]', or leave the flag out."
            ) from error
        self.folder = folder / time.strftime("%Y-%m-%d_%H-%M-%S")
        # Nothing is written before the first value: the run may still be refused.
        self._open = cache(partial(SummaryWriter, str(self.folder), flush_secs=FLUSHED))
        self.done: Counter[str] = Counter()  # items of each stage, in all passes
        self._passes: Counter[str] = Counter()

    def display(self, run: Run, state: State) -> Display:
        """Follow the progress of a stage."""
        return _Follower(self, run, state)

    def computed(self, run: Run, stage: str) -> None:
        """Write the time that a stage has taken so far."""
        self._passes[stage] += 1
        self.write(f"seconds/{stage}", run.seconds[stage], self._passes[stage])
        if stage not in self.done:
            self.write(f"memory_GiB/{stage}", run.memory[stage] / 2**30, self._passes[stage])

    def measured(self, values: Mapping[str, Mapping[str, float]]) -> None:
        """Write the means of `Result.metrics_dict`."""
        for name, value in values.items():
            self.write(f"metrics/{name}", value["mean"], 0)

    def close(self) -> None:
        """Write what is left."""
        if self._open.cache_info().currsize:
            self._open().close()

    def write(self, tag: str, value: float, step: int) -> None:
        """Write one value."""
        self._open().add_scalar(tag, float(value), step)


class _Follower:
    """Display that writes a stage's states, at most one per second."""

    def __init__(self, scalars: Scalars, run: Run, state: State):
        self._scalars, self._run, self._last = scalars, run, state
        self._name = state.stage.split()[0]  # without the views

    def show(self, state: State) -> None:
        if state.seconds - self._last.seconds >= EVERY:
            self.close(state)

    def close(self, state: State) -> None:
        """Write the stage's values for the time since the last state."""
        scalars, name, done = self._scalars, self._name, state.done - self._last.done
        if not done:
            return
        scalars.done[name] += done
        rate = done / max(state.seconds - self._last.seconds, 1e-9)
        scalars.write(f"throughput/{name}", rate, scalars.done[name])
        scalars.write(f"memory_GiB/{name}", memory.peak() / 2**30, scalars.done[name])
        if name in self._run.idle:
            scalars.write(f"idle_share/{name}", self._run.idle[name], scalars.done[name])
        self._last = state
