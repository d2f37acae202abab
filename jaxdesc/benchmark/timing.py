"""Jobs that take turns, and the table of their times."""

import json
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import jax
from tabulate import tabulate

LIBRARIES = ("jaxdesc", "jax", "jaxlib", "numpy", "torch", "transformers", "grad-cam")


@dataclass(frozen=True)
class Job:
    """Something to time.

    Attributes:
        name: of its row.
        run: does the work, and returns when it is done.
        items: number of things it works on, such as images, for a rate; 0 for none.
        operations: floating-point operations that it needs at least.
        traffic: bytes that it must move to or from memory at least.
        scale: factor on its time if only a part of the work is timed.
    """

    name: str
    run: Callable[[], Any]
    items: int = 0
    operations: float = 0.0
    traffic: float = 0.0
    scale: float = 1.0


@dataclass
class Table:
    """Times of some jobs: seconds of each run of each.

    `first` is the job that the others are compared with, or "". `rates` are the best operations/s
    and bytes/s, for floors. `facts` are further findings.
    """

    title: str
    sizes: Mapping[str, Any]
    jobs: Sequence[Job]
    seconds: Mapping[str, Sequence[float]]
    first: str = ""
    rates: tuple[float, float] | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def median(self, name: str) -> float:
        """Median seconds of a job."""
        return median(self.seconds[name])

    def floor(self, job: Job) -> float:
        """Least seconds that a job's arithmetic or traffic takes."""
        operations, traffic = self.rates or (float("inf"), float("inf"))
        return max(job.operations / operations, job.traffic / traffic)

    def markdown(self) -> str:
        """Lay it out: seconds, rate, floor, and the share of the first job's time."""
        columns: dict[str, Callable[[Job, float], str]] = {
            "": lambda job, _: job.name,
            "seconds": lambda _, value: f"{value:.3g}",
        }
        if any(job.items for job in self.jobs):
            columns["per second"] = lambda j, value: f"{j.items / value:.3g}" if j.items else ""
        if self.rates:
            columns["floor"] = lambda job, _: f"{self.floor(job):.3g}"
            columns["of floor"] = lambda job, value: f"{value / self.floor(job):.2f}"
        if self.first:
            first = self.median(self.first)
            columns[f"of {self.first}"] = lambda _, value: f"{value / first:.3g}"
        rows = [[of(job, self.median(job.name)) for of in columns.values()] for job in self.jobs]
        sizes = ", ".join(f"{name} {value}" for name, value in self.sizes.items())
        facts = [f"- {name}: {_short(value)}" for name, value in self.facts.items()]
        table = tabulate(rows, [*columns], tablefmt="github", disable_numparse=True)
        parts = [f"**{self.title}** ({sizes})", *([table] if rows else []), "\n".join(facts)]
        return "\n\n".join(part for part in parts if part) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """The table as JSON values."""
        return {
            "title": self.title,
            "sizes": dict(self.sizes),
            "seconds": {name: list(values) for name, values in self.seconds.items()},
            "medians": {name: self.median(name) for name in self.seconds},
            "floors": {job.name: self.floor(job) for job in self.jobs} if self.rates else {},
            "facts": self.facts,
        }


def timed(
    title: str, sizes: Mapping[str, Any], jobs: Sequence[Job], repeats: int, first: str = ""
) -> Table:
    """Time jobs that take turns; the first turn, which compiles, doesn't count."""
    seconds: dict[str, list[float]] = {job.name: [] for job in jobs}
    for turn in range(repeats + 1):
        for job in jobs:
            began = time.perf_counter()
            job.run()
            if turn:
                seconds[job.name].append(job.scale * (time.perf_counter() - began))
    return Table(title, sizes, jobs, seconds, first)


def where() -> dict[str, Any]:
    """Device and library versions."""
    versions = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    device = jax.devices()[0].device_kind
    return {"device": _processor() if device == "cpu" else device, **versions}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {len(names) or 1} cores"


def write(path: Path, machine: Mapping[str, Any], tables: Sequence[Table]) -> None:
    """Write tables as JSON, and as Markdown next to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {**machine, "tables": [table.to_dict() for table in tables]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    head = ", ".join(f"{name} {value}" for name, value in machine.items())
    text = "\n".join(table.markdown() for table in tables)
    path.with_suffix(".md").write_text(f"{head}\n\n{text}", encoding="utf-8")


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
