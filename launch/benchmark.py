"""How long the engines take beside their rivals, on the same arrays in the same run.

    python -m launch.benchmark
    python -m launch.benchmark --rival=torch --neurons=1000 --images=25000 --concepts=67186

Prints a Markdown table and writes it as JSON: medians of alternating runs, and what they are of the
bare product of all images with all concepts. Rivals lie with the tests, so they need a checkout.
"""

import importlib
import json
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from tabulate import tabulate

from jaxdesc import scoring
from jaxdesc.compiler import jit, product
from jaxdesc.errors import InputError
from launch import command

_RIVAL = flags.DEFINE_enum("rival", None, ["torch"], "What to compare with.")
_FEATURES = flags.DEFINE_enum(
    "features", "narrow", ["narrow", "random"], "Images in a cone, near to their class; or none."
)
_TEXTS = flags.DEFINE_string("texts", None, "A .npy of text features, the base template's first.")
_NEURONS = flags.DEFINE_integer("neurons", 256, "Neurons.", 1)
_EXEMPLARS = flags.DEFINE_integer("exemplars", 40, "Exemplars of each.", 1)
_IMAGES = flags.DEFINE_integer("images", 6400, "Distinct images.", 1)
_CONCEPTS = flags.DEFINE_integer("concepts", 20_000, "Concepts.", 2)
_WIDTH = flags.DEFINE_integer("width", 512, "Width of the features.", 2)
_KAPPA = flags.DEFINE_float("kappa", 16, "Concentration.", 0)
_ALPHA = flags.DEFINE_float("alpha", 0.95, "Concept sensitivity.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "Runs of each.", 1)
_LOOP = flags.DEFINE_integer("loop_neurons", 2, "Neurons that WWW's loop is timed on.", 1)
_OUTPUT = flags.DEFINE_string("output", "out/benchmark.json", "The JSON file to write.")

# Of a product that is compiled like the engine's.
_BLOCK = 512


class Arrays(NamedTuple):
    """What every side gets."""

    images: np.ndarray
    exemplars: np.ndarray
    texts: np.ndarray
    base: np.ndarray


def main() -> None:
    """Time the scoring engines and, where asked for, their rivals."""
    arrays = _arrays(np.random.default_rng(0))
    jobs = {"bare product": lambda: _bare(arrays)} | _engines(arrays)
    rivals = importlib.import_module("tests.reference.torch_scoring") if _RIVAL.value else None
    if rivals:
        jobs |= _rivals(rivals, arrays)
    seconds = _alternating(jobs)
    if rivals:
        few = arrays._replace(exemplars=arrays.exemplars[: _LOOP.value])
        loop = _alternating({"WWW's loop": lambda: rivals.loop(*few, _KAPPA.value)}, 1)
        scale = len(arrays.exemplars) / len(few.exemplars)
        name = f"WWW's loop (× {scale:g}, from {len(few.exemplars)} neurons)"
        seconds[name] = scale * loop["WWW's loop"]
        _check(rivals.distinct(*few, _KAPPA.value), scoring.discover(*few, _KAPPA.value, _alpha()))
    _report(seconds, arrays)


def _alpha() -> float:
    return _ALPHA.value


def _engines(arrays: Arrays) -> dict[str, Callable[[], Any]]:
    names: tuple[Any, ...] = ("full", "screened", "auto")

    def job(engine: Any) -> Callable[[], Any]:
        return lambda: scoring.discover(*arrays, _KAPPA.value, _alpha(), engine=engine)

    return {f"jaxdesc, {name}": job(name) for name in names}


def _rivals(rivals: Any, arrays: Arrays) -> dict[str, Callable[[], Any]]:
    return {
        "PyTorch, a neuron at a time": lambda: rivals.batched(*arrays, _KAPPA.value),
        "PyTorch, distinct images, sparse": lambda: rivals.distinct(*arrays, _KAPPA.value),
        "PyTorch, distinct images, bag": lambda: rivals.distinct(*arrays, _KAPPA.value, "bag"),
    }


_product = jit(lambda images, texts: product(images, texts.T))


def _bare(arrays: Arrays) -> None:
    """The product of all images with all concepts, nothing kept."""
    images = jax.numpy.asarray(arrays.images)
    for start in range(0, len(arrays.texts) - _BLOCK + 1, _BLOCK):
        done = _product(images, arrays.texts[start : start + _BLOCK])
    jax.block_until_ready(done)


def _alternating(jobs: Mapping[str, Callable[[], Any]], repeats: int = 0) -> dict[str, float]:
    """Median seconds of each job; they take turns, so that a busy machine is busy for all."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range((repeats or _REPEATS.value) + 1):
        for name, job in jobs.items():
            began = time.perf_counter()
            job()
            if turn:  # the first one compiles
                times[name].append(time.perf_counter() - began)
    return {name: median(values) for name, values in times.items()}


def _arrays(rng: np.random.Generator) -> Arrays:
    width, neurons, count = _WIDTH.value, _NEURONS.value, _IMAGES.value
    if _TEXTS.value:
        features = np.load(_TEXTS.value, allow_pickle=False)[: _CONCEPTS.value + 1]
        base, texts = features[0], features[1:]
    else:
        features = _unit(0.7 * rng.normal(size=width) + rng.normal(size=(_CONCEPTS.value, width)))
        base, texts = _unit(features[:99].mean(axis=0)), features
    if _FEATURES.value == "random":
        images = _unit(rng.normal(size=(count, texts.shape[1])))
        return Arrays(images, rng.integers(0, count, (neurons, _EXEMPLARS.value)), texts, base)
    return Arrays(*_classes(rng, texts), texts, base)


def _classes(rng: np.random.Generator, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images with a pretrained CLIP's cosines: 0.7 in a class, 0.4 beyond, 0.3 to the own concept.

    Each is a sum of one direction of all images, the mean concept, its class's own concept and
    direction, and noise, half of it in 48 directions. A neuron's exemplars are of one class.
    """
    width, neurons, wanted = texts.shape[1], _NEURONS.value, _EXEMPLARS.value
    each = max(wanted, -(-_IMAGES.value // neurons))
    mean = _unit(texts.mean(axis=0))
    own = _unit(texts[rng.integers(0, len(texts), neurons)] - texts.mean(axis=0))
    shared = _unit(rng.normal(size=width))
    own_direction = _unit(rng.normal(size=(neurons, width)))
    few = rng.normal(size=(48, width))
    classes = np.arange(neurons * each) // each
    noise = _unit(rng.normal(size=(len(classes), 48)) @ few)
    noise = 0.7 * noise + 0.7 * _unit(rng.normal(size=(len(classes), width)))
    centre = 0.6 * shared + 0.2 * mean + 0.17 * own + 0.45 * own_direction
    images = _unit(centre[classes] + 0.55 * noise)
    rows = np.arange(neurons)[:, None] * each + rng.random((neurons, each)).argsort(axis=1)
    used, places = np.unique(rows[:, :wanted], return_inverse=True)
    return images[used], places.reshape(neurons, wanted)


def _unit(features: Any) -> np.ndarray:
    return (features / np.linalg.norm(features, axis=-1, keepdims=True)).astype(np.float32)


def _check(scores: np.ndarray, selection: scoring.Selection) -> None:
    """Compare a rival's scores with the selection."""
    for neuron, row in enumerate(scores):
        chosen = [concept for concept, _ in selection.of(neuron)]
        known = [score for _, score in selection.of(neuron)]
        rounding = 1e-4 * abs(selection.maximum[neuron])
        assert np.allclose(row[chosen], known, rtol=1e-3, atol=rounding), "other scores"
        rest = np.delete(row, chosen)
        assert rest.max() <= max(selection.threshold[neuron], row.max() * _alpha(), 0) + rounding


def _report(seconds: Mapping[str, float], arrays: Arrays) -> None:
    where = {
        "device": f"{jax.devices()[0].device_kind}, {platform.processor() or platform.machine()}",
        "jax": jax.__version__,
        **({"torch": version("torch")} if _RIVAL.value else {}),
    }
    sizes = {
        "neurons": len(arrays.exemplars),
        "exemplars": arrays.exemplars.shape[1],
        "images": len(arrays.images),
        "concepts": len(arrays.texts),
        "width": arrays.texts.shape[1],
        "features": _FEATURES.value,
        "kappa": _KAPPA.value,
    }
    bare = seconds["bare product"]
    rows = [[name, f"{value:.3f}", f"{value / bare:.2f}"] for name, value in seconds.items()]
    print(", ".join(f"{name} {value}" for name, value in {**where, **sizes}.items()))
    head = ["scoring", "seconds", "of the bare product"]
    print(tabulate(rows, head, tablefmt="github", disable_numparse=True))
    path = Path(_OUTPUT.value)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**where, **sizes, "seconds": dict(seconds)}, indent=1) + "\n")
    except OSError as error:
        raise InputError(f"{path} can't be written ({error.strerror}): give --output.") from error


if __name__ == "__main__":
    command.run(main)
