"""Tables of an ablation: every view × similarity, and the differences that answer its questions."""

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, get_type_hints

import numpy as np
from tabulate import tabulate

from jaxdesc.errors import InputError, printable
from jaxdesc.evaluation.metrics import METRICS, Estimate, Metrics, estimate
from jaxdesc.evaluation.statistics import Bounds, interval, mcnemar, paired
from jaxdesc.pipeline import Cell
from jaxdesc.store import read_file, write_rows

HUBS = 10  # that are named
_WHERE = ("vocabulary", "probe", "view", "kappa")  # what identifies a cell
_Condition = tuple[str, float]  # view and κ


def certainty(unnamed: float | None, hubs: Mapping[str, float]) -> str:
    """Sentences on the certainty of a run's concepts.

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


def similarity_name(kappa: float, entry: str = "t_vmf") -> str:
    """Name of the similarity at a κ: t-vMF at zero is the cosine."""
    if entry not in ("t_vmf", "cosine"):
        return f"{entry} ({kappa:g})"
    return "cosine" if entry == "cosine" or kappa == 0 else f"t-vMF κ={kappa:g}"


def ablation(cells: Sequence[Cell]) -> str:
    """Lay out an ablation as Markdown.

    Args:
        cells: of one vocabulary and all probe sets.

    Returns:
        One row per view and κ; each metric × 100 as mean ± standard error over neurons, with the
        95 % interval over probe sets if there are several.
    """
    kinds = list(cells[0].metrics.values)
    rows = [["view", "similarity", *(METRICS[kind].title for kind in kinds)]]
    for view, kappa in _conditions(cells):
        measured = [cell.metrics for cell in cells if (cell.view, cell.kappa) == (view, kappa)]
        rows.append([view, similarity_name(kappa), *(percent(measured, kind) for kind in kinds)])
    return markdown(rows)


class Gap(NamedTuple):
    """A difference between two conditions.

    Attributes:
        what: the two conditions.
        at: what both have in common.
        bounds: for each metric the mean difference, and its 95 % interval by the paired bootstrap
            over neurons, each neuron's metric averaged over the probe sets first.
        p: McNemar's exact p of the hits on the first probe set; None if hits aren't measured.
    """

    what: str
    at: str
    bounds: Mapping[str, Bounds]
    p: float | None


def gaps(cells: Sequence[Cell]) -> list[Gap]:
    """Compare views pairwise, t-vMF with the cosine, and both together with neither.

    Args:
        cells: of one vocabulary and all probe sets.
    """
    probes = list(dict.fromkeys(cell.probe for cell in cells))
    # The conditions are paired by probe set, in the order in which these were measured.
    ordered = sorted(cells, key=lambda cell: probes.index(cell.probe))
    sides: dict[_Condition, list[Cell]] = {condition: [] for condition in _conditions(cells)}
    for cell in ordered:
        sides[cell.view, cell.kappa].append(cell)
    found = []
    for what, at, ours, theirs in _comparisons(cells):
        if ours not in sides or theirs not in sides:
            continue
        pairs = zip(sides[ours], sides[theirs], strict=True)
        first, second = zip(*((a.metrics.values, b.metrics.values) for a, b in pairs), strict=True)
        bounds = {
            kind: paired(
                np.mean([values[kind] for values in first], axis=0),
                np.mean([values[kind] for values in second], axis=0),
            )
            for kind in first[0]
        }
        hits = "hit" in bounds
        p = mcnemar(first[0]["hit"] > 0, second[0]["hit"] > 0).p if hits else None
        found.append(Gap(what, at, bounds, p))
    return found


def _comparisons(cells: Sequence[Cell]) -> Iterator[tuple[str, str, _Condition, _Condition]]:
    """The title of each comparison, what both sides have in common, and both conditions."""
    views = list(dict.fromkeys(cell.view for cell in cells))
    kappas = list(dict.fromkeys(cell.kappa for cell in cells))
    pairs = [("attention", "centre"), ("attention", "random"), ("box", "centre"),
             ("box", "random"), ("attention", "box")]  # fmt: skip
    for ours, theirs in pairs:
        for kappa in kappas:
            yield f"{ours} − {theirs}", similarity_name(kappa), (ours, kappa), (theirs, kappa)
    for kappa in filter(None, kappas):
        name = similarity_name(kappa)
        for view in views:
            yield f"{name} − cosine", view, (view, kappa), (view, 0.0)
        both = f"attention, {name} − centre, cosine"
        yield both, "", ("attention", kappa), ("centre", 0.0)


def _conditions(cells: Sequence[Cell]) -> list[_Condition]:
    return list(dict.fromkeys((cell.view, cell.kappa) for cell in cells))


def differences(cells: Sequence[Cell]) -> str:
    """Lay out `gaps` as Markdown, × 100, with a star if the interval excludes zero.

    Args:
        cells: as in `gaps`.
    """
    kinds = list(cells[0].metrics.values)
    rows = [["difference", "at", *(METRICS[kind].title for kind in kinds), "McNemar's p"]]
    for gap in gaps(cells):
        row = [gap.what, gap.at]
        for kind in kinds:
            mean, low, high = (f"{100 * end:+.1f}" for end in gap.bounds[kind])
            excludes_zero = gap.bounds[kind].low > 0 or gap.bounds[kind].high < 0
            row.append(f"{mean} [{low}, {high}]{' *' if excludes_zero else ''}")
        rows.append([*row, "" if gap.p is None else f"{gap.p:.2g}"])
    return markdown(rows)


def write_differences(path: str | Path, cells: Sequence[Cell]) -> None:
    """Write `gaps` of each vocabulary, one CSV row per metric."""
    names = ("vocabulary", "difference", "at", "metric", "mean", "low", "high", "mcnemar_p")
    write_rows(
        path,
        names,
        (
            (words, gap.what, gap.at, kind, *map(_short, bounds), gap.p if kind == "hit" else None)
            for words, group in by_vocabulary(cells).items()
            for gap in gaps(group)
            for kind, bounds in gap.bounds.items()
        ),
    )


def by_vocabulary(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Cells of each vocabulary, in order."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.vocabulary, []).append(cell)
    return groups


def write_neurons(path: str | Path, cells: Sequence[Cell]) -> None:
    """Write every neuron's metrics, one CSV row per cell and neuron, for `read_neurons`."""
    rows = (
        (cell.vocabulary, cell.probe, cell.view, cell.kappa, unit, *map(_short, values))
        for cell in cells
        for unit, values in enumerate(zip(*cell.metrics.values.values(), strict=True))
    )
    write_rows(path, [*_WHERE, "unit", *cells[0].metrics.values], rows)


