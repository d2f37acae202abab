"""Tables of an ablation: every view × similarity, and the differences that answer its questions."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import numpy as np
from tabulate import tabulate

from jaxdesc.ablation import Cell
from jaxdesc.errors import InputError, printable
from jaxdesc.evaluation.metrics import Estimate, Metrics
from jaxdesc.evaluation.statistics import interval, over_probes
from jaxdesc.result import write_whole
from jaxdesc.store import read_file

TITLES = {
    "hit": "Hit Rate",
    "f1": "F1",
    "clip_cos": "CLIP cos",
    "sentence_cos": "sentence cos",
}


HUBS = 10  # that are named


def certainty(unnamed: float | None, hubs: Mapping[str, float]) -> str:
    """Tell what a run's names are worth.

    Args:
        unnamed: as `Result.unnamed`.
        hubs: as `Result.hubs`.
    """
    if unnamed is None:
        return "no concept was compared with chance."
    texts = [f"{text} ({share:.0%})" for text, share in hubs.items()]
    more = f" and {len(texts) - HUBS} more" if len(texts) > HUBS else ""
    named = printable(", ".join(texts[:HUBS])) + more if texts else "none"
    return (
        f"{unnamed:.1%} of the neurons have no significant concept.\n"
        f"Hub concepts, by the share of random image sets: {named}."
    )


def similarity_name(kappa: float) -> str:
    """Name a κ: its zero is the cosine."""
    return "cosine" if kappa == 0 else f"t-vMF κ={kappa:g}"


def ablation(cells: Sequence[Cell]) -> str:
    """Lay out an ablation as Markdown.

    Args:
        cells: of one vocabulary and all probe sets.

    Returns:
        A row for each view and κ; each metric ×100 as mean ± standard error over neurons, and the
        95 % interval over probe sets where there are several.
    """
    kinds = list(cells[0].metrics.values)
    rows = [["view", "similarity", *(TITLES[kind] for kind in kinds)]]
    for view, kappa in _conditions(cells):
        here = [c for c in cells if (c.view, c.kappa) == (view, kappa)]
        per_probe = [c.metrics for c in here]
        rows.append([view, similarity_name(kappa), *(percent(per_probe, kind) for kind in kinds)])
    return markdown(rows)


def differences(cells: Sequence[Cell]) -> str:
    """Compare views pairwise and t-vMF with the cosine, on the same neurons and probe sets.

    Args:
        cells: of one vocabulary and all probe sets.

    Returns:
        Markdown: each metric's difference ×100 and its 95 % interval over probe sets, marked where
        the interval excludes zero.
    """
    kinds = list(cells[0].metrics.values)
    views = list(dict.fromkeys(c.view for c in cells))
    kappas = list(dict.fromkeys(c.kappa for c in cells))
    wanted = [("attention", "centre"), ("attention", "random"), ("box", "centre"),
              ("box", "random"), ("attention", "box")]  # fmt: skip
    rows = [["difference", "at", *(TITLES[kind] for kind in kinds)]]
    for ours, theirs in wanted:
        if ours in views and theirs in views:
            for kappa in kappas:
                pair = _of(cells, ours, kappa), _of(cells, theirs, kappa)
                label = [f"{ours} − {theirs}", similarity_name(kappa)]
                rows.append([*label, *(_difference(*pair, kind) for kind in kinds)])
    for kappa in kappas:
        if kappa and 0.0 in kappas:
            for view in views:
                pair = _of(cells, view, kappa), _of(cells, view, 0.0)
                label = [f"{similarity_name(kappa)} − cosine", view]
                rows.append([*label, *(_difference(*pair, kind) for kind in kinds)])
    return markdown(rows)


def write_ablation(path: str | Path, cells: Sequence[Cell]) -> None:
    """Write one CSV row for every cell and metric, as `read_ablation` reads it."""
    write_rows(path, Row._fields, (row for cell in cells for row in _rows_of(cell)))


def write_rows(path: str | Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file with the names of its columns."""

    def content(file: io.TextIOBase) -> None:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)

    write_whole(path, content)


class Row(NamedTuple):
    """One metric of one cell, as `ablation.csv` holds it."""

    vocabulary: str
    probe: str
    view: str
    kappa: float
    metric: str
    mean: float
    standard_error: float
    ceiling: float
    neurons: int


def _rows_of(cell: Cell) -> list[Row]:
    where = cell.vocabulary, cell.probe, cell.view, cell.kappa
    return [Row._make((*where, *own)) for own in estimates(cell.metrics, cell.ceilings)]


def estimates(measured: Metrics, ceilings: Metrics) -> list[tuple[str, float, float, float, int]]:
    """Each metric's name, mean, standard error, ceiling and neurons, as the CSV files hold them."""
    best = ceilings.estimates
    return [
        (kind, _short(v.mean), _short(v.error), _short(best[kind].mean), v.count)
        for kind, v in measured.estimates.items()
    ]


def _short(number: float) -> float:
    return float(f"{number:.6g}")


def read_ablation(path: str | Path) -> list[Row]:
    """Read the rows that `write_ablation` wrote.

    Raises:
        InputError: the file is missing or holds something else.
    """
    content = read_file(path)
    if content is None:
        raise InputError(
            f"{path} does not exist: nothing was measured there yet; give --config to measure."
        )
    try:
        return [_row(line) for line in csv.DictReader(content.decode().splitlines())]
    except (LookupError, TypeError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path} is no ablation of this version ({error}): measure anew in another working "
            "directory."
        ) from error


def _row(line: dict[str, str]) -> Row:
    kinds = get_type_hints(Row)
    return Row(**{name: kinds[name](value) for name, value in line.items()})


def _conditions(cells: Sequence[Cell]) -> list[tuple[str, float]]:
    return list(dict.fromkeys((c.view, c.kappa) for c in cells))


def _of(cells: Sequence[Cell], view: str, kappa: float) -> list[Cell]:
    """One condition's cells, a probe set each, in the order by which conditions are paired."""
    here = [c for c in cells if (c.view, c.kappa) == (view, kappa)]
    return sorted(here, key=lambda c: c.probe)


def percent(measured: Sequence[Metrics], kind: str) -> str:
    """A metric × 100, mean ± standard error over neurons [95 % interval over probe sets].

    Args:
        measured: on each probe set; of a single one there is no interval.
        kind: of metric.
    """
    value, ends = summary(measured, kind)
    text = f"{100 * value.mean:.1f} ± {100 * value.error:.1f}"
    return text if ends is None else f"{text} [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"


def summary(measured: Sequence[Metrics], kind: str) -> tuple[Estimate, tuple[float, float] | None]:
    """A metric's estimate over neurons, and its 95 % interval over probe sets if there are several.

    Args:
        measured: on each probe set.
        kind: of metric.
    """
    values = [own.values[kind] for own in measured]
    return over_probes(values), interval([float(np.mean(own)) for own in values])


def _difference(ours: list[Cell], theirs: list[Cell], kind: str) -> str:
    gaps = [
        float(np.mean(a.metrics.values[kind] - b.metrics.values[kind]))
        for a, b in zip(ours, theirs, strict=True)
    ]
    ends = interval(gaps)
    text = f"{100 * np.mean(gaps):+.1f}"
    if ends is None:
        return text
    sign = " *" if ends[0] > 0 or ends[1] < 0 else ""
    return f"{text} [{100 * ends[0]:+.1f}, {100 * ends[1]:+.1f}]{sign}"


def markdown(rows: list[list[str]]) -> str:
    """Lay out rows, the first of which is the head, as a Markdown table."""
    return tabulate(rows[1:], rows[0], tablefmt="github", disable_numparse=True)
