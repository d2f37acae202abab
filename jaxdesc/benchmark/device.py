"""A report of one device: parity with PyTorch, bfloat16, and speed next to PyTorch's.

Every section stands alone: one that fails holds its error, and the others go on.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tabulate import tabulate

from jaxdesc import scoring
from jaxdesc.attention import CAMS, attention_maps
from jaxdesc.attention.cams import looking
from jaxdesc.benchmark import features, timing
from jaxdesc.benchmark.bench import TOKENS, Bench
from jaxdesc.benchmark.networks import made_up_words
from jaxdesc.benchmark.plan import Row, planned
from jaxdesc.benchmark.scoring import ALPHA
from jaxdesc.config import TEMPLATE, Config, ScoreConfig
from jaxdesc.errors import InputError
from jaxdesc.models.precision import PRECISIONS
from jaxdesc.models.target import LOGITS
from jaxdesc.runtime.compiled import Compiled
from jaxdesc.runtime.mesh import Shapes
from jaxdesc.scoring.discovery import EngineName
from jaxdesc.stages.programs import Program, Size, score_programs
from jaxdesc.vocabulary.vocabulary import Vocabulary, base_template, prompts

KAPPA = 16.0
FEW = 8  # images and texts whose parity is measured
QUEUED = 0.02  # seconds of work that are queued before the clock is read
LONGEST = 3.0  # seconds that the timed runs of one side take, unless two take longer
MOST_TURNS = 7


def write(file: Path, size: str, minutes: float) -> None:
    """Measure all sections, and write the file after each.

    `InputError` at the end if a section failed, or the file can't be written.
    """
    with tempfile.TemporaryDirectory() as folder:
        if not jax.config.values["jax_compilation_cache_dir"]:
            # A program that was analysed is not compiled again when it is called.
            jax.config.update("jax_compilation_cache_dir", f"{folder}/programs")
        bench, found = Bench(size, minutes, Path(folder)), dict.fromkeys(SECTIONS, "Not done yet.")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            for title in (*(each for each in SECTIONS if each != LAST), LAST):
                found[title] = _section(bench, title)
                file.write_text(_page(found, size), encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"{file} can't be written ({error.strerror}): give --output."
            ) from error
    if bench.failures:
        raise InputError(f"{', '.join(bench.failures)} failed: {file} says why, and has the rest.")


def _section(bench: Bench, title: str) -> str:
    if bench.left <= 0:
        return f"Left out: the {bench.minutes:g} minutes of --minutes were over."
    print(f"{title} …", file=sys.stderr, flush=True)
    text, failure = bench.attempt(title, partial(SECTIONS[title], bench))
    bench.longest = 0.0
    return failure or text


def _page(sections: Mapping[str, str], size: str) -> str:
    head = f"# jaxdesc on {timing.where()['device']}\n\nWritten by `python -m "
    parts = [f"{head}launch.device_report --size={size}`, on networks with random weights."]
    parts += [f"## {n}. {title}\n\n{text}" for n, (title, text) in enumerate(sections.items(), 1)]
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    return tabulate(rows, head, tablefmt="github", disable_numparse=True)


def _machine(bench: Bench) -> str:
    """Device, driver, versions and commit."""
    facts = {"devices": f"{jax.device_count()}, the first one is used", **timing.where()}
    facts["python"] = sys.version.split()[0]
    query = "nvidia-smi --query-gpu=driver_version --format=csv,noheader"
    facts["driver"] = _printed(query)
    facts["commit"] = _printed("git rev-parse HEAD")
    torch = sys.modules[bench.rivals.device.__name__].torch
    facts["PyTorch's device"] = bench.rival_device
    facts["PyTorch's CUDA"] = torch.version.cuda
    chip = bench.chip
    facts["roofline"] = (
        f"{chip.title}: {chip.bandwidth / 1e9:,.0f} GB/s, {chip.rates['f32'] / 1e12:.3g} TFLOP/s "
        f"in float32, {chip.rates['bf16'] / 1e12:.3g} in bfloat16"
    )
    return _table([[name, str(value)] for name, value in facts.items() if value], ["", "value"])


def _printed(command: str) -> str:
    """First line that a command prints; empty if it can't be run."""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            command.split(),
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
        return done.stdout.strip().partition("\n")[0]
    return ""


