"""The networks and the pass over images, compared with PyTorch's, and the floor of every stage."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxdesc import scoring
from jaxdesc.attention import attention_maps
from jaxdesc.benchmark.features import Arrays
from jaxdesc.benchmark.scoring import ALPHA, bare
from jaxdesc.benchmark.timing import Job, Table, timed
from jaxdesc.images.example import Example, Source
from jaxdesc.models.encoder import Namer
from jaxdesc.models.target import LOGITS, Target
from jaxdesc.runtime.compiler import jit, product
from jaxdesc.runtime.traced import operations


class Networks(NamedTuple):
    """The networks to time, and the folders from which rivals read the same weights."""

    target: Target
    clip: Namer
    target_folder: Path
    clip_folder: Path


def networks(loaded: Networks, batch: int, repeats: int, rivals: Any) -> list[Table]:
    """Activations, Grad-CAM and CLIP's image tower in images/s; `rivals` is the package or None."""
    target, clip, rng = loaded.target, loaded.clip, np.random.default_rng(0)
    views = _views(rng, batch, target.preprocess.size)
    pixels = np.asarray(target.preprocess.normalise(views))
    wide = _views(rng, batch, clip.preprocess.size)
    wide_pixels = np.asarray(clip.preprocess.normalise(wide))
    sides = {
        "Target: logits": {"jaxdesc": lambda: target.activations(pixels)},
        "Grad-CAM": {"jaxdesc": lambda: attention_maps(target, pixels)[0]},
        "CLIP's image tower": {"jaxdesc": lambda: clip.encode_images(wide_pixels)},
    }
    if rivals:
        placed = rivals.resnet.placed
        for title, others in _rivals(rivals, loaded, placed(pixels), placed(wide_pixels)).items():
            ours = sides[title]["jaxdesc"]()
            for theirs in others.values():
                _agree(theirs(), ours)
            sides[title] |= others
    sizes = {"target": target.name, "CLIP": clip.name, "batch": batch, "px": views.shape[1]}
    return [
        timed(title, sizes, [_job(*side, batch) for side in named.items()], repeats, "jaxdesc")
        for title, named in sides.items()
    ]


def _rivals(
    rivals: Any, loaded: Networks, pixels: Any, wide: Any
) -> dict[str, dict[str, Callable[[], Any]]]:
    """PyTorch's ways to compute each table's results."""
    resnet, clip = rivals.resnet, rivals.clip
    fused, plain = resnet.load_target(loaded.target_folder), resnet.load_plain(loaded.target_folder)
    tower = clip.load_clip(loaded.clip_folder)
    eager = clip.load_clip(loaded.clip_folder, fused=False)
    cams = {
        "PyTorch, oneDNN's operators, head alone": lambda: resnet.grad_cam(fused, pixels),
        "as pytorch-grad-cam, BatchNorm folded": lambda: resnet.grad_cam_hooks(fused, pixels),
        "as pytorch-grad-cam, as it comes": lambda: resnet.grad_cam_hooks(plain, pixels),
    }
    if resnet.package_available():
        cams["pytorch-grad-cam"] = lambda: resnet.grad_cam_package(plain, pixels, raw=True)
    return {
        "Target: logits": {"PyTorch, oneDNN's operators": lambda: fused.logits(pixels)},
        "Grad-CAM": cams,
        "CLIP's image tower": {
            "Hugging Face's CLIPModel": lambda: clip.image_features(eager, wide),
            "PyTorch, oneDNN's operators": lambda: clip.image_features(tower, wide),
        },
    }


def _views(rng: np.random.Generator, batch: int, size: int) -> np.ndarray:
    return rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8)


def _job(
    name: str, compute: Callable[[], Any], items: int, operations: float = 0, traffic: float = 0
) -> Job:
    return Job(name, lambda: jax.block_until_ready(compute()), items, operations, traffic)


def _agree(theirs: Any, ours: Any) -> None:
    ours = np.asarray(ours, np.float32)
    largest = np.abs(ours).max()
    assert np.allclose(np.asarray(theirs), ours, rtol=0, atol=1e-4 * largest), "other results"


class Repeated:
    """A source whose images are repeated, or cut off, to a given number."""

    def __init__(self, source: Source, count: int) -> None:
        self._source, self._count = source, count
        self.spec = f"{source.spec}, {count} images"
        self.has_boxes, self.has_labels = source.has_boxes, source.has_labels

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Example:
        """Decode an image, again if it is repeated."""
        return self._source[index % len(self._source)]

    def identify(self, index: int) -> str:
        """Name an image as its source does."""
        return self._source.identify(index % len(self._source))

    def fingerprint(self) -> str:
        """Hash of the source, and the number of images."""
        return f"{self._source.fingerprint()} {self._count}"


def _few(source: Source, batch: int) -> Source:
    """The fewest photos with the same shapes, for the first turn, which does not count."""
    from jaxdesc.images.loader import even

    return Repeated(source, min(2 * even(len(source), batch), len(source)))


