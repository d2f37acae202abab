"""Every compiled program of a run, with the shapes that its config gives it.

The programs are the pipeline's own objects. They are lowered for any device (`runtime.chips`), to
see before a run what they need and whether they are what they should be.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdesc.attention.cams import CAMS, looking
from jaxdesc.attention.units import UNITS, known_at_once, looking_at_once, mapping_units
from jaxdesc.config import Config
from jaxdesc.images.loader import even
from jaxdesc.images.views import ATTENTION
from jaxdesc.images.windows import POSITIONS
from jaxdesc.models.encoder import Namer
from jaxdesc.models.target import LOGITS, Target
from jaxdesc.runtime.compiled import Compiled
from jaxdesc.runtime.mesh import Shapes, given
from jaxdesc.scoring import block, discovery, null, pairs, problem, screening, stability
from jaxdesc.similarity import SIMILARITIES
from jaxdesc.stages import latents
from jaxdesc.stages.run import settled
from jaxdesc.stages.select import candidates

# Rows and tokens of a batch of texts, and how many such batches there are.
Texts = Mapping[tuple[int, int], int]


@dataclass(frozen=True)
class Size:
    """The size of a run that its config does not give.

    Attributes:
        images: probe images.
        concepts: concepts of the vocabulary.
        prompts: batches of their prompts (`TextBatches.shapes`).
        views: distinct exemplars; 0 if each neuron has its own, up to all images, or to all places
            of windows of units.
        judged: batches of the texts that each judge of the concepts encodes, by its name.
    """

    images: int
    concepts: int
    prompts: Texts
    views: int = 0
    judged: Mapping[str, Texts] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    """One program of a run.

    Attributes:
        stage: of the pipeline; "score (full)" and "score (screened)" stand for the engines.
        name: what it computes.
        function: `jit` or `jax.jit`, and its first arguments.
        arguments: the other arguments, as shapes.
        calls: how often a run calls it, on all devices together.
        items: images, texts or concepts that a call works on.
        devices: how many share them.
    """

    stage: str
    name: str
    function: partial[Any]
    arguments: Sequence[Any]
    calls: int
    items: int
    devices: int = 1

    def trace(self) -> jax.stages.Traced:
        """Trace it for the devices of its arguments."""
        function: Any = self.function.func
        arguments = *self.function.args, *self.arguments
        traced: jax.stages.Traced = function.trace(*arguments, **self.function.keywords)
        return traced

    def lower(self) -> jax.stages.Lowered:
        """Lower it for the devices of its arguments."""
        return self.trace().lower()


def largest(program: Program, compiled: Compiled, memory: int) -> int:
    """Items per device with which a program would fill nine tenths of a device's memory."""
    arrays = jax.tree.leaves(program.arguments)
    given = sum(array.size * array.dtype.itemsize for array in arrays) / program.devices
    fixed = compiled.arguments - given  # weights
    each = (compiled.memory - fixed) * program.devices / program.items
    return int((0.9 * memory - fixed) / each)


def programs(
    config: Config,
    target: Target,
    namer: Namer,
    size: Size,
    devices: Sequence[jax.Device],
    judges: Mapping[str, Any] | None = None,
) -> list[Program]:
    """List the programs of a run on devices that share its batches, in the order of the stages.

    Weights may be shapes; `judges` are the encoders of `size.judged`. A stage that the config
    leaves out has no program. How many pairs are scored depends on the features: the least, one
    tile of them per neuron, is counted.
    """
    config, shapes = settled(config, target), Shapes(devices)
    target = replace(target, params=shapes.on_each(target.params), mesh=shapes.mesh)
    namer = replace(namer, params=shapes.on_each(namer.params), mesh=shapes.mesh)
    one = Shapes(devices[:1])  # for stages that one device computes
    # Layers of as many neurons have the same programs.
    counts = Counter(target.shapes[layer][-1] for layer in config.target.described)
    judged = [(name, (judges or {})[name], texts) for name, texts in size.judged.items()]
    width = _width(namer)

    def of_layers(list_programs: Callable[[int, Size], Iterator[Program]]) -> Iterator[Program]:
        for neurons, layers in counts.items():
            each = POSITIONS**2 if config.crop.units else 1
            most = min(size.images * each, neurons * config.score.exemplars)
            for program in list_programs(neurons, replace(size, views=size.views or most)):
                yield replace(program, calls=program.calls * layers)

    return [
        *_activate(config, target, size, shapes),
        *_look(config, target, size, len(devices)),
        *of_layers(lambda _, size: _embed(config, namer, size, len(devices))),
        *_texts("encode", "", namer, size.prompts, one),
        *(
            each
            for name, judge, texts in judged
            for each in _texts("words", name, judge, texts, one)
        ),
        *of_layers(lambda neurons, size: score_programs(config, neurons, width, size, shapes)),
        *of_layers(lambda neurons, size: _certainty(config, neurons, width, size, one)),
    ]


