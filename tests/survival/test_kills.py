"""Killed at any write of any stage, a run goes on and ends as if nobody had disturbed it."""

from collections import Counter

import pytest

from tests.survival.victim import STAGES, account, die_often, results, undisturbed

MANY = 32


@pytest.mark.parametrize("kills", [3, pytest.param(MANY, marks=pytest.mark.full)])
def test_nothing_is_lost(kills, tmp_path, networks):
    expected = undisturbed(tmp_path / "undisturbed", networks.clip)
    assert "concepts.jsonl" in expected
    folders = die_often(tmp_path, networks.clip, kills)
    hit = Counter()
    for folder in folders:
        assert results(folder) == expected
        begun, ended, own_kills = account(folder)
        hit += own_kills
        # Only the shard in flight is computed again.
        assert set(ended.values()) == {1}, ended
        assert set(ended) <= set(begun)  # a kill may come between a commit and its line in the log
        assert sum(begun.values()) - len(begun) <= sum(own_kills.values())
    assert sum(hit.values()) == kills
    assert kills < MANY or set(hit) >= set(STAGES)
