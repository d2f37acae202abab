"""The peak of resident memory, in a process of its own, where nothing else comes and goes."""

import subprocess
import sys
from pathlib import Path

from jaxdesc.runtime import memory

ROOT = Path(__file__).parents[2]
LARGE = 200 * 1024**2
PROGRAM = f"""
import importlib.util
import numpy as np

# By itself, without the package, which would hold more than what is measured here.
spec = importlib.util.spec_from_file_location("memory", "jaxdesc/runtime/memory.py")
memory = importlib.util.module_from_spec(spec)
spec.loader.exec_module(memory)

print(memory.peak())
np.ones({LARGE}, np.uint8).sum()
print(memory.peak())
memory.reset_peak()
print(memory.peak())
"""


def test_the_peak_covers_what_was_let_go_until_it_is_reset():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
    )
    before, high, after = map(int, done.stdout.split())
    assert before + LARGE * 0.9 < high < before + LARGE * 1.5
    if Path("/proc/self/clear_refs").exists():  # elsewhere nothing can reset it
        assert after < high - LARGE / 2


def test_without_proc_the_whole_process_counts(monkeypatch):
    expected = memory.peak()

    def absent(*_):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", absent)
    monkeypatch.setattr(Path, "write_text", absent)
    memory.reset_peak()
    assert memory.peak() >= expected // 2
