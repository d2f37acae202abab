"""Latents of a dictionary: exemplars, concepts and certainty of tens of thousands of them."""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from scipy import sparse

from jaxdesc.benchmark.features import Arrays, made_up
from jaxdesc.benchmark.timing import Job, Table
from jaxdesc.config import ScoreConfig
from jaxdesc.exemplars import exemplars, find
from jaxdesc.result import Result
from jaxdesc.runtime import memory
from jaxdesc.stages.arrays import result

IMAGES = 1024  # of a batch
DEAD = 0.05  # share of the latents
# Share of the images on which the others fire: log-uniform, at most 1.8 % on average.
RAREST, COMMONEST = 10**-4.5, 10**-0.8
DENSE = 4096  # latents that the dense baseline takes


def batches(
    latents: int, images: int, each: int, seed: int = 0
) -> Iterator[Float32[sparse.csr_array, "image latent"]]:
    """Make up the latents of images in their order; each class has `each` images in a row.

    A latent fires on the images of its class, on as many as it fires on at all, and elsewhere at
    random and less.
    """
    rng = np.random.default_rng(seed)
    density = 10 ** rng.uniform(np.log10(RAREST), np.log10(COMMONEST), latents)
    density[rng.random(latents) < DEAD] = 0
    fires, classes = np.round(density * images), images // each
    home = rng.permutation(latents) % classes
    elsewhere = np.maximum(fires - each, 0)
    order = np.argsort(home, kind="stable")
    bounds = np.searchsorted(home[order], np.arange(classes + 1))
    for first in range(0, images, IMAGES):
        count = min(IMAGES, images - first)
        rng = np.random.default_rng([seed, first])
        own_rows, own = [], []
        for image in range(count):
            number, within = divmod(first + image, each)
            some = order[bounds[min(number, classes - 1)] : bounds[min(number, classes - 1) + 1]]
            some = some[fires[some] > within]
            own.append(some)
            own_rows.append(np.full(len(some), image))
        further = rng.poisson(elsewhere.sum() * count / images)
        drawn = rng.choice(latents, further, p=elsewhere / elsewhere.sum()) if further else []
        units = np.concatenate([*own, drawn]).astype(int)
        rows = np.concatenate([*own_rows, rng.integers(0, count, further)])
        values = rng.random(len(units)) + (np.arange(len(units)) < len(units) - further)
        found = sparse.coo_array((values.astype(np.float32), (rows, units)), (count, latents))
        yield found.tocsr()


def latents(
    texts: Float32[np.ndarray, "concept feature"],
    base: Float32[np.ndarray, "feature"],
    count: int,
    images: int,
    wanted: int,
) -> Table:
    """Time `count` latents on so many images, from activations on disk to their description.

    The exemplars of some of the latents are also found by NumPy, in a dense matrix. Compilation is
    part of it; resident memory is the most since the activations were made up.
    """
    arrays = made_up("narrow", texts, base, images // wanted, wanted, images)
    options, facts = ScoreConfig(exemplars=wanted), dict[str, Any]()
    seconds: dict[str, list[float]] = {}

    def timing(name: str, run: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        done = run()
        seconds[name] = [time.perf_counter() - began]
        return done

    with tempfile.TemporaryDirectory() as folder:
        paths, stored = [], 0
        for number, batch in enumerate(batches(count, len(arrays.images), wanted)):
            paths.append(Path(folder) / f"{number}.npz")
            sparse.save_npz(paths[-1], batch, compressed=False)
            stored += batch.nnz

        def read() -> Iterator[tuple[Any, np.ndarray]]:
            first = 0
            for path in paths:
                batch = sparse.load_npz(path)
                yield batch, np.arange(first, first + batch.shape[0])
                first += batch.shape[0]

        memory.reset_peak()
        found = timing("exemplars", lambda: find(read(), wanted, str))
        facts["most resident memory in search, GiB"] = memory.peak() / 2**30
        described = timing(
            "concepts, certainty, properties", lambda: _described(found, arrays, options)
        )
        facts["most resident memory, GiB"] = memory.peak() / 2**30
        few = min(DENSE, count)
        dense = np.concatenate([block[:, :few].toarray() for block, _ in read()])
        by_numpy = timing("NumPy, dense, some latents", lambda: _largest(dense, wanted))
        ours = timing("exemplars from dense, some latents", lambda: exemplars(dense, wanted))
    for unit in np.flatnonzero(ours.counts == wanted).tolist():
        assert set(by_numpy[:, unit]) == set(ours.images[unit])
    about: dict[str, Any] = {
        "activations above zero, millions": stored / 1e6,
        "dense, they would take, GiB": 4 * count * len(arrays.images) / 2**30,
        "latents of these some": few,
        "dead": sum("dead" in neuron.flags for neuron in described),
        "with a significant concept": sum(min(n.q, default=1.0) <= 0.05 for n in described),
    }
    facts |= about
    sizes: dict[str, Any] = {"latents": count, "images": len(arrays.images), "exemplars": wanted}
    sizes |= {"concepts": len(texts), "width": texts.shape[1], "κ": options.kappa}
    jobs = [Job(name, lambda: None) for name in seconds]
    return Table("Latents of a dictionary", sizes, jobs, seconds, facts=facts)


def _described(found: Any, arrays: Arrays, options: ScoreConfig) -> Result:
    names = list(map(str, range(len(arrays.images))))
    concepts = [f"concept {row}" for row in range(len(arrays.texts))]
    features = arrays.images, arrays.texts, arrays.base
    return result("latents", found, names, concepts, features, options)


def _largest(dense: Float32[np.ndarray, "image latent"], wanted: int) -> np.ndarray:
    """Images with the largest activations of each latent, as one writes it in NumPy."""
    largest = np.argpartition(dense, -wanted, axis=0)[-wanted:]
    order = np.argsort(-np.take_along_axis(dense, largest, axis=0), axis=0, kind="stable")
    return np.take_along_axis(largest, order, axis=0)
