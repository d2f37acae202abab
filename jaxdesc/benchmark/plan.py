"""A run's time and memory on a device that is not there, from its compiled programs.

The least time of a program is the larger of two: its arithmetic at the chip's rate, and its traffic
at the bandwidth of the chip's memory. Both are read from the compiled program by the rules of
`runtime.compiled`; rates and bandwidth are the maker's, so that a real run takes longer.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
from tabulate import tabulate

from jaxdesc.benchmark.networks import measured_rates
from jaxdesc.errors import InputError
from jaxdesc.runtime.chips import GIB, Chip
from jaxdesc.runtime.compiled import Compiled
from jaxdesc.stages.programs import Program, largest

# Stages that all processes share; the first one does the others.
SHARED = ("activate", "look", "embed", "encode", "words")
# Photos per second that a core decodes and cuts, that the threads of a process read, whose Python
# takes turns, and that a process takes from its workers (docs/benchmarks.md, "Reading photos").
PHOTOS, THREADED, RECEIVED = 134.0, 900.0, 3000.0
SCREENED = "score (screened)"


@dataclass(frozen=True)
class Row:
    """One program on one chip: its part of a call, and the seconds of all calls together."""

    program: Program
    compiled: Compiled
    chip: Chip
    hosts: int = 1

    @property
    def items(self) -> float:
        """Images, texts or concepts that a chip works on in a call."""
        return self.program.items / self.program.devices

    @property
    def arithmetic(self) -> float:
        """Seconds of a call's arithmetic."""
        rates = self.chip.rates
        return sum(
            product.flops * product.times / rates["f32" if "f32" in product.types else "bf16"]
            for product in self.compiled.products
        )

    @property
    def traffic(self) -> float:
        """Seconds of a call's traffic."""
        return self.compiled.bytes / self.chip.bandwidth

    @property
    def call(self) -> float:
        """Least seconds of a call."""
        return max(self.arithmetic, self.traffic)

    @property
    def seconds(self) -> float:
        """Least seconds of all calls of a run, which hosts share in some stages."""
        hosts = self.hosts if self.program.stage in SHARED else 1
        return self.call * -(-self.program.calls // hosts)


@dataclass(frozen=True)
class Host:
    """Hosts that feed the devices: the cores of all, and the photos that they read per second."""

    cores: int
    photos: float

    @classmethod
    def of(cls, cores: int, hosts: int, workers: int, rate: float = PHOTOS) -> "Host":
        """Return hosts with as many cores together, and as many `images.workers` each."""
        read = min(workers * THREADED, RECEIVED) if workers else THREADED
        return cls(cores, min(cores * rate, hosts * read))


@dataclass(frozen=True)
class Plan:
    """All programs of a run on some chips.

    Attributes:
        spec: the devices as they were asked for.
        chip: one of them.
        devices: how many there are, on all hosts together.
        host: what feeds them.
        photos: how many are decoded for a stage.
        rows: programs, in the order of the stages.
    """

    spec: str
    chip: Chip
    devices: int
    host: Host
    photos: Mapping[str, int]
    rows: Sequence[Row]

    def stages(self) -> list[tuple[str, float, float, str]]:
        """Each stage's seconds on the devices and on the host, and what limits it."""
        found = []
        for stage in dict.fromkeys(row.program.stage for row in self.rows):
            device = sum(row.seconds for row in self.rows if row.program.stage == stage)
            every = [row for row in self.rows if row.program.stage == stage]
            host = self.photos.get(stage, 0) / self.host.photos
            longest = max(every, key=lambda row: row.seconds)
            bound = "arithmetic" if longest.arithmetic > longest.traffic else "memory"
            found.append((stage, device, host, "host" if host > device else bound))
        return found

    @property
    def seconds(self) -> float:
        """Least seconds of the whole run, without set-up and compilation.

        The full engine is counted, which takes any features. The host works ahead of the devices,
        but a CPU is both.
        """
        together = sum if self.chip.platform == "cpu" else max
        return sum(
            together((device, host))
            for stage, device, host, _ in self.stages()
            if stage != SCREENED
        )

    @property
    def batches(self) -> dict[str, int]:
        """Largest batch per chip of each option of the config that fits, by the largest program."""
        return {
            key: min(
                largest(row.program, row.compiled, self.chip.memory)
                for row in self.rows
                if row.program.stage == stage
            )
            for key, stage in (("images.batch", "activate"), ("clip.batch", "embed"))
        }

    def markdown(self) -> str:
        """Lay out the programs, the stages, and the sum."""
        programs = [
            [
                f"{row.program.stage}: {row.program.name}",
                f"{row.program.items:,}",
                f"{row.compiled.flops / row.items / 1e9:.4g}",
                f"{row.compiled.bytes / row.items / 1e6:.4g}",
                f"{row.compiled.memory / GIB:.2f}",
                f"{1e3 * row.arithmetic:.3g}",
                f"{1e3 * row.traffic:.3g}",
                f"{row.program.calls:,}",
            ]
            for row in self.rows
        ]
        chip = self.chip
        head = ["program", "items per call", "GFLOP per item", "MB per item", "GiB per chip"]
        head += ["ms of arithmetic", "ms of traffic", "calls"]
        stages = [
            [stage, _time(device), _time(host) if host else "–", limit]
            for stage, device, host, limit in self.stages()
        ]
        fits = ", ".join(f"{key} {count:,}" for key, count in self.batches.items())
        return "\n\n".join(
            [
                f"**{self.spec}**: {self.devices} × {chip.title}, {chip.memory / GIB:.0f} GiB and "
                f"{chip.bandwidth / 1e9:,.0f} GB/s each, {chip.rates['bf16'] / 1e12:.3g} TFLOP/s "
                f"in bfloat16 and {chip.rates['f32'] / 1e12:.3g} in float32",
                tabulate(programs, head, tablefmt="github", disable_numparse=True),
                tabulate(
                    stages,
                    ["stage", "devices, roofline", f"host, {self.host.cores} cores", "limited by"],
                    tablefmt="github",
                    disable_numparse=True,
                ),
                f"The run takes at least {_time(self.seconds)}, with the full engine and without "
                f"set-up and compilation. Largest batch per chip that fits: {fits}.",
            ]
        )


def usual_lengths(programs: Sequence[Program]) -> list[Program]:
    """Let the commonest batch of an encoder's texts stand for all, each counted by its tokens.

    Text towers come in a dozen shapes, whose time goes with rows × tokens, and each would take a
    minute to compile.
    """

    def tokens(program: Program) -> int:
        return program.calls * program.arguments[0].size

    kept = []
    for program in programs:
        same = [other for other in programs if other.function is program.function]
        if len(same) > 1:
            if program is not max(same, key=tokens):
                continue
            calls = -(-sum(map(tokens, same)) // program.arguments[0].size)
            program = replace(program, name=f"{program.name} (for all)", calls=calls)
        kept.append(program)
    return kept


def planned(programs: Iterable[Program], chip: Chip, hosts: int = 1) -> Iterable[Row]:
    """Compile each program once, and yield its row."""
    known: dict[Any, Compiled] = {}
    for program in programs:
        function = program.function
        network = id(function) if function.args else 0
        key = function.func, network, str(program.arguments), str(function.keywords)
        if key not in known:
            known[key] = Compiled.of(program.lower(), chip.compiler)
        yield Row(program, known[key], chip, hosts)


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{1e3 * seconds:.3g} ms"
    units = ("h", 3600), ("min", 60), ("s", 1)
    unit, size = next((unit, size) for unit, size in units if seconds >= size)
    return f"{seconds / size:.3g} {unit}"


def this_machine() -> tuple[Chip, Sequence[jax.Device], int]:
    """This machine's CPU as a chip: its measured rates, and all of its memory."""
    operations, traffic = measured_rates()
    memory, cores = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), os.cpu_count() or 1
    rates = {"bf16": operations, "f32": operations}
    chip = Chip("CPU, this machine", "cpu", "cpu", "", memory, traffic, rates, "", cores)
    return chip, jax.local_devices(backend="cpu")[:1], 1


class Page:
    """A Markdown file with a place for the plan of one precision."""

    def __init__(self, file: Path, precision: str):
        """Find the place; `InputError` if the file or the place is missing."""
        self.file = file
        begin, end = f"<!-- plan {precision} -->", "<!-- end -->"
        try:
            text = file.read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"{file} can't be read ({error.strerror}): give --page.") from error
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise InputError(f"{file} has no place for the plan: add lines {begin} and {end}.")
        self.parts = before + begin, end + after

    def write(self, content: str) -> None:
        """Put a plan into its place."""
        before, after = self.parts
        self.file.write_text(f"{before}\n\n{content}\n\n{after}", encoding="utf-8")
