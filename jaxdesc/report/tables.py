"""Tables of an ablation: every view × similarity, and the differences that answer its questions."""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, get_type_hints

import numpy as np
from tabulate import tabulate

from jaxdesc.ablation import Cell
from jaxdesc.errors import InputError, printable
from jaxdesc.evaluation.metrics import Estimate, Metrics
from jaxdesc.evaluation.statistics import Bounds, interval, mcnemar, over_probes, paired_over_probes
from jaxdesc.store import read_file, write_rows

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


class Gap(NamedTuple):
    """A difference of two conditions.

    Attributes:
        what: is compared.
        at: what both have in common.
        bounds: of each metric the mean difference, and its 95 % interval by the paired bootstrap
            over neurons, each neuron's metric averaged over the probe sets first.
        p: McNemar's exact p of the hits on the first probe set; None where hits aren't measured.
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
    known, found = set(_conditions(cells)), []
    for what, at, ours, theirs in _wanted(cells):
        if ours in known and theirs in known:
            found.append(Gap(what, at, *_gap(_of(cells, *ours), _of(cells, *theirs))))
    return found


_Condition = tuple[str, float]


def _wanted(cells: Sequence[Cell]) -> Iterator[tuple[str, str, _Condition, _Condition]]:
    """What is compared, at what, and the two conditions."""
    views = list(dict.fromkeys(c.view for c in cells))
    kappas = list(dict.fromkeys(c.kappa for c in cells))
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


def _gap(ours: list[Cell], theirs: list[Cell]) -> tuple[dict[str, Bounds], float | None]:
    """The same neurons on the same probe sets, the first of which comes first."""
    pairs = [(a.metrics.values, b.metrics.values) for a, b in zip(ours, theirs, strict=True)]
    first, second = zip(*pairs, strict=True)
    bounds = {
        kind: paired_over_probes(*([own[kind] for own in side] for side in (first, second)))
        for kind in first[0]
    }
    p = mcnemar(*(side[0]["hit"] > 0 for side in (first, second))).p if "hit" in bounds else None
    return bounds, p


def differences(cells: Sequence[Cell]) -> str:
    """Lay out `gaps` as Markdown, × 100, marked where the interval excludes zero.

    Args:
        cells: as in `gaps`.
    """
    kinds = list(cells[0].metrics.values)
    rows = [["difference", "at", *(TITLES[kind] for kind in kinds), "McNemar's p"]]
    for gap in gaps(cells):
        texts = [difference(gap.bounds[kind]) for kind in kinds]
        rows.append([gap.what, gap.at, *texts, "" if gap.p is None else f"{gap.p:.2g}"])
    return markdown(rows)


def difference(bounds: Bounds) -> str:
    """A difference × 100 and its interval, marked where that excludes zero."""
    mean, low, high = (f"{100 * end:+.1f}" for end in bounds)
    sign = " *" if bounds.low > 0 or bounds.high < 0 else ""
    return f"{mean} [{low}, {high}]{sign}"


def write_differences(path: str | Path, cells: Sequence[Cell]) -> None:
    """Write `gaps` of each vocabulary, one CSV row for every metric."""
    names = ("vocabulary", "difference", "at", "metric", "mean", "low", "high", "mcnemar_p")
    write_rows(
        path,
        names,
        (
            (words, gap.what, gap.at, kind, *map(_short, own), gap.p if kind == "hit" else None)
            for words, some in by_vocabulary(cells).items()
            for gap in gaps(some)
            for kind, own in gap.bounds.items()
        ),
    )


def by_vocabulary(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Cells of each vocabulary, in the order in which they come."""
    words = dict.fromkeys(cell.vocabulary for cell in cells)
    return {own: [cell for cell in cells if cell.vocabulary == own] for own in words}


def write_neurons(path: str | Path, cells: Sequence[Cell]) -> None:
    """Write every neuron's own metrics, one CSV row a cell and neuron, for `read_neurons`."""
    kinds = list(cells[0].metrics.values)
    rows = (
        (*_where(cell), unit, *map(_short, values))
        for cell in cells
        for unit, values in enumerate(zip(*cell.metrics.values.values(), strict=True))
    )
    write_rows(path, [*_WHERE, "unit", *kinds], rows)


def read_neurons(path: str | Path) -> list[Cell]:
    """Read the cells that `write_neurons` wrote, without their ceilings.

    Of a measurement that was stopped, probe sets that not all conditions have are left out.

    Raises:
        InputError: the file is missing or holds something else.
    """
    content = read_file(path)
    if content is None:
        raise InputError(
            f"{path} does not exist, which holds each neuron's own metrics since this version: "
            "give --config to measure anew."
        )
    found: dict[tuple[str, ...], list[list[float]]] = {}
    try:
        head, *lines = csv.reader(content.decode().splitlines())
        for line in lines:
            where, (_, *values) = tuple(line[: len(_WHERE)]), line[len(_WHERE) :]
            found.setdefault(where, []).append([float(value) for value in values])
        kinds = head[len(_WHERE) + 1 :]
        cells = [
            Cell(words, probe, view, float(kappa), _metrics(kinds, rows), Metrics({}))
            for (words, probe, view, kappa), rows in found.items()
        ]
    except (LookupError, TypeError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path} holds no metrics of neurons ({error}): measure anew in another working "
            "directory."
        ) from error
    return [cell for own in by_vocabulary(cells).values() for cell in _complete(own)]


def _metrics(kinds: Sequence[str], rows: Sequence[Sequence[float]]) -> Metrics:
    return Metrics(dict(zip(kinds, np.array(rows).T, strict=True)))


def _complete(cells: Sequence[Cell]) -> list[Cell]:
    whole = len(_conditions(cells))
    times = Counter(cell.probe for cell in cells)
    return [cell for cell in cells if times[cell.probe] == whole]


_WHERE = ("vocabulary", "probe", "view", "kappa")


def _where(cell: Cell) -> tuple[str, str, str, float]:
    return cell.vocabulary, cell.probe, cell.view, cell.kappa


def write_ablation(path: str | Path, cells: Sequence[Cell]) -> None:
    """Write one CSV row for every cell and metric, as `read_ablation` reads it."""
    write_rows(path, Row._fields, (row for cell in cells for row in _rows_of(cell)))


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
    return [Row._make((*_where(cell), *own)) for own in estimates(cell.metrics, cell.ceilings)]


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
    """One condition's cells, a probe set each, by which conditions are paired; the first first."""
    order = list(dict.fromkeys(c.probe for c in cells))
    here = [c for c in cells if (c.view, c.kappa) == (view, kappa)]
    return sorted(here, key=lambda c: order.index(c.probe))


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


def markdown(rows: list[list[str]]) -> str:
    """Lay out rows, the first of which is the head, as a Markdown table."""
    return tabulate(rows[1:], rows[0], tablefmt="github", disable_numparse=True)
