"""The scoring engines, their sweeps, their memory, and the effect of bfloat16 features."""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdesc import scoring
from jaxdesc.benchmark.features import Arrays, cosines, made_up, unit
from jaxdesc.benchmark.timing import Job, Table, timed
from jaxdesc.exemplars import Slots
from jaxdesc.runtime import memory
from jaxdesc.runtime.compiler import jit, product
from jaxdesc.scoring.block import add_rows
from jaxdesc.scoring.certainty import certainty
from jaxdesc.scoring.discovery import EngineName

KAPPAS = (0.0, 0.5, 1.0, 4.0, 8.0, 16.0, 32.0, 64.0)
ALPHAS = (0.9, 0.95, 0.98)
ALPHA = 0.95
ENGINES: tuple[EngineName, ...] = ("full", "screened", "auto")
BLOCK = 512  # concepts of a product that is compiled like the engine's

Sizes = dict[str, Any]


def engines(arrays: Arrays, sizes: Sizes, kappa: float, repeats: int, rivals: Any) -> Table:
    """The engines and their rivals, as shares of the product of all images with all concepts."""
    selection = scoring.discover(*arrays, kappa, ALPHA)
    jobs = [
        bare(arrays),
        *(_engine(arrays, kappa, name) for name in ENGINES),
        Job("jaxdesc, certainty", lambda: certainty(*arrays, kappa, ALPHA, selection)),
    ]
    if rivals:
        check(rivals.scoring, arrays, kappa)
        jobs += _rivals(rivals.scoring, arrays, kappa)
    table = timed("Scoring", sizes | {"κ": kappa}, jobs, repeats, "the bare product")
    table.facts |= {f"cosine, {name}": value for name, value in cosines(arrays).items()}
    if rivals:
        names = [job.name for job in jobs if job.name.startswith("PyTorch")]
        best = min(names, key=table.median)
        for name in ENGINES:
            ratio = table.median(best) / table.median(f"jaxdesc, {name}")
            table.facts[f"{best}, of jaxdesc, {name}"] = ratio
    return table


def bare(arrays: Arrays) -> Job:
    """The product of all images with all concepts, nothing kept."""
    (images, width), concepts = arrays.images.shape, len(arrays.texts)
    placed = jnp.asarray(arrays.images)

    def run() -> None:
        done = []
        for start in range(0, concepts, BLOCK):
            done = [_product(placed, arrays.texts[start : start + BLOCK])]
        jax.block_until_ready(done)

    return Job("the bare product", run, operations=2.0 * images * width * concepts)


_product = jit(lambda images, texts: product(images, texts.T))


def _engine(arrays: Arrays, kappa: float, name: EngineName) -> Job:
    return Job(f"jaxdesc, {name}", lambda: scoring.discover(*arrays, kappa, ALPHA, engine=name))


