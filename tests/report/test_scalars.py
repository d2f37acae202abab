"""TensorBoard's scalars, read from the file by its own format."""

import struct
import sys

import pytest
from tensorboardX.proto.event_pb2 import Event

from jaxdesc.errors import InputError
from jaxdesc.report.scalars import Scalars
from jaxdesc.runtime.progress import Progress, State
from jaxdesc.stages.run import Run


def read(folder):
    """Every scalar of the only file in a folder: {tag: [(step, value), ...]}.

    TFRecord: a length (uint64), its checksum (uint32), that many bytes, their checksum.
    """
    (path,) = folder.rglob("events.out.tfevents.*")
    content, found = path.read_bytes(), {}
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event, content = Event.FromString(content[12 : 12 + length]), content[16 + length :]
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


@pytest.fixture
def run():
    run = object.__new__(Run)  # without networks
    run.seconds, run.memory, run.idle = {"activate": 4.0, "score": 1.5}, {"score": 3 << 30}, {}
    return run


def test_rates_memory_and_idle_share_over_what_was_done(run, tmp_path):
    kept = Scalars(tmp_path)
    for passed in (0, 1):  # two probe sets
        state = State("activate centre, box", "img", 12, 0, 0.0)
        follower = kept.display(run, state)
        follower.show(state._replace(done=2, seconds=0.5))  # too soon
        follower.show(state._replace(done=8, seconds=2.0))
        run.idle["activate"] = 0.25
        follower.close(state._replace(done=12, seconds=4.0))
        kept.computed(run, "activate")
        run.seconds["activate"] += 1.0 + passed
    kept.computed(run, "score")
    kept.measured({"hit": {"mean": 0.75}})
    kept.close()
    found = read(tmp_path)
    assert found["throughput/activate"] == [(8, 4.0), (12, 2.0), (20, 4.0), (24, 2.0)]
    assert found["idle_share/activate"] == [(12, 0.25), (20, 0.25), (24, 0.25)]
    assert found["seconds/activate"] == [(1, 4.0), (2, 5.0)]
    assert found["seconds/score"] == [(1, 1.5)]
    assert found["memory_GiB/score"] == [(1, 3.0)]
    assert [step for step, _ in found["memory_GiB/activate"]] == [8, 12, 20, 24]
    assert all(0.01 < value < 1000 for _, value in found["memory_GiB/activate"])
    assert found["metrics/hit"] == [(0, 0.75)]
    assert len(found) == 7


def test_without_anything_to_tell_nothing_is_written(run, tmp_path):
    """Also if a stage has failed at once."""
    kept = Scalars(tmp_path)
    with (
        pytest.raises(OSError, match="full"),
        Progress(3, "embed", [lambda state: kept.display(run, state)]),
    ):
        raise OSError("full")
    kept.close()
    assert not list(tmp_path.iterdir())


def test_without_tensorboardx_there_is_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(
        InputError, match=r"not installed: run pip install 'jaxdesc\[tensorboard\]'"
    ):
        Scalars(tmp_path)
