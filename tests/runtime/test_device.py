import threading
from types import SimpleNamespace

import pytest

from jaxdesc.runtime import device
from jaxdesc.runtime.device import Watch, unwatched


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still, and a device whose programs take what their outputs say."""
    now = SimpleNamespace(time=0.0)
    done = threading.Event()

    def run(seconds):
        now.time += seconds
        done.set()

    monkeypatch.setattr(device.time, "perf_counter", lambda: now.time)
    monkeypatch.setattr(device.jax, "block_until_ready", run)
    now.finished = lambda: done.wait(5) and not done.clear()
    return now


def test_the_time_with_nothing_queued_is_counted(clock):
    watch = Watch()
    clock.time = 2  # idle until the first program
    assert watch(3) == 3
    assert clock.finished()
    clock.time += 4  # idle between two programs
    watch(1)
    assert clock.finished()
    clock.time += 10  # and idle until the end
    assert watch.share() == pytest.approx((2 + 4 + 10) / 20)
    assert unwatched("outputs") == "outputs"


def test_what_is_queued_before_the_last_one_is_done_is_not_idle(clock):
    watch = Watch()
    held, release = threading.Event(), threading.Event()

    def hold(seconds):
        held.set()
        release.wait(5)
        clock.time += seconds

    device.jax.block_until_ready = hold  # undone with the fixture's own change
    watch(3)
    assert held.wait(5)
    watch(1)  # at time 0, when 3 seconds were still to come
    release.set()
    assert (watch.share(), clock.time) == (0, 4)
