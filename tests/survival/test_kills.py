"""Killed at any write of any stage, a run goes on and ends as if nobody had disturbed it."""

from collections import Counter

import pytest

from tests.survival.victim import STAGES, account, die_often, results, undisturbed

KILLS = 32


@pytest.fixture(scope="module")
def runs(tmp_path_factory, networks):
    """A run that nobody disturbs, and some that are killed again and again."""
    folder = tmp_path_factory.mktemp("survival")
    expected = undisturbed(folder / "undisturbed", networks.clip)
    return expected, die_often(folder, networks.clip, KILLS)


def test_the_results_are_the_same_bit_for_bit(runs):
    expected, folders = runs
    assert "concepts.jsonl" in expected
    for folder in folders:
        assert results(folder) == expected


def test_every_stage_was_hit(runs):
    kills = sum((account(folder)[2] for folder in runs[1]), Counter())
    assert sum(kills.values()) == KILLS
    assert set(kills) >= set(STAGES)


def test_no_shard_is_computed_twice_but_the_one_in_flight(runs):
    for folder in runs[1]:
        begun, ended, kills = account(folder)
        assert set(ended.values()) == {1}, ended
        assert set(ended) <= set(begun)  # a kill may come between a commit and the note of it
        assert sum(begun.values()) - len(begun) <= sum(kills.values())
