"""Progress: when a log gets a line, what stands in it, and what a bar is told."""

import io
import re

import pytest

from jaxdesc.runtime import progress
from jaxdesc.runtime.progress import Bar, Lines, Progress, State


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told to go on."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


def run(clock, total, steps, delay=0.0, unit="img"):
    """A stage whose steps are (seconds, how many are done in them)."""
    with Progress(total, "look", [lambda state: Lines(state, delay)], unit) as bar:
        for seconds, count in steps:
            clock(seconds)
            bar.update(count)


def test_lines_tell_stage_count_share_rate_and_the_rest(clock, capsys):
    run(clock, 100, [(2, 10), (2, 30), (6, 60)])
    assert capsys.readouterr().err.splitlines() == [
        "look: 10/100 img (10 %), 5.0 img/s, 0:18 left",
        "look: 40/100 img (40 %), 10.0 img/s, 0:06 left",
        "look: 100/100 img in 10.0 s, 10.0 img/s",
    ]


def test_a_line_at_each_tenth_and_every_ten_seconds_and_no_two_within_one(clock, capsys):
    # A slow stage: a hundredth a second.
    run(clock, 100_000, [(1, 100)] * 25)
    shares = re.findall(r": (\d+)/100000 img \(", capsys.readouterr().err)
    assert shares == ["1000", "2000"]
    # A quick one: each step is a tenth, in a quarter of a second.
    run(clock, 40, [(0.25, 4)] * 10)
    assert re.findall(r": (\d+)/40 img \(", capsys.readouterr().err) == ["16", "32"]


def test_long_times_and_high_rates(clock, capsys):
    run(clock, 1_000_000, [(3700, 500_000), (3700, 500_000)], unit="text")
    assert capsys.readouterr().err.splitlines() == [
        "look: 500000/1000000 text (50 %), 135 text/s, 1:01:40 left",
        "look: 1000000/1000000 text in 2:03:20, 135 text/s",
    ]


def test_what_ends_early_says_so_and_what_is_over_at_once_says_nothing(clock, capsys):
    run(clock, 9, [(0.5, 3)])
    assert capsys.readouterr().err == "ended early: look: 3/9 img in 0.5 s, 6.0 img/s\n"
    run(clock, 9, [(0.5, 9)], delay=1.0)
    assert capsys.readouterr().err == ""


def test_nothing_done_is_no_division_by_zero(clock, capsys):
    run(clock, 0, [])
    clock(5)
    run(clock, 9, [(11, 0)])
    assert capsys.readouterr().err.splitlines() == [
        "look: 0/0 img in 0.0 s, 0.0 img/s",
        "look: 0/9 img (0 %), 0.0 img/s, ? left",
        "ended early: look: 0/9 img in 11.0 s, 0.0 img/s",
    ]


def test_a_bar_is_tqdms(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(progress, "tqdm", lambda **own: TQDM(file=stream, ncols=80, **own))
    with Progress(8, "look", [Bar]) as bar:
        bar.update(3)
        bar.update(5)
    assert re.search(r"\rlook: 100%\|#+\| 8/8 \[", stream.getvalue())


TQDM = progress.tqdm


def test_every_display_sees_every_state():
    seen = []

    class Keeps:
        def show(self, state):
            seen.append(state[:4])

        def close(self, state):
            seen.append(("over", *state[:4]))

    with Progress(3, "look", [lambda state: Keeps()] * 2) as bar:
        bar.update(2)
    one, two = ("look", "img", 3, 2), ("over", "look", "img", 3, 2)
    assert seen == [one, one, two, two]


def test_a_states_rest():
    assert State("look", "img", 10, 4, 2.0).left == pytest.approx(3.0)
    assert State("look", "img", 10, 0, 2.0).left == float("inf")
