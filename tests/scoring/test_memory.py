"""Concepts on disk: far less memory than all scores would take, 4 GiB for half a million."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

PROGRAM = """
import sys
import numpy as np

from jaxdesc import scoring
from jaxdesc.runtime import memory
from jaxdesc.benchmark.features import made_up, unit
from jaxdesc.similarity import t_vmf_difference

WIDTH, path = 64, sys.argv[1]
CONCEPTS, NEURONS = map(int, sys.argv[2:])
rng = np.random.default_rng(0)
stored = np.lib.format.open_memmap(path, "w+", np.float32, (CONCEPTS, WIDTH))
cone = 2 * rng.normal(size=WIDTH)
for start in range(0, CONCEPTS, 50_000):
    noise = rng.standard_normal((50_000, WIDTH), np.float32)
    stored[start : start + 50_000] = unit(cone + noise)
stored.flush()
del stored
texts = np.load(path, mmap_mode="r")
some = np.asarray(texts[:5000])
arrays = made_up("narrow", some, unit(some[:99].mean(axis=0)), NEURONS, 8, 1024)
options = {"kappa": 16.0, "alpha": 0.95}
views, rows = arrays.images, arrays.exemplars
found = scoring.discover(views, rows, texts, arrays.base, **options)
judged = range(0, NEURONS, 31)  # of all classes
best = np.array([found.of(neuron)[0][0] for neuron in judged])
for neuron in judged:
    with_concepts = np.asarray(texts[: CONCEPTS // 2]) @ views[rows[neuron]].T
    with_base = views[rows[neuron]] @ arrays.base
    scores = t_vmf_difference(with_concepts, with_base[None], np.float32(16)).mean(axis=1)
    assert found.maximum[neuron] >= scores.max() - 1e-6
assert best.max() > CONCEPTS // 2
print(memory.peak())
"""


@pytest.mark.full
@pytest.mark.parametrize(
    ("concepts", "neurons", "most"),
    [(200_000, 1024, 600 * 2**20), (500_000, 2048, 2**30)],
)
def test_memory_stays_far_below_all_scores(concepts, neurons, most, tmp_path):
    arguments = [tmp_path / "texts.npy", concepts, neurons]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < most < 4 * concepts * neurons
