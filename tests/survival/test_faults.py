"""What goes wrong on a machine: a full disk, a damaged file, two runs at once, a changed clock."""

import os
import shutil
import signal
import subprocess
import time

import pytest

from jaxdesc.store import Place
from jaxdesc.store.lock import Lock
from tests.survival.victim import (
    STAGES,
    Life,
    account,
    begin,
    launch,
    results,
    spend,
    undisturbed,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, networks):
    """A finished run's folder, and the bytes that it left."""
    folder = tmp_path_factory.mktemp("faults") / "finished"
    return folder, undisturbed(folder, networks.clip)


@pytest.fixture
def copy(finished, tmp_path):
    """A finished run of one's own, to do harm to."""
    (tmp_path / "programs").symlink_to(finished[0].parent / "programs")
    return shutil.copytree(finished[0], tmp_path / "own")


@pytest.fixture
def new(finished, tmp_path):
    """A folder for a run, with the programs compiled."""
    (tmp_path / "programs").symlink_to(finished[0].parent / "programs")
    (tmp_path / "own").mkdir()
    return tmp_path / "own"


def last(folder):
    return (folder / "log").read_text().splitlines()[-1]


def test_a_second_start_computes_nothing(copy, networks):
    before = {path: path.stat().st_mtime_ns for path in (copy / "run").rglob("*")}
    assert spend(Life(copy, networks.clip)) == 0
    assert last(copy) == "computed nothing"
    assert {path: path.stat().st_mtime_ns for path in (copy / "run").rglob("*")} == before


@pytest.mark.parametrize(
    "environment",
    [{"TZ": "Pacific/Kiritimati"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}],
    ids=str,
)
def test_another_clock_or_locale_changes_nothing(copy, networks, finished, environment):
    for path in (copy / "run").rglob("*"):
        os.utime(path, (0, 2**31))
    assert spend(Life(copy, networks.clip, environment=(*environment.items(),))) == 0
    assert last(copy) == "computed nothing"
    shutil.rmtree(copy / "run")
    assert spend(Life(copy, networks.clip, environment=(*environment.items(),))) == 0
    assert results(copy) == finished[1]


def test_files_that_are_too_large(new, networks, finished):
    """As on a full disk: it says so, keeps what was done, and goes on once there is room."""
    assert spend(Life(new, networks.clip, largest=1100)) == 2
    assert last(new).startswith(f"error {new}/run")
    assert "can't be written (File too large): make room and start again; what was" in last(new)
    _, ended, _ = account(new)
    assert spend(Life(new, networks.clip)) == 0
    assert results(new) == finished[1]
    again = account(new)[1]
    assert {shard: count for shard, count in again.items() if shard in ended} == dict(ended)


def mounted(folder, size):
    """A small disk where this machine lets one be mounted."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_a_full_disk(new, networks, finished):
    """Where no small disk can be mounted, files of few bytes stand in for it."""
    (new / "run").mkdir()
    small = mounted(new / "run", 40 << 10)
    try:
        for _ in range(2):
            code = spend(Life(new, networks.clip, largest=0 if small else 500))
            assert code == 2, last(new)
            reason = "No space left on device" if small else "File too large"
            assert f" can't be written ({reason}): make room and start again; " in last(new)
        if small:
            subprocess.run(["mount", "-o", "remount,size=8m", str(new / "run")], check=True)
        assert spend(Life(new, networks.clip)) == 0
        assert results(new) == finished[1]
        assert set(account(new)[1].values()) == {1}
    finally:
        if small:
            subprocess.run(["umount", str(new / "run")], check=True)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-2])


@pytest.mark.parametrize("harm", [flip, cut_short])
def test_damage_anywhere_is_mended(copy, networks, finished, harm):
    """One file of each stage; what comes after it need not be computed again."""
    for stage in STAGES:
        (folder,) = (copy / "run" / "artifacts").glob(f"{stage}-*")
        harm(a_chunk(folder))
    assert spend(Life(copy, networks.clip)) == 0
    assert last(copy) == "computed " + " ".join(sorted(STAGES))
    assert results(copy) == finished[1]
    begun, _, _ = account(copy)
    shards = [shard for shard, count in begun.items() if count == 2 and "whole" not in shard]
    assert len([shard for shard in shards if "activate" in shard]) == 1
    assert len([shard for shard in shards if "embed" in shard]) == 1


def a_chunk(folder):
    """The largest file of an array."""
    chunks = [path for path in folder.rglob("c/**/*") if path.is_file()]
    return max(chunks, key=lambda path: (path.stat().st_size, str(path)))


def test_two_runs_at_once(new, networks):
    lock = Lock(Place(new / "run" / "artifacts"))
    lock.acquire()
    assert spend(Life(new, networks.clip)) == 2
    assert last(new).startswith(f"error Another run is at work in {new}/run/artifacts (process ")
    assert f"(process {os.getpid()} on " in last(new)
    lock.release()
    assert spend(Life(new, networks.clip)) == 0


@pytest.fixture
def flags(networks, tmp_path, photos):
    """Flags of a small run on photos."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in photos[:8]:
        (folder / path.name).symlink_to(path)
    (tmp_path / "words.txt").write_text("star\nheart\nsky\n")
    return [
        "--config=configs/photos.py",
        "--quiet",
        f"--config.target.source={networks.target}",
        f"--config.clip.source={networks.clip}",
        f"--config.images.source=folder:{folder}",
        f"--config.vocabulary.source=file:{tmp_path / 'words.txt'}",
        "--config.images.batch=1",
        "--config.score.exemplars=3",
    ]


def test_a_request_to_stop(flags, tmp_path):
    """SIGTERM: the shard in flight is finished, and the same command goes on from there."""
    workdir, output = tmp_path / "run", tmp_path / "output"
    process = begin(launch, [*flags, f"--workdir={workdir}"], output)
    while not [*workdir.glob("artifacts/activate-*/shards/*")]:
        assert process.is_alive(), output.read_text()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == 143
    assert output.read_text().splitlines()[-2:] == [
        "stopping after the shard in flight",
        "stopped: what was finished is kept, and the same command goes on from there.",
    ]
    records = {path: path.stat().st_mtime_ns for path in workdir.rglob("shards/*.json")}
    chunks = [*workdir.glob("artifacts/activate-*/activations/c/*/0")]
    assert 1 <= len(records) == len(chunks) < 8
    before = {path: path.stat().st_mtime_ns for path in chunks}
    again = begin(launch, [*flags, f"--workdir={workdir}"], output)
    again.join(60)
    assert again.exitcode == 0, output.read_text()
    assert {path: path.stat().st_mtime_ns for path in chunks} == before