def _parity(bench: Bench) -> str:
    """Results in float32 next to PyTorch's on the CPU, in eager mode."""
    rivals, target, clip = bench.rivals, bench.target("float32"), bench.clip("float32")
    pixels = np.asarray(target.preprocess.normalise(bench.views(FEW, target.preprocess.size)))
    wide = np.asarray(clip.preprocess.normalise(bench.views(FEW, clip.preprocess.size)))
    ids = bench.tokens(FEW)
    rival = rivals.resnet.load_target(bench.target_folder, fused=False)
    placed = rivals.resnet.placed(pixels)
    logits = rival.logits(placed).numpy()
    classes = logits.argmax(1)
    eager = rivals.device.EAGER
    ways = partial(rivals.device.clip_ways, bench.clip_folder, "float32", device="cpu")
    pairs = {
        "target: logits": (target.activations(pixels), logits),
        "target: Grad-CAM of the same classes": (
            attention_maps(target, pixels, classes)[0],
            rivals.resnet.grad_cam(rival, placed, classes),
        ),
        "CLIP: image features": (clip.encode_images(wide), ways(wide, texts=False)[eager]()),
        "CLIP: text features": (
            clip.reading(ids, np.full(FEW, TOKENS, np.int32)),
            ways(ids, texts=True)[eager](),
        ),
    }
    rows = []
    for name, (ours, theirs) in pairs.items():
        reference = np.asarray(theirs, np.float64)
        largest = np.abs(reference).max()
        difference = np.abs(np.asarray(ours, np.float64) - reference).max()
        rows.append([name, f"{largest:.4g}", f"{difference / largest:.2e}"])
    intro = f"float32, batch {FEW}, against PyTorch in float32 on the CPU.\n\n"
    return intro + _table(rows, ["", "largest value", "largest difference / largest value"])


def _bfloat16(bench: Bench) -> str:
    """Selected concepts with CLIP's features in bfloat16, and top exemplars of such a target."""
    sizes, rng = bench.sizes, np.random.default_rng(0)
    words = tuple(dict.fromkeys(made_up_words(rng, sizes.words)))
    texts = [base_template(TEMPLATE), *prompts(Vocabulary(words, "made up"), TEMPLATE)]
    exemplars, found = {}, {}
    for precision in PRECISIONS:
        target, clip = bench.target(precision), bench.clip(precision)
        photos = bench.views(sizes.views, target.preprocess.size)
        views = bench.views(sizes.views, clip.preprocess.size)
        at_once = range(0, sizes.views, max(sizes.batches))
        parts = [slice(start, start + max(sizes.batches)) for start in at_once]
        active = np.concatenate([target.activations(photos[part]) for part in parts])
        exemplars[precision] = np.argsort(-active, axis=0, kind="stable")[: sizes.exemplars].T
        embedded = np.concatenate([clip.encode_views(views[part]) for part in parts])
        encoded = np.asarray(clip.encode_texts(texts))
        arrays = embedded, exemplars["float32"], encoded[1:], encoded[0]
        found[precision] = scoring.discover(*arrays, KAPPA, ALPHA)
    named = []
    for neuron in range(len(exemplars["float32"])):
        exact, rounded = ([c for c, _ in found[p].of(neuron)] for p in PRECISIONS)
        if exact:
            named.append((exact[:1] == rounded[:1], _jaccard(exact, rounded)))
    if not named:
        raise InputError("no neuron has a concept in float32, so there is nothing to compare")
    best, shared = np.mean(named, axis=0)
    kept = np.mean([_jaccard(*pair) for pair in zip(*exemplars.values(), strict=True)])
    rows = [
        ["neurons with concepts in float32", f"{len(named)} of {len(exemplars['float32'])}"],
        ["share of them with the same best concept", f"{best:.4f}"],
        ["mean Jaccard index of their concepts", f"{shared:.4f}"],
        ["mean Jaccard index of all neurons' top exemplars", f"{kept:.4f}"],
    ]
    intro = (
        f"The same {sizes.views} views, {sizes.exemplars} exemplars per neuron (those in float32) "
        f"and {len(words)} concepts; κ = {KAPPA:g}, α = {ALPHA}. The networks are random: "
        "this shows that bfloat16 works, not what it costs with trained ones.\n\n"
    )
    return intro + _table(rows, ["bfloat16 against float32", "value"])


def _jaccard(first: Any, second: Any) -> float:
    return len({*first} & {*second}) / len({*first} | {*second})


class Stage(NamedTuple):
    """A stage of some precision: its program, a batch on the device, and PyTorch's ways."""

    name: str
    precision: str
    program: Program
    ways: Callable[[], Mapping[str, Callable[[], Any]]]


