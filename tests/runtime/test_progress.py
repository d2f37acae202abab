"""Progress: when a log gets a line, its text, and what a bar is given."""

import io
import re

import pytest

from jaxdesc.runtime import progress
from jaxdesc.runtime.progress import Bar, Lines, Progress

TQDM = progress.tqdm


def run(monkeypatch, total, steps, delay=0.0):
    """A stage whose steps are (seconds, items done in them)."""
    now = 1000.0
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now)
    with Progress(total, "look", [lambda state: Lines(state, delay)]) as bar:
        for seconds, count in steps:
            now += seconds
            bar.update(count)


@pytest.mark.parametrize(
    ("total", "steps", "lines"),
    [
        (
            100,
            [(2, 10), (2, 30), (6, 60)],
            [
                "look: 10/100 img (10 %), 5.0 img/s, 00:18 left",
                "look: 40/100 img (40 %), 10.0 img/s, 00:06 left",
                "look: 100/100 img in 10.0 s, 10.0 img/s",
            ],
        ),
        (
            10**6,
            [(3700, 500_000), (3700, 500_000)],
            [
                "look: 500000/1000000 img (50 %), 135 img/s, 1:01:40 left",
                "look: 1000000/1000000 img in 2:03:20, 135 img/s",
            ],
        ),
        (0, [], ["look: 0/0 img in 0.0 s, 0.0 img/s"]),
        (
            9,
            [(11, 0), (1, 3)],
            [
                "look: 0/9 img (0 %), 0.0 img/s, ? left",
                "look: 3/9 img (33 %), 0.2 img/s, 00:24 left",
                "ended early: look: 3/9 img in 12.0 s, 0.2 img/s",
            ],
        ),
    ],
    ids=["short", "long", "empty", "ended early"],
)
def test_lines(monkeypatch, capsys, total, steps, lines):
    run(monkeypatch, total, steps)
    assert capsys.readouterr().err.splitlines() == lines


@pytest.mark.parametrize(
    ("total", "steps", "printed"),
    [(100_000, [(1, 100)] * 25, ["1000", "2000"]), (40, [(0.25, 4)] * 10, ["16", "32"])],
    ids=["every ten seconds", "at tenths, a second apart"],
)
def test_lines_are_few(monkeypatch, capsys, total, steps, printed):
    run(monkeypatch, total, steps)
    assert re.findall(rf": (\d+)/{total} img \(", capsys.readouterr().err) == printed


def test_a_stage_shorter_than_the_delay_prints_nothing(monkeypatch, capsys):
    run(monkeypatch, 9, [(0.5, 9)], delay=1.0)
    assert capsys.readouterr().err == ""


def test_every_display_sees_every_state(monkeypatch):
    stream, seen = io.StringIO(), []
    monkeypatch.setattr(progress, "tqdm", lambda **kwargs: TQDM(file=stream, ncols=80, **kwargs))

    class Keeps:
        def __init__(self, state):
            pass

        def show(self, state):
            seen.append(state[:4])

        def close(self, state):
            seen.append(("over", *state[:4]))

    with Progress(8, "look", [Keeps, Bar, Keeps]) as bar:
        bar.update(3)
        bar.update(5)
    shown, whole = ("look", "img", 8, 3), ("look", "img", 8, 8)
    assert seen == [shown, shown, whole, whole, ("over", *whole), ("over", *whole)]
    assert re.search(r"\rlook: 100%\|#+\| 8/8 \[", stream.getvalue())
