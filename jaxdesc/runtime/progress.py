"""How far a stage has come: a bar for a person, plain lines for a log, and whoever else listens."""

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple, Protocol, runtime_checkable

from tqdm import tqdm

EVERY = 10.0  # seconds between two lines at most
TENTHS = 10  # a line at each tenth too,
APART = 1.0  # but no sooner after the last than this


class State(NamedTuple):
    """How far a stage has come.

    Attributes:
        stage: its name, and what of.
        unit: of what is counted.
        total: how many there are.
        done: how many of them are done.
        seconds: since it began.
    """

    stage: str
    unit: str
    total: int
    done: int
    seconds: float

    @property
    def rate(self) -> float:
        """How many a second."""
        return self.done / max(self.seconds, 1e-9)

    @property
    def left(self) -> float:
        """Seconds that the rest takes at this rate; infinity before the first is done."""
        return (self.total - self.done) / self.rate if self.done else float("inf")


@runtime_checkable
class Display(Protocol):
    """Something that shows a stage's progress."""

    def show(self, state: State) -> None:
        """Some more are done."""

    def close(self, state: State) -> None:
        """The stage has ended, whole or not."""


class Bar:
    """tqdm's bar.

    Args:
        state: with nothing done.
        delay: seconds before it appears: a stage that takes less shows none.
    """

    def __init__(self, state: State, delay: float = 0.0):
        self._bar = tqdm(
            total=state.total, desc=state.stage, unit=state.unit, mininterval=0.5, delay=delay
        )

    def show(self, state: State) -> None:
        """Move it."""
        self._bar.update(state.done - self._bar.n)

    def close(self, state: State) -> None:
        """Leave it where it is."""
        del state
        self._bar.close()


class Lines:
    """Whole lines, for where a bar would fill a log with carriage returns.

    One at every tenth of the stage and at least every ten seconds, but no two within a second; the
    last one says how long the stage took.

    Args:
        state: with nothing done.
        delay: a stage that takes fewer seconds gets no line.
    """

    def __init__(self, state: State, delay: float = 0.0):
        self._told, self._delay = state, delay

    def show(self, state: State) -> None:
        """Print a line where one is due."""
        since = state.seconds - self._told.seconds
        if state.done < state.total and since >= (APART if self._new_tenth(state) else EVERY):
            self._told = state
            print(line(state), file=sys.stderr, flush=True)

    def _new_tenth(self, state: State) -> bool:
        now, before = (TENTHS * own.done // max(own.total, 1) for own in (state, self._told))
        return now > before

    def close(self, state: State) -> None:
        """Print how long it took."""
        if state.seconds >= self._delay:
            print(last_line(state), file=sys.stderr, flush=True)


def line(state: State) -> str:
    """`activate attention: 320/640 img (50 %), 52.1 img/s, 0:06 left`."""
    share = 100 * state.done // max(state.total, 1)
    left = _clock(state.left) if state.done else "?"
    return f"{_counted(state)} ({share} %), {_rate(state)}, {left} left"


def last_line(state: State) -> str:
    """`activate attention: 640/640 img in 12.3 s, 52.1 img/s`; of a part, that it is one."""
    part = "" if state.done >= state.total else "ended early: "
    return f"{part}{_counted(state)} in {_took(state.seconds)}, {_rate(state)}"


def _counted(state: State) -> str:
    return f"{state.stage}: {state.done}/{state.total} {state.unit}"


def _rate(state: State) -> str:
    return f"{state.rate:.{1 if state.rate < 100 else 0}f} {state.unit}/s"


def _took(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else _clock(seconds)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress:
    """Counts what a stage has done, for every display of it.

    Args:
        total: how many there are to do.
        stage: its name.
        displays: makes each display from the state in which nothing is done.
        unit: of what is counted.
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
        self._displays = [make(self._state) for make in displays]

    def update(self, count: int) -> None:
        """So many more are done."""
        self._state = self._now(count)
        for display in self._displays:
            display.show(self._state)

    def _now(self, count: int = 0) -> State:
        passed = time.perf_counter() - self._began
        return self._state._replace(done=self._state.done + count, seconds=passed)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, error, trace
        for display in self._displays:
            display.close(self._now())
