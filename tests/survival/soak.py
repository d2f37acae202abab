"""Kill a small run at random moments, many times, and look whether anything was lost.

    python -m tests.survival.soak --kills=300

Half of the kills come at a random write, half after a random time. It prints how many runs survived
how many kills, and fails where a result differs from an undisturbed run's by a single bit.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.conftest import build_networks
from tests.survival.victim import account, die_often, results, undisturbed


def main():
    """Kill, go on, compare, and tell."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clip = build_networks(folder).clip
        expected = undisturbed(folder / "undisturbed", clip)
        runs = []
        for by_clock in (False, True):
            own = folder / f"clock {by_clock}"
            own.mkdir()
            runs += die_often(own, clip, given.kills // 2, given.seed, by_clock)
        accounts = [account(run) for run in runs]
        kills = sum((own[2] for own in accounts), Counter())
        again = sum(sum(begun.values()) - len(begun) for begun, _, _ in accounts)
        shards = sum(len(begun) for begun, _, _ in accounts)
        wrong = [run for run in runs if results(run) != expected]
    print(f"{len(runs)} runs finished after {given.kills // 2 * 2} kills; at writes: {dict(kills)}")
    print(f"of {shards} shards, {again} were begun again: those in flight at a kill")
    lost = sum(map(len, expected.values())) * len(wrong)
    print(f"bytes lost: {lost}; {time.perf_counter() - began:.0f} s")
    if wrong:
        sys.exit(f"{len(wrong)} runs differ from an undisturbed one")


if __name__ == "__main__":
    # The server that processes are forked from imports this file's module by its own name.
    main()