def _width(namer: Namer) -> int:
    """Width of the common space."""
    ids = given(1, namer.length, dtype=jnp.int32)
    width: int = jax.eval_shape(namer.texts, namer.params, ids).shape[1]
    return width


def _activate(config: Config, target: Target, size: Size, shapes: Shapes) -> Iterator[Program]:
    devices = len(shapes.devices)
    batch = even(size.images, config.images.batch) * devices
    side, calls = target.preprocess.size, -(-size.images // batch)
    pixels = given(batch, side, side, 3, dtype=jnp.uint8)
    if config.crop.first == ATTENTION:
        compute, layer = CAMS[config.crop.cam].compute, target.attention_layer
        maps = looking(compute, target, (side, side), layer, target.mesh)
        classes = given(batch, dtype=jnp.int32) if config.crop.cam_class == "label" else None
        asked = pixels, classes
        yield Program("activate", "attention maps", maps, asked, calls, batch, devices)
    options = config.target.described, config.target.pooling, target.logit_count > 0
    views = target.activating(*options)
    if config.crop.units:
        pooling, cam = config.target.pooling, config.crop.cam
        channels = target.shapes[target.attention_layer][-1]
        weights = {
            layer: given(channels, target.logit_count) if layer == LOGITS else None
            for layer in config.target.described
            if known_at_once(target, layer, pooling, cam)
        }
        views = looking_at_once(target, *options, weights)
    yield Program("activate", "activations", views, (pixels,), calls, batch, devices)
    packed = {target.shapes[name][-1] for name in config.target.described if name in target.sparse}
    for count in sorted(packed):
        values = shapes.array(batch, count, axis=0)
        peaks = shapes.array(batch, count, dtype=jnp.uint16, axis=0) if config.crop.units else None
        most = config.target.kept
        slots = min(most or latents.FIRST, count)
        pack = partial(latents.pack, slots=slots, largest=bool(most))
        yield Program("activate", "pack latents", pack, (values, peaks), calls, batch, devices)


def _look(config: Config, target: Target, size: Size, devices: int) -> Iterator[Program]:
    """Yield the programs of each layer's units' own windows.

    How many images and windows they have depends on the images: the most are counted.
    """
    if not config.crop.units:
        return
    batch = even(size.images, config.images.batch) * devices
    side, pooling = target.preprocess.size, config.target.pooling
    pixels = given(batch, side, side, 3, dtype=jnp.uint8)
    for layer in config.target.described:
        windows = target.shapes[layer][-1] * candidates(config, size.images)
        calls = -(-windows // batch)
        if not known_at_once(target, layer, pooling, config.crop.cam):
            maps, units = mapping_units(target, layer, pooling, config.crop.cam), (batch, UNITS)
            asked = ((pixels, given(*units, dtype=jnp.int32)),)
            yield Program("look", f"maps of units of {layer}", maps, asked, calls, batch, devices)
        if config.crop.rank == "window":
            views = target.activating((layer,), pooling, False)
            name = f"activations of {layer}"
            yield Program("look", name, views, (pixels,), calls, batch, devices)


def _embed(config: Config, namer: Namer, size: Size, devices: int) -> Iterator[Program]:
    batch = config.clip.batch * devices
    side, calls = namer.preprocess.size, -(-size.views // batch)
    views = given(batch, side, side, 3, dtype=jnp.uint8)
    yield Program("embed", "image tower", namer.viewing, (views,), calls, batch, devices)


def _texts(stage: str, name: str, encoder: Any, texts: Texts, one: Shapes) -> Iterator[Program]:
    reading = replace(encoder, params=one.on_each(encoder.params)).reading
    for (rows, length), calls in sorted(texts.items()):
        ids = given(rows, length, dtype=jnp.int32), given(rows, dtype=jnp.int32)
        title = f"{name or 'text tower'}, {rows} × {length} tokens"
        yield Program(stage, title, reading, ids, calls, rows)


def score_programs(
    config: Config, neurons: int, width: int, size: Size, shapes: Shapes
) -> Iterator[Program]:
    """Yield the programs of both engines, and of the pairs that either leaves."""
    options, array, devices = config.score, shapes.array, len(shapes.devices)
    similarity = SIMILARITIES[options.similarity]
    each = min(options.block, -(-size.concepts // devices)) * devices
    texts, blocks = array(each, width, axis=0), -(-size.concepts // each)
    rows = problem.padded_rows(size.views)
    images, count = array(rows, width), options.exemplars
    full = partial(block.score_block, difference=similarity.difference)
    arguments = (
        *(images, array(rows), (array(neurons, count, dtype=jnp.int32),)),
        *(given(1, neurons, dtype=jnp.int32), texts, given(1), given(1, neurons, 1), each),
    )
    yield Program("score (full)", "a block of concepts", full, arguments, blocks, each, devices)
    if similarity.screened:
        engine, some = "score (screened)", min(neurons, discovery.SCREENED)
        groups, bounds = -(-neurons // some), len(screening.SHARES)
        rows_of = given(some, count, dtype=jnp.int32), given(some, dtype=jnp.int32)
        spread = partial(screening.spread), (images, *rows_of, given(width))
        yield Program(engine, "spread of exemplars", *spread, groups, some)
        known = array(1, some, width), given(width), given(bounds), texts
        look = partial(screening.screen_block), (*known, given(1, some, bounds + 1), each)
        yield Program(engine, "a block of concepts", *look, groups * blocks, each, devices)
    yield from _pairs("score (pairs)", config, neurons, width, size, shapes, 0)


def _pairs(
    stage: str,
    config: Config,
    neurons: int,
    width: int,
    size: Size,
    shapes: Shapes,
    resamples: int,
) -> Iterator[Program]:
    """The pairs program, on one tile per neuron, or on those of a bootstrap."""
    array, difference = shapes.array, SIMILARITIES[config.score.similarity].difference
    devices = len(shapes.devices)
    tiles = pairs.TILES * devices
    chunks = -(-config.score.exemplars // pairs.SLOTS)
    slots, items = chunks * pairs.SLOTS, tiles * pairs.WIDTH
    cosines = (
        *(array(problem.padded_rows(size.views), width),),
        *(array(problem.part_size(size.concepts), width),),
        *(array(chunks, tiles, pairs.SLOTS, dtype=jnp.int32, axis=1),),
        *(array(tiles, pairs.WIDTH, dtype=jnp.int32, axis=0),),
    )
    per_neuron = -(-(stability.NEAREST + 1) // pairs.WIDTH) if resamples else 1
    calls = -(-neurons * per_neuron // tiles)
    yield Program(stage, "cosines", partial(pairs.pair_cosines), cosines, calls, items, devices)
    found = array(slots, tiles, pairs.WIDTH, axis=1), array(slots, tiles, axis=1)
    combine = partial(pairs.pair_means, difference=difference)
    rest: tuple[Any, ...] = given(2), array(tiles, dtype=jnp.int32, axis=0)
    if resamples:
        combine = partial(pairs.pair_sums, difference=difference)
        rest = given(), array(tiles, resamples, slots, axis=0)
    yield Program(stage, "scores", combine, (*found, *rest), calls, items, devices)


def _certainty(
    config: Config, neurons: int, width: int, size: Size, one: Shapes
) -> Iterator[Program]:
    options, array = config.score, one.array
    each = min(options.block, size.concepts)
    pool = problem.padded_rows(min(size.views, null.POOL))
    sets, count = null.SETS, min(options.exemplars, size.views - 1)
    similarity = SIMILARITIES[options.similarity]
    chosen = array(sets, count, dtype=jnp.int32)
    scored = partial(null.score_sets, sizes=(count,), difference=similarity.difference)
    arguments = (
        *(array(pool, width), array(pool), chosen, array(each, width), given()),
        *(given(1, sets, 1), each, min(size.views, null.POOL), array(1, sets)),
    )
    blocks = -(-size.concepts // each)
    yield Program("certainty", "random sets", scored, arguments, blocks, each)
    nearest_count = min(stability.NEAREST, size.concepts)
    some = min(neurons, stability.neurons_at_once(nearest_count))
    wide = max(each, nearest_count)
    nearest = array(some, width), array(wide, width)
    calls = -(-neurons // some) * -(-size.concepts // wide)
    yield Program("certainty", "nearest", partial(stability.mean_cosines), nearest, calls, wide)
    yield from _pairs("certainty", config, neurons, width, size, one, stability.RESAMPLES)
