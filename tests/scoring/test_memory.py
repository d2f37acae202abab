"""Half a million concepts on disk and 2,048 neurons: all their scores would take 4 GiB."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
import numpy as np

from jaxdesc import scoring
from jaxdesc.runtime import memory
from jaxdesc.benchmark.features import made_up, unit
from jaxdesc.similarity import t_vmf_difference

CONCEPTS, NEURONS, WIDTH = 500_000, 2048, 64
path = sys.argv[1]
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
best = np.array([found.of(neuron)[0][0] for neuron in range(0, NEURONS, 128)])
for neuron in range(0, NEURONS, 128):
    with_concepts = np.asarray(texts[:200_000]) @ views[rows[neuron]].T
    with_base = views[rows[neuron]] @ arrays.base
    scores = t_vmf_difference(with_concepts, with_base[None], np.float32(16)).mean(axis=1)
    assert found.maximum[neuron] >= scores.max() - 1e-6
assert best.max() > 200_000
print(memory.peak())
"""


def test_memory_stays_far_below_all_scores(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path / "texts.npy")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2**30
