"""Progress of a stage: a bar for a person, plain lines for a log, and any other display."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from tqdm import tqdm

EVERY = 10.0  # most seconds between two lines
TENTHS = 10  # parts of a stage after each of which a line is due
APART = 1.0  # fewest seconds between two lines


class State(NamedTuple):
    """Progress of a stage: how many of its items, counted in `unit`, are done since it began."""

    stage: str
    unit: str
    total: int
    done: int
    seconds: float


@runtime_checkable
class Display(Protocol):
    """Something that shows a stage's progress."""

    def show(self, state: State) -> None:
        """Show a state with more items done."""

    def close(self, state: State) -> None:
        """Show the state in which the stage ended, whole or not."""


class Bar:
    """tqdm's bar, after a delay in seconds; a shorter stage shows none."""

    def __init__(self, state: State, delay: float = 0.0):
        self._bar = tqdm(
            total=state.total, desc=state.stage, unit=state.unit, mininterval=0.5, delay=delay
        )

    def show(self, state: State) -> None:
        """Move the bar."""
        self._bar.update(state.done - self._bar.n)

    def close(self, _state: State) -> None:
        """Leave the bar at its last position."""
        self._bar.close()


class Lines:
    """Whole lines for a log, which a bar would fill with carriage returns.

    There is one at every tenth of the stage and at least every ten seconds, but no two within a
    second; the last one says how long the stage took:

        activate attention: 320/640 img (50 %), 52.1 img/s, 00:06 left
        activate attention: 640/640 img in 12.3 s, 52.1 img/s

    A stage that takes fewer seconds than `delay` gets no line.
    """

    def __init__(self, state: State, delay: float = 0.0):
        self._printed, self._delay = state, delay

    def show(self, state: State) -> None:
        """Print a line if one is due."""
        now, before = (TENTHS * s.done // max(s.total, 1) for s in (state, self._printed))
        since = state.seconds - self._printed.seconds
        if state.done < state.total and since >= (APART if now > before else EVERY):
            self._printed = state
            seconds = state.seconds * (state.total - state.done) / max(state.done, 1)
            left = tqdm.format_interval(seconds) if state.done else "?"
            share = 100 * state.done // max(state.total, 1)
            self._print(state, f" ({share} %)", f", {left} left")

    def close(self, state: State) -> None:
        """Print how long it took."""
        if state.seconds >= self._delay:
            short = state.seconds < 60
            took = f"{state.seconds:.1f} s" if short else tqdm.format_interval(state.seconds)
            self._print(state, f" in {took}", early=state.done < state.total)

    def _print(self, state: State, share: str, rest: str = "", early: bool = False) -> None:
        counted = f"{state.stage}: {state.done}/{state.total} {state.unit}"
        rate = state.done / max(state.seconds, 1e-9)
        speed = f"{rate:.{1 if rate < 100 else 0}f} {state.unit}/s"
        text = f"{'ended early: ' if early else ''}{counted}{share}, {speed}{rest}"
        print(text, file=sys.stderr, flush=True)


class Progress:
    """Count of a stage's finished items, which its displays show.

    `displays` make one display each, from the state in which nothing is done.
    """

    def __init__(
        self,
        total: int,
        stage: str,
        displays: Sequence[Callable[[State], Display]] = (),
        unit: str = "img",
    ):
        self._began = time.perf_counter()
        self._state = State(stage, unit, total, 0, 0.0)
        self._displays = [display(self._state) for display in displays]

    def update(self, count: int) -> None:
        """Count more items as done."""
        self._state = self._now(count)
        for display in self._displays:
            display.show(self._state)

    def _now(self, count: int = 0) -> State:
        passed = time.perf_counter() - self._began
        return self._state._replace(done=self._state.done + count, seconds=passed)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_error: Any) -> None:
        for display in self._displays:
            display.close(self._now())