def _activated(
    loaded: Networks, source: Source, batch: int, layers: Sequence[str], view: str
) -> float:
    """Go over all images as `activate` does; return the device's idle share of the time."""
    # Not at the top: the networks can be timed without Grain and TensorStore.
    from jaxdesc.config import Config, CropConfig, ImagesConfig, ScoreConfig, TargetConfig
    from jaxdesc.stages.activate import activate_all
    from jaxdesc.stages.run import Inputs, Run
    from jaxdesc.store import Store
    from jaxdesc.vocabulary.vocabulary import Vocabulary

    config = Config(
        target=TargetConfig(layers=tuple(layers)),
        images=ImagesConfig(source=source.spec, batch=batch),
        crop=CropConfig(view=view),
        score=ScoreConfig(exemplars=1),
    )
    inputs = Inputs(loaded.target, loaded.clip, source, Vocabulary((), "none"), loaded.clip)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(config, inputs, Store(Path(folder)), quiet=True)
        activate_all(run, (view,))
        return run.idle["activate"]


def layers(
    loaded: Networks, source: Source, names: Sequence[str], batch: int, repeats: int
) -> list[Table]:
    """The pass over all images for some layers, next to one for the last of them alone."""
    jobs = {"one layer": names[-1:], f"{len(names)} layers": names}
    sizes = {"photos": len(source), "target": loaded.target.name, "batch": batch}

    def job(name: str, view: str) -> Job:
        turns = iter([_few(source, batch)])
        asked = batch, jobs[name], view
        return Job(name, lambda: _activated(loaded, next(turns, source), *asked), len(source))

    return [
        timed(
            f"Photos to activations of several layers, {view} windows",
            sizes | {"layers": ", ".join(names)},
            [job(name, view) for name in jobs],
            repeats,
            "one layer",
        )
        for view in ("attention", "centre")
    ]


def probe(loaded: Networks, source: Source, batch: int, repeats: int, rivals: Any) -> Table:
    """The pass over all images: photos to activations on attention windows."""
    idle: list[float] = []
    few = _few(source, batch)
    turns, rival_turns = iter([few]), iter([few])

    def ours() -> None:
        asked = next(turns, source), batch, (LOGITS,), "attention"
        idle.append(_activated(loaded, *asked))

    jobs = [Job("jaxdesc", ours, len(source))]
    if rivals:
        target = rivals.resnet.load_target(loaded.target_folder)
        other = rivals.pipeline.Networks(target, loaded.target.preprocess, None, None)

        def theirs() -> Any:
            return rivals.pipeline.probe(other, next(rival_turns, source), batch)

        jobs.append(Job("PyTorch", theirs, len(source)))
    sizes = {"photos": len(source), "target": loaded.target.name, "batch": batch}
    table = timed("Photos to activations, attention windows", sizes, jobs, repeats, "jaxdesc")
    table.facts["device idle, share of the pass"] = float(np.median(idle[1:]))
    return table


OF_CLASS = "windows of the class"
WINDOWS: dict[str, dict[str, Any]] = {
    OF_CLASS: {},
    "windows of units, ranked by image": {"of": "unit", "rank": "image"},
    "windows of units, ranked by window": {"of": "unit"},
}


def windows(
    loaded: Networks,
    source: Source,
    names: Sequence[str],
    exemplars: int,
    batch: int,
    repeats: int,
) -> list[Table]:
    """Photos to the encoded windows of each unit's exemplars, by what the windows are of.

    A table for each layer. All that a run does before scoring is timed.
    """
    from jaxdesc.config import (
        ClipConfig,
        Config,
        CropConfig,
        ImagesConfig,
        ScoreConfig,
        TargetConfig,
    )
    from jaxdesc.pipeline import run_networks
    from jaxdesc.stages.run import Inputs, Run
    from jaxdesc.store import Store
    from jaxdesc.vocabulary.vocabulary import Vocabulary

    # A run of classes with names would encode these too.
    target, one = replace(loaded.target, classes=()), Vocabulary(("thing",), "thing")

    def go(layer: str, crop: Mapping[str, Any], rows: list[int], source: Source) -> None:
        config = Config(
            target=TargetConfig(layer=layer),
            clip=ClipConfig(batch=batch),
            images=ImagesConfig(source=source.spec, batch=batch),
            crop=CropConfig(**crop),
            score=ScoreConfig(exemplars=exemplars),
        )
        inputs = Inputs(target, loaded.clip, source, one, loaded.clip)
        with tempfile.TemporaryDirectory() as folder:
            seen = run_networks(Run(config, inputs, Store(Path(folder)), quiet=True))
            rows.append(len(seen.embedded.read("rows")))

    def turn(go: Callable[[Source], None], turns: Iterator[Source]) -> None:
        go(next(turns, source))

    tables = []
    for layer in names:
        jobs: list[Job] = []
        encoded: dict[str, list[int]] = {}
        for name, crop in WINDOWS.items():
            turns = iter([_few(source, batch)])
            rows = encoded.setdefault(name, [])
            asked = partial(go, layer, crop, rows)
            jobs.append(Job(name, partial(turn, asked, turns), len(source)))
        sizes = {"photos": len(source), "target": target.name, "CLIP": loaded.clip.name}
        sizes |= {"layer": layer, "units": target.shapes[layer][-1], "exemplars": exemplars}
        table = timed(
            "Photos to encoded windows", sizes | {"batch": batch}, jobs, repeats, OF_CLASS
        )
        table.facts |= {f"{name}, encoded": rows[-1] for name, rows in encoded.items()}
        tables.append(table)
    return tables


