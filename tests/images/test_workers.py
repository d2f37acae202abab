"""Images read by other processes: what they give, and how they end."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxdesc as jd
from jaxdesc.config import Config
from jaxdesc.errors import InputError, UnusableImage
from jaxdesc.images.folder import Folder
from jaxdesc.images.loader import batches, rate
from tests.plain_target import plain_target

ROOT = Path(__file__).parents[2]


@pytest.fixture
def source(tmp_path, rng):
    for index in range(21):
        pixels = rng.integers(0, 256, (9, 8 + index, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index:02d}.png")
    (tmp_path / "07.png").write_bytes(b"")
    return Folder(str(tmp_path))


def prepare(index, example):
    if index == 4:
        warnings.warn("Corrupt EXIF data", stacklevel=1)
    return index, np.asarray(example.image), {"mean": float(np.mean(example.image))}


def stand_in(index, error):
    return index, error.reason


def test_results_are_the_same_for_any_number_of_processes(source, capsys):
    expected = list(batches(source, range(21), prepare, 8, stand_in))
    said = capsys.readouterr().err
    assert said.splitlines() == ["warning of '04.png': Corrupt EXIF data"]
    assert expected[0][7] == (7, "is empty")
    found = list(batches(source, range(21), prepare, 8, stand_in, workers=2))
    assert [len(batch) for batch in found] == [8, 8, 5]
    for ours, theirs in zip(chain(*found), chain(*expected), strict=True):
        assert ours[0] == theirs[0]
        np.testing.assert_array_equal(ours[1], theirs[1])
        assert ours[2:] == theirs[2:]
    assert capsys.readouterr().err == said


@pytest.mark.full
def test_a_run_is_the_same_for_any_number_of_processes(source, clip, tmp_path):
    def run(workers, workdir):
        images = {"batch": 8, "max_skipped": 0.5, "workers": workers}
        found = jd.describe(
            plain_target(),
            clip,
            images=source,
            concepts=["red", "green", "blue"],
            exemplars=3,
            quiet=True,
            workdir=tmp_path / workdir,
            config=Config.from_dict({"images": images, "clip": {"batch": 4}}),
        )
        found.to_json(tmp_path / workdir / "found.jsonl")
        return (tmp_path / workdir / "found.jsonl").read_bytes(), found.fingerprints, found.skipped

    expected = run(0, "threads")
    assert run(1, "process") == expected
    assert [skipped.reason for skipped in expected[2]] == ["is empty"]
    assert run(1, "threads") == expected  # the number may change in a run that goes on


def test_an_error_reaches_the_run(source):
    with pytest.raises(UnusableImage, match=r"07\.png' is empty: repair or remove it") as error:
        list(batches(source, range(21), prepare, 8, workers=1))
    assert error.value.reason == "is empty"
    assert not multiprocessing.active_children()


def kill_itself(index, example):
    if index == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    return index


def test_a_process_that_was_killed_is_a_sentence(source):
    with pytest.raises(InputError, match=r"^A process that reads images of folder:.* has ended \("):
        list(batches(source, range(21), kill_itself, 4, stand_in, workers=1))


RUN = """
import json, multiprocessing, sys
from jaxdesc.images.folder import Folder
from jaxdesc.images.loader import batches
from tests.images.test_workers import prepare, stand_in

if __name__ == "__main__":
    for batch in batches(Folder(sys.argv[1]), [1] * 10**6, prepare, 4, stand_in, workers=1):
        print(json.dumps([child.pid for child in multiprocessing.active_children()]), flush=True)
"""


def is_running(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


@pytest.mark.full
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_the_run(source, tmp_path, stop):
    script = tmp_path / "run.py"
    script.write_text(RUN)
    command = [sys.executable, str(script), str(source.root)]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as run:
        started = json.loads(run.stdout.readline())
        assert len(started) == 1
        if stop == signal.SIGINT:  # as a terminal does
            os.killpg(run.pid, stop)
        else:
            run.send_signal(stop)
        run.stdout.close()
        run.wait(timeout=30)
    deadline = time.monotonic() + 20
    while any(map(is_running, started)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_rate_of_this_host(source):
    def sleep(index, example):
        time.sleep(0.05)

    found = rate(source, sleep, seconds=0.5)
    assert 10 * os.cpu_count() < found < 25 * os.cpu_count()
