"""Faults of a machine: a full disk, a damaged file, a changed clock, a request to stop."""

import os
import shutil
import signal
import subprocess
import time

import pytest

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
    """A finished run's folder, and the bytes of its files."""
    folder = tmp_path_factory.mktemp("faults") / "finished"
    return folder, undisturbed(folder, networks.clip)


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run, to harm."""
    (tmp_path / "programs").symlink_to(finished[0].parent / "programs")
    return shutil.copytree(finished[0], tmp_path / "copy")


@pytest.fixture
def new(finished, tmp_path):
    """A folder for a run, with the programs compiled."""
    (tmp_path / "programs").symlink_to(finished[0].parent / "programs")
    (tmp_path / "new").mkdir()
    return tmp_path / "new"


def last(folder):
    return (folder / "log").read_text().splitlines()[-1]


def test_a_second_start_computes_nothing_at_any_clock_and_locale(copy, networks):
    for path in (copy / "run").rglob("*"):
        os.utime(path, (0, 2**31))
    before = {path: path.stat().st_mtime_ns for path in (copy / "run").rglob("*")}
    environment = (("TZ", "Pacific/Kiritimati"), ("LC_ALL", "C"), ("PYTHONUTF8", "0"))
    assert spend(Life(copy, networks.clip, environment=environment)) == 0
    assert last(copy) == "computed nothing"
    assert {path: path.stat().st_mtime_ns for path in (copy / "run").rglob("*")} == before


@pytest.mark.full
def test_another_clock_and_locale_change_nothing(new, networks, finished):
    environment = (("TZ", "Pacific/Kiritimati"), ("LC_ALL", "C"), ("PYTHONUTF8", "0"))
    assert spend(Life(new, networks.clip, environment=environment)) == 0
    assert results(new) == finished[1]


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


@pytest.mark.full
def test_a_full_disk(new, networks, finished):
    (new / "run").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(new / "run")]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine does not let us mount a small disk")
    try:
        for _ in range(2):
            assert spend(Life(new, networks.clip)) == 2, last(new)
            assert " can't be written (No space left on device): make room and " in last(new)
        subprocess.run(["mount", "-o", "remount,size=8m", str(new / "run")], check=True)
        assert spend(Life(new, networks.clip)) == 0
        assert results(new) == finished[1]
        assert set(account(new)[1].values()) == {1}
    finally:
        subprocess.run(["umount", str(new / "run")], check=True)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_damage_anywhere_is_repaired(copy, networks, finished):
    """One file per stage; what comes after it need not be computed again."""
    for stage in STAGES:
        (folder,) = (copy / "run" / "artifacts").glob(f"{stage}-*")
        chunks = [path for path in folder.rglob("c/**/*") if path.is_file()]
        flip(max(chunks, key=lambda path: (path.stat().st_size, str(path))))
    assert spend(Life(copy, networks.clip)) == 0
    assert last(copy) == "computed " + " ".join(sorted(STAGES))
    assert results(copy) == finished[1]
    begun, _, _ = account(copy)
    shards = [shard for shard, count in begun.items() if count == 2 and "whole" not in shard]
    assert len([shard for shard in shards if "activate" in shard]) == 1
    assert len([shard for shard in shards if "embed" in shard]) == 1


def test_a_request_to_stop(networks, tmp_path, photos):
    """SIGTERM: the shard in flight is finished, and the same command goes on from there."""
    (tmp_path / "photos").mkdir()
    for path in photos[:8]:
        (tmp_path / "photos" / path.name).symlink_to(path)
    (tmp_path / "words.txt").write_text("star\nheart\nsky\n")
    workdir, output = tmp_path / "run", tmp_path / "output"
    flags = [
        "--config=configs/photos.py",
        "--quiet",
        f"--workdir={workdir}",
        f"--config.target.source={networks.target}",
        f"--config.clip.source={networks.clip}",
        f"--config.images.source=folder:{tmp_path / 'photos'}",
        f"--config.vocabulary.source=file:{tmp_path / 'words.txt'}",
        "--config.images.batch=1",
        "--config.score.exemplars=3",
    ]
    process = begin(launch, flags, output)
    while not [*workdir.glob("artifacts/activate-*/shards/*")]:
        assert process.is_alive(), output.read_text()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    process.join(300)
    assert process.exitcode == 143
    assert output.read_text().splitlines()[-2:] == [
        "stopping after the shard in flight",
        "stopped: what was finished is kept, and the same command goes on from there.",
    ]
    records = [*workdir.rglob("shards/*.json")]
    chunks = [*workdir.glob("artifacts/activate-*/activations/c/*/0")]
    assert 1 <= len(records) == len(chunks) < 8
    before = {path: path.stat().st_mtime_ns for path in chunks}
    again = begin(launch, flags, output)
    again.join(300)
    assert again.exitcode == 0, output.read_text()
    assert {path: path.stat().st_mtime_ns for path in chunks} == before