def reading(source: Source, repeats: int) -> Table:
    """Photos per second that are decoded and cut for attention windows, without a network."""
    from jaxdesc.config import CropConfig
    from jaxdesc.images.loader import rate
    from jaxdesc.images.preprocess import PRESETS
    from jaxdesc.images.views import preparing

    prepare = preparing(PRESETS["imagenet_v2"], source, CropConfig(), ["attention"])
    cores = os.cpu_count() or 1
    workers = [0, *(2**power for power in range(cores.bit_length()) if 2**power <= cores)]
    rates: dict[int, list[float]] = {count: [] for count in workers}
    for _ in range(repeats):
        for count in workers:
            rates[count].append(rate(source, prepare, count))
    sizes = {"photos": len(source), "cores": cores, "repeats": repeats}
    facts = {f"images.workers={count}": float(np.median(rates[count])) for count in workers}
    return Table("Photos per second, decoded and cut", sizes, [], {}, facts=facts)


def roofline(loaded: Networks, arrays: Arrays, batch: int, repeats: int) -> Table:
    """Time of each stage, as a multiple of the least that its arithmetic or traffic takes.

    The rates for that floor are measured too: a large float32 product, and an addition in place.
    """
    target, clip, rng = loaded.target, loaded.clip, np.random.default_rng(0)
    views = _views(rng, batch, target.preprocess.size)
    wide = _views(rng, batch, clip.preprocess.size)
    texts = [f"A photo of a {word}" for word in made_up_words(rng, 512)]
    forward = operations(target.logits, np.zeros(views.shape, np.float32))
    image = operations(clip.encode_images, np.zeros(wide.shape, np.float32))
    text = operations(partial(clip.texts, clip.params), np.zeros((len(texts), 8), np.int32))
    weights, clip_weights = _bytes(target.params), _bytes(clip.params)
    neurons, width = len(arrays.exemplars), arrays.images.shape[1]
    concepts, read = len(arrays.texts), arrays.texts.nbytes
    full, screened = bare(arrays).operations, 2.0 * neurons * width * concepts
    engine = partial(scoring.discover, *arrays, 16.0, ALPHA)
    jobs = [
        _job("activate: Grad-CAM", partial(attention_maps, target, views), batch, forward, weights),
        _job("activate: view", lambda: target.activations(views), batch, forward, weights),
        _job("embed: image tower", lambda: clip.encode_views(wide), batch, image, clip_weights),
        _job("encode: text tower", lambda: clip.encode_texts(texts), len(texts), text),
        _job("score: full", partial(engine, engine="full"), 0, full, read),
        _job("score: screened", partial(engine, engine="screened"), 0, screened, read),
    ]
    sizes = {"batch": batch, "neurons": neurons, "images": len(arrays.images), "concepts": concepts}
    table = timed("Roofline", sizes, jobs, repeats)
    table.rates = measured_rates(repeats)
    table.facts |= {
        "GFLOP/s of a large float32 product": table.rates[0] / 1e9,
        "GB/s read and written by an addition": table.rates[1] / 1e9,
    }
    return table


def measured_rates(repeats: int = 3) -> tuple[float, float]:
    """FLOP/s of a large float32 product on the default device, and bytes/s of an addition."""
    rates = [_arithmetic(), _copy()]
    best = timed("", {}, rates, repeats)
    return (
        rates[0].operations / best.median(rates[0].name),
        rates[1].traffic / best.median(rates[1].name),
    )


def made_up_words(rng: np.random.Generator, count: int) -> list[str]:
    """Made-up words of two syllables."""
    syllables = rng.choice([a + b for a in "bdfgklmnprst" for b in "aeiou"], (count, 2))
    return ["".join(pair) for pair in syllables.tolist()]


def _bytes(params: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(params))


def _arithmetic() -> Job:
    left, right = jnp.ones((8192, 512)), jnp.ones((512, 1024))
    multiply = jit(lambda a, b: product(a, b))
    return _job("a large product", lambda: multiply(left, right), 0, 2.0 * 8192 * 512 * 1024)


def _copy() -> Job:
    kept = [jnp.zeros(1 << 26)]

    def again() -> Array:
        kept[0] = _added(kept[0])
        return kept[0]

    return _job("an addition", again, 0, 0, 2 * kept[0].nbytes)


# In place: new memory costs more than writing to it.
_added = jax.jit(lambda values: values + 1, donate_argnums=0)