HEAD = [
    *("jaxdesc ms", "items/s", "PyTorch ms", "PyTorch's way", "PyTorch / jaxdesc"),
    *("GFLOP", "GB", "roofline ms", "jaxdesc / roofline"),
]


def _stages(bench: Bench, precision: str, batch: int) -> list[Stage]:
    """The stages of a run, in the order of the report."""
    rivals, target, clip = bench.rivals.device, bench.target(precision), bench.clip(precision)
    side, layer = target.preprocess.size, target.attention_layer
    photos, views = bench.views(batch, side), bench.views(batch, clip.preprocess.size)
    ids = bench.tokens(batch)
    pixels = partial(target.preprocess.normalise, photos)
    wide = partial(clip.preprocess.normalise, views)
    logits = target.activating((LOGITS,), "mean", False)
    maps = looking(CAMS["grad_cam"].compute, target, (side, side), layer, None)
    device = {"device": bench.rival_device}

    def stage(name: str, function: partial[Any], arguments: Any, ways: Any) -> Stage:
        placed = jax.device_put(arguments)
        return Stage(name, precision, Program(name, name, function, placed, 1, batch), ways)

    def of_target(cam: bool) -> Any:
        return rivals.target_ways(bench.target_folder, precision, pixels(), cam=cam, **device)

    def of_clip(texts: bool) -> Any:
        given = ids if texts else wide()
        return rivals.clip_ways(bench.clip_folder, precision, given, texts=texts, **device)

    lengths = np.full(batch, TOKENS, np.int32)
    return [
        stage("activations", logits, (photos,), partial(of_target, False)),
        stage("Grad-CAM", maps, (photos, None), partial(of_target, True)),
        stage("CLIP's image tower", clip.viewing, (views,), partial(of_clip, False)),
        stage("CLIP's text tower", clip.reading, (ids, lengths), partial(of_clip, True)),
    ]


def _throughput(bench: Bench) -> str:
    """Every stage in both precisions and all batches, as far as the time goes."""
    rows: list[list[str]] = []
    notes: list[str] = []
    left_out: list[str] = []
    for batch in bench.sizes.batches:
        for precision in PRECISIONS:
            for stage in _stages(bench, precision, batch):
                title = f"{stage.name}, {precision}, batch {batch}"
                if bench.left < bench.longest:
                    left_out.append(title)
                    continue
                print(f"  {title} …", file=sys.stderr, flush=True)
                cells, failure = bench.attempt(title, partial(_speed, bench, stage, notes, title))
                if failure:
                    notes.append(failure)
                else:
                    rows.append([stage.name, precision, str(batch), *cells])
    intro = (
        "Medians of warm calls, with inputs on the device. jaxdesc takes bytes and normalises "
        "them, PyTorch normalised pixels; texts have "
        f"{TOKENS} tokens. PyTorch is the fastest of its ways that work: channels last, SDPA, and "
        "no TF32 in float32."
    )
    if not bench.sizes.compiles:
        intro += f" Size {bench.size} leaves torch.compile out, which would take minutes."
    missing = [f"Left out for want of time (--minutes): {'; '.join(left_out)}."] if left_out else []
    table = _table(rows, ["stage", "precision", "batch", *HEAD])
    return "\n\n".join([intro, table, *dict.fromkeys(notes), *missing])


def _speed(bench: Bench, stage: Stage, notes: list[str], title: str) -> list[str]:
    """Cells of a row: times, and the floor of the compiled program."""
    program = stage.program
    floor = Row(program, Compiled.of(program.lower()), bench.chip)  # is compiled here, and cached

    def ours() -> Any:
        return program.function(*program.arguments)

    times = _raced(bench, ours, stage.ways(), notes, title)
    return _cells(program.items, *times, [floor])


def _cells(items: int, ours: float, theirs: float, way: str, floors: Sequence[Row]) -> list[str]:
    calls = [(row, row.program.calls) for row in floors]
    least = sum(row.seconds for row in floors)
    cells = [1e3 * ours, items / ours, 1e3 * theirs]
    numbers = [f"{value:,.4g}" if value < 1000 else f"{value:,.0f}" for value in cells]
    flops, moved = (
        sum(count * getattr(row.compiled, kind) for row, count in calls) / 1e9
        for kind in ("flops", "bytes")
    )
    floor = [f"{value:.4g}" for value in (flops, moved, 1e3 * least)]
    return [*numbers, way, f"{theirs / ours:.2f}", *floor, f"{ours / least:.2f}"]


