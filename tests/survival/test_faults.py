"""Kills at any write, a full disk, a damaged file, a changed clock: a run goes on from there."""

import os
import shutil
import subprocess
from collections import Counter

import pytest

from tests.survival.victim import STAGES, Life, account, die_often, results, spend

CLOCK = (("TZ", "Pacific/Kiritimati"), ("LC_ALL", "C"), ("PYTHONUTF8", "0"))
pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def finished(tmp_path_factory, networks):
    """Folder of a run that nobody disturbed, and the bytes of its files."""
    folder = tmp_path_factory.mktemp("faults") / "finished"
    folder.mkdir()
    assert spend(Life(folder, networks.clip)) == 0
    assert "concepts.jsonl" in results(folder)
    return folder, results(folder)


@pytest.fixture
def place(finished, tmp_path):
    """A folder for runs, next to the programs that the finished run has compiled."""
    (tmp_path / "programs").symlink_to(finished[0].parent / "programs")
    return tmp_path


@pytest.fixture
def copy(finished, place):
    """A copy of the finished run, to harm."""
    return shutil.copytree(finished[0], place / "copy")


@pytest.fixture
def new(place):
    (place / "new").mkdir()
    return place / "new"


def last(folder):
    return (folder / "log").read_text().splitlines()[-1]


@pytest.mark.parametrize(("kills", "by_clock"), [(32, False), (16, True)])
def test_killed_it_loses_nothing(kills, by_clock, place, networks, finished):
    stages = Counter()
    for folder in die_often(place, networks.clip, kills, by_clock=by_clock):
        assert results(folder) == finished[1]
        begun, ended, killed = account(folder)
        stages += killed
        # A kill may come between a commit and its line in the log.
        assert set(ended) <= set(begun)
        if not by_clock:  # only the shard in flight is computed again
            assert set(ended.values()) == {1}, ended
            assert sum(begun.values()) - len(begun) <= sum(killed.values())
    if not by_clock:
        assert sum(stages.values()) == kills
        assert set(stages) >= set(STAGES)


def test_a_second_start_computes_nothing_at_any_clock_and_locale(copy, networks):
    for path in (copy / "run").rglob("*"):
        os.utime(path, (0, 2**31))
    before = {path: path.stat().st_mtime_ns for path in (copy / "run").rglob("*")}
    assert spend(Life(copy, networks.clip, environment=CLOCK)) == 0
    assert last(copy) == "computed nothing"
    assert {path: path.stat().st_mtime_ns for path in (copy / "run").rglob("*")} == before


def test_another_clock_and_locale_change_nothing(new, networks, finished):
    assert spend(Life(new, networks.clip, environment=CLOCK)) == 0
    assert results(new) == finished[1]


def test_files_that_are_too_large(new, networks, finished):
    """A run says so, as on a full disk, keeps what was done, and goes on once there is room."""
    assert spend(Life(new, networks.clip, largest=1100)) == 2
    assert last(new).startswith(f"error {new}/run")
    assert "can't be written (File too large): make room and start again; what was" in last(new)
    _, ended, _ = account(new)
    assert spend(Life(new, networks.clip)) == 0
    assert results(new) == finished[1]
    again = account(new)[1]
    assert {shard: count for shard, count in again.items() if shard in ended} == dict(ended)


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