def _rivals(rivals: Any, arrays: Arrays, kappa: float) -> list[Job]:
    def job(name: str, function: Callable[..., Any], *options: Any) -> Job:
        return Job(name, lambda: function(*arrays, kappa, *options))

    neurons = len(arrays.exemplars)
    part = arrays._replace(exemplars=arrays.exemplars[:1])
    some = arrays._replace(exemplars=arrays.exemplars[: max(1, neurons // 20)])
    return [
        job("PyTorch, distinct images, sparse", rivals.distinct, "sparse"),
        job("PyTorch, distinct images, bag", rivals.distinct, "bag"),
        job("PyTorch, compiled, sparse", rivals.compiled, "sparse"),
        job("PyTorch, compiled, bag", rivals.compiled, "bag"),
        Job(
            f"PyTorch, a neuron at a time (from {len(some.exemplars)} neurons)",
            lambda: rivals.batched(*some, kappa),
            scale=neurons / len(some.exemplars),
        ),
        Job("WWW's loop (from 1 neuron)", lambda: rivals.loop(*part, kappa), scale=neurons),
    ]


def check(rivals: Any, arrays: Arrays, kappa: float) -> None:
    """Compare every rival's scores of a few neurons with what is selected.

    Raises:
        AssertionError: they differ by more than rounding.
    """
    some = arrays._replace(exemplars=arrays.exemplars[:2], texts=arrays.texts[:4096])
    selection = scoring.discover(*some, kappa, ALPHA)
    for rival in (rivals.loop, rivals.batched, rivals.distinct, rivals.compiled):
        for neuron, row in enumerate(rival(*some, kappa)):
            chosen = [concept for concept, _ in selection.of(neuron)]
            known = [score for _, score in selection.of(neuron)]
            rounding = 1e-4 * abs(selection.maximum[neuron])
            assert np.allclose(row[chosen], known, rtol=1e-3, atol=rounding), rival
            least = max(selection.threshold[neuron], row.max() * ALPHA, 0)
            assert np.delete(row, chosen).max() <= least + rounding, rival


def sweeps(arrays: Arrays, sizes: Sizes, kappa: float, repeats: int) -> Table:
    """Several κ, α and numbers of exemplars in one pass, as shares of one of each."""
    most = arrays.exemplars.shape[1]
    counts = (most // 4, most // 2, most)
    views, rows, texts, base = arrays

    def job(
        name: str,
        kappas: Sequence[float],
        alphas: Sequence[float],
        counts: Sequence[int] = (most,),
        engine: EngineName = "auto",
    ) -> Job:
        slots = {count: Slots.full(rows[:, :count]) for count in counts}
        grid = kappas, alphas
        return Job(name, lambda: scoring.sweep(views, slots, texts, base, *grid, engine=engine))

    jobs = [
        job("one κ", (kappa,), (ALPHA,)),
        job("8 κ", KAPPAS, (ALPHA,)),
        job("8 κ × 3 α", KAPPAS, ALPHAS),
        job(f"8 κ × 3 α × {most // 2} and {most} exemplars", KAPPAS, ALPHAS, counts[1:]),
        job("8 κ × 3 α × 3 numbers of exemplars", KAPPAS, ALPHAS, counts),
        job("one κ, full", (kappa,), (ALPHA,), engine="full"),
        job("8 κ × 3 α × 3 numbers, full", KAPPAS, ALPHAS, counts, engine="full"),
    ]
    return timed("Sweeps", sizes | {"numbers of exemplars": counts}, jobs, repeats, "one κ")


def averaging(neurons: int, exemplars: int, repeats: int) -> list[Table]:
    """Three ways to average exemplars' rows of a block, by the number of images."""
    tables, rng = [], np.random.default_rng(0)
    for images in (256, 512, 1024, 2048, 8192):
        rows = jnp.asarray(rng.normal(size=(images, BLOCK)).astype(np.float32))
        chosen = jnp.asarray(rng.integers(0, images, (neurons, exemplars)), jnp.int32)
        selecting = jnp.zeros((neurons, images)).at[jnp.arange(neurons)[:, None], chosen].add(1)
        jobs = [
            Job(name, partial(lambda way, *inputs: jax.block_until_ready(way(*inputs)), *given))
            for name, *given in (
                ("gathered", _gathered, rows, chosen),
                ("selecting product", _selected, selecting, rows),
                ("segmented sum", _segmented, rows, chosen),
            )
        ]
        sizes = {"images": images, "neurons": neurons, "exemplars": exemplars, "block": BLOCK}
        tables.append(timed("Averaging exemplars", sizes, jobs, repeats, "gathered"))
    return tables


_gathered = jit(
    lambda rows, chosen: add_rows(jnp.zeros((len(chosen), rows.shape[1])), rows, chosen)
)
_selected = jit(lambda selecting, rows: product(selecting, rows))


@jit
def _segmented(rows: Any, chosen: Any) -> Any:
    neurons, exemplars = chosen.shape
    owners = jnp.repeat(jnp.arange(neurons), exemplars)
    return jax.ops.segment_sum(rows[chosen.ravel()], owners, neurons)


def rounded(arrays: Arrays, sizes: Sizes) -> Table:
    """Share of neurons whose concepts stay the same with features in bfloat16."""

    def half(features: Any) -> np.ndarray:
        return features.astype(jnp.bfloat16)

    views, rows, texts, base = arrays
    facts = {}
    for kappa in KAPPAS:
        exact = scoring.discover(*arrays, kappa, ALPHA)
        found = scoring.discover(half(views), rows, half(texts), half(base), kappa, ALPHA)
        pairs = [
            ([c for c, _ in exact.of(i)], [c for c, _ in found.of(i)]) for i in range(len(rows))
        ]
        same = np.mean([set(a) == set(b) for a, b in pairs])
        best = np.mean([a[:1] == b[:1] for a, b in pairs])
        facts[f"κ = {kappa:g}"] = f"same concepts {same:.1%}, same best concept {best:.1%}"
    return Table("Features in bfloat16", sizes, [], {}, facts=facts)


def on_disk(concepts: int, neurons: int, exemplars: int, width: int) -> Table:
    """Time and memory of concepts on disk, made up beforehand."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "concepts.npy"
        rows = np.lib.format.open_memmap(path, "w+", np.float32, (concepts, width))
        cone, step = 0.7 * rng.normal(size=width), 10_000
        for start in range(0, concepts, step):
            count = min(step, concepts - start)
            noise = rng.normal(size=(count, width)).astype(np.float32)
            rows[start : start + count] = unit(cone + noise)
        rows.flush()
        del rows
        texts = np.load(path, mmap_mode="r")
        base = unit(np.asarray(texts[:99]).mean(axis=0))
        some = np.asarray(texts[:20_000])
        arrays = made_up("narrow", some, base, neurons, exemplars, neurons * exemplars // 4)
        scoring.discover(*arrays, 16.0, ALPHA)  # compiles
        memory.reset_peak()
        arrays = arrays._replace(texts=texts)
        job = Job("jaxdesc", lambda: scoring.discover(*arrays, 16.0, ALPHA), items=concepts)
        sizes = {"concepts": concepts, "neurons": neurons, "width": width, "κ": 16}
        table = timed("Concepts on disk", sizes, [job], 1)
        table.facts["most resident memory, GiB"] = memory.peak() / 2**30
        table.facts["all scores would take, GiB"] = 4 * concepts * neurons / 2**30
    return table