def _raced(
    bench: Bench,
    ours: Callable[[], Any],
    ways: Mapping[str, Callable[[], Any]],
    notes: list[str],
    title: str,
) -> tuple[float, float, str]:
    """Median seconds of a call of ours, and of PyTorch's fastest way, which is named.

    Ways that fail are noted; the last error is raised if all do.
    """
    rival, device = bench.rivals.device, bench.rival_device
    if not bench.sizes.compiles:
        ways = {name: way for name, way in ways.items() if not name.startswith(rival.COMPILED)}
    once: dict[str, float] = {}
    for name, way in ways.items():
        try:
            once[name] = _second_call(way, lambda _: rival.wait(device))
        except Exception as error:
            if name == [*ways][-1] and not once:
                raise
            reason = " ".join(str(error).split())[:120]
            notes.append(f"{title}: PyTorch's {name} failed ({type(error).__name__}: {reason}).")
    best = min(once, key=lambda name: once[name])
    sides = {
        "jaxdesc": (ours, jax.block_until_ready, _second_call(ours, jax.block_until_ready)),
        best: (ways[best], lambda _: rival.wait(device), once[best]),
    }
    jobs, turns = [], MOST_TURNS
    for name, (run, wait, seconds) in sides.items():
        calls = min(50, max(1, round(QUEUED / seconds)))
        jobs.append(timing.Job(name, partial(_queued, run, wait, calls), scale=1 / calls))
        turns = max(1, min(turns, int(LONGEST / (calls * seconds))))
    table = timing.timed(title, {}, jobs, turns)
    del ways, sides, jobs
    rival.release(device)
    return table.median("jaxdesc"), table.median(best), best


def _queued(run: Callable[[], Any], wait: Callable[[Any], Any], calls: int) -> None:
    for _ in range(calls):
        result = run()
    wait(result)


def _second_call(run: Callable[[], Any], wait: Callable[[Any], Any]) -> float:
    """Seconds of the second call; the first one compiles."""
    for _ in range(2):
        began = time.perf_counter()
        _queued(run, wait, 1)
    return time.perf_counter() - began


def _scoring(bench: Bench) -> str:
    """Both engines on made-up features, from arrays of the host."""
    sizes = bench.sizes
    notes: list[str] = []
    texts, base = features.concepts(sizes.concepts, sizes.width)
    arrays = features.made_up("narrow", texts, base, sizes.neurons, sizes.exemplars, sizes.images)
    config = Config(score=ScoreConfig(exemplars=sizes.exemplars))
    images = len(arrays.images)
    size = Size(images, sizes.concepts, {}, images)
    shapes = Shapes(jax.devices()[:1])
    programs = [*score_programs(config, sizes.neurons, sizes.width, size, shapes)]
    engines: tuple[EngineName, ...] = ("full", "screened")
    rows = []
    for engine in engines:
        if bench.left < bench.longest:
            notes.append(f"Left out for want of time (--minutes): {engine}.")
            continue
        stages = f"score ({engine})", "score (pairs)"
        chosen = [program for program in programs if program.stage in stages]
        floors = [*planned(chosen, replace(bench.chip, compiler={}))]
        ways = bench.rivals.device.scoring_ways(arrays, KAPPA, bench.rival_device)
        ours = partial(scoring.discover, *arrays, KAPPA, ALPHA, engine=engine)
        times = _raced(bench, ours, ways, notes, f"scoring, {engine}")
        rows.append([engine, *_cells(sizes.concepts, *times, floors)])
    intro = (
        f"{sizes.neurons:,} neurons × {sizes.exemplars} exemplars, {images:,} images, "
        f"{sizes.concepts:,} concepts (the items), width {sizes.width}, float32, κ = {KAPPA:g}. "
        "Arrays come from the host. jaxdesc returns the selected concepts; PyTorch computes all "
        "scores, leaves them on the device and selects none."
    )
    return "\n\n".join([intro, _table(rows, ["engine", *HEAD]), *dict.fromkeys(notes)])


# Titles in the order of the file.
LAST = "Throughput per stage"  # takes what time is left
SECTIONS: dict[str, Callable[[Bench], str]] = {
    "Device": _machine,
    "Parity in float32": _parity,
    "Effect of bfloat16 on concepts": _bfloat16,
    LAST: _throughput,
    "Scoring": _scoring,
}
