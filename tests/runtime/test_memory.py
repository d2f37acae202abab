"""Peak memory, in a process of its own that holds nothing else."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

LARGE = 200 * 1024**2
# Without importing the package, which would hold more than what is measured here.
PROGRAM = f"""
import runpy
import numpy as np
memory = runpy.run_path("jaxdesc/runtime/memory.py")
print(memory["peak"]())
np.ones({LARGE}, np.uint8).sum()
print(memory["peak"]())
memory["reset_peak"]()
print(memory["peak"]())
"""


def test_the_peak_covers_freed_memory_until_it_is_reset():
    said = subprocess.check_output([sys.executable, "-c", PROGRAM], cwd=ROOT, text=True)
    before, high, after = map(int, said.split())
    assert before + LARGE * 0.9 < high < before + LARGE * 1.5
    if Path("/proc/self/clear_refs").exists():  # elsewhere nothing can reset it
        assert after < high - LARGE / 2
