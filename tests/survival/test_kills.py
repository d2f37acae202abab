"""Killed at any write or any time, a run goes on and ends as if nobody had disturbed it."""

from collections import Counter

import pytest

from tests.survival.victim import STAGES, account, die_often, results, undisturbed

full = pytest.mark.full


@pytest.mark.parametrize(
    ("kills", "by_clock"),
    [(3, False), pytest.param(32, False, marks=full), pytest.param(16, True, marks=full)],
)
def test_nothing_is_lost(kills, by_clock, tmp_path, networks):
    expected = undisturbed(tmp_path / "undisturbed", networks.clip)
    assert "concepts.jsonl" in expected
    stages = Counter()
    for folder in die_often(tmp_path, networks.clip, kills, by_clock=by_clock):
        assert results(folder) == expected
        begun, ended, killed = account(folder)
        stages += killed
        # A kill may come between a commit and its line in the log.
        assert set(ended) <= set(begun)
        if not by_clock:  # only the shard in flight is computed again
            assert set(ended.values()) == {1}, ended
            assert sum(begun.values()) - len(begun) <= sum(killed.values())
    if not by_clock:
        assert sum(stages.values()) == kills
        assert kills < 32 or set(stages) >= set(STAGES)