def read_neurons(path: str | Path) -> list[Cell]:
    """Read the cells of `write_neurons`, without their ceilings.

    If a measurement was stopped, probe sets that some condition lacks are left out.

    Raises:
        InputError: the file is missing or holds something else.
    """
    content = read_file(path)
    if content is None:
        raise InputError(
            f"{path} does not exist, which holds each neuron's own metrics since this version: "
            "give --config to measure again."
        )
    found: dict[tuple[str, ...], list[list[float]]] = {}
    cells = []
    try:
        head, *lines = csv.reader(content.decode().splitlines())
        for line in lines:
            where, (_, *values) = tuple(line[: len(_WHERE)]), line[len(_WHERE) :]
            found.setdefault(where, []).append([float(value) for value in values])
        for (words, probe, view, kappa), rows in found.items():  # the file has no α and no count
            metrics = Metrics(dict(zip(head[len(_WHERE) + 1 :], np.array(rows).T, strict=True)))
            cells.append(Cell(words, probe, view, float(kappa), math.nan, 0, metrics, Metrics({})))
    except (LookupError, TypeError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path} holds no metrics of neurons ({error}): measure again in another "
            "working directory."
        ) from error
    complete = []
    for group in by_vocabulary(cells).values():
        times = Counter(cell.probe for cell in group)
        complete += [cell for cell in group if times[cell.probe] == len(_conditions(group))]
    return complete


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


def write_ablation(path: str | Path, cells: Sequence[Cell]) -> None:
    """Write one CSV row per cell and metric, for `read_ablation`."""
    rows = (
        Row(cell.vocabulary, cell.probe, cell.view, cell.kappa, *estimate)
        for cell in cells
        for estimate in estimates(cell.metrics, cell.ceilings)
    )
    write_rows(path, Row._fields, rows)


def read_ablation(path: str | Path) -> list[Row]:
    """Read the rows of `write_ablation`.

    Raises:
        InputError: the file is missing or holds something else.
    """
    content = read_file(path)
    if content is None:
        raise InputError(
            f"{path} does not exist: nothing was measured there yet; give --config to measure."
        )
    kinds = get_type_hints(Row)
    try:
        return [
            Row(**{name: kinds[name](value) for name, value in line.items()})
            for line in csv.DictReader(content.decode().splitlines())
        ]
    except (LookupError, TypeError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path} is not an ablation of this version ({error}): measure again in another "
            "working directory."
        ) from error


def estimates(measured: Metrics, ceilings: Metrics) -> list[tuple[str, float, float, float, int]]:
    """Each metric's name, mean, standard error, ceiling and neurons, as the CSV files hold them."""
    best = ceilings.estimates
    return [
        (kind, _short(value.mean), _short(value.error), _short(best[kind].mean), value.count)
        for kind, value in measured.estimates.items()
    ]


def _short(number: float) -> float:
    return float(f"{number:.6g}")


def percent(measured: Sequence[Metrics], kind: str) -> str:
    """A metric × 100, mean ± standard error over neurons [95 % interval over probe sets].

    Args:
        measured: metrics on each probe set; a single one gives no interval.
        kind: the metric.
    """
    value, ends = summary(measured, kind)
    text = f"{100 * value.mean:.1f} ± {100 * value.error:.1f}"
    return text if ends is None else f"{text} [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"


def summary(measured: Sequence[Metrics], kind: str) -> tuple[Estimate, tuple[float, float] | None]:
    """A metric's estimate over neurons, and its 95 % interval over probe sets if there are several.

    Args:
        measured: metrics on each probe set.
        kind: the metric.
    """
    values = [metrics.values[kind] for metrics in measured]
    return estimate(np.mean(values, axis=0)), interval([float(np.mean(each)) for each in values])


def markdown(rows: list[list[str]]) -> str:
    """Lay out a head row and more rows as a Markdown table."""
    return tabulate(rows[1:], rows[0], tablefmt="github", disable_numparse=True)
