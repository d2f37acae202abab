"""Tables and their files: an ablation, the differences that answer its questions, methods."""

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, get_type_hints

import numpy as np
from tabulate import tabulate

from jaxdesc.errors import InputError, printable
from jaxdesc.evaluation.methods import AGAINST
from jaxdesc.evaluation.metrics import METRICS, Estimate, Metrics, estimate
from jaxdesc.evaluation.statistics import Bounds, interval, mcnemar, paired
from jaxdesc.pipeline import Cell, Comparison
from jaxdesc.result import CERTAINTY
from jaxdesc.store import Place, read_file, write_file, write_rows

HUBS = 10  # hub concepts that are named
_WHERE = ("vocabulary", "probe", "view", "kappa")  # what identifies a cell
_Condition = tuple[str, float]  # view and κ


def certainty(unnamed: float | None, hubs: Mapping[str, float]) -> str:
    """Sentences on the certainty of a run's concepts, from `Result.unnamed` and `Result.hubs`."""
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
    if entry == "t_vmf" and kappa != 0:
        return f"t-vMF κ={kappa:g}"
    return "cosine" if entry in ("t_vmf", "cosine") else f"{entry} ({kappa:g})"


def ablation(cells: Sequence[Cell]) -> str:
    """Lay out the cells of one vocabulary as Markdown, one row per view and κ.

    Each metric × 100 is the mean ± standard error over neurons, with the 95 % interval over probe
    sets if there are several.
    """
    kinds = list(cells[0].metrics.values)
    rows = [["view", "similarity", *(METRICS[kind].title for kind in kinds)]]
    for view, kappa in _conditions(cells):
        measured = [cell.metrics for cell in cells if (cell.view, cell.kappa) == (view, kappa)]
        rows.append([view, similarity_name(kappa), *(percent(measured, kind) for kind in kinds)])
    return markdown(rows)


class Gap(NamedTuple):
    """A difference between two conditions: which, what both have in common, and how large.

    `bounds` has for each metric the mean difference, and its 95 % interval by the paired bootstrap
    over neurons, each neuron's metric averaged over the probe sets first; `p` is McNemar's exact p
    of the hits on the first probe set, None if hits aren't measured.
    """

    what: str
    at: str
    bounds: Mapping[str, Bounds]
    p: float | None


def gaps(cells: Sequence[Cell]) -> list[Gap]:
    """Compare views pairwise, t-vMF with the cosine, and both with neither, on one vocabulary."""
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
        p = mcnemar(first[0]["hit"] > 0, second[0]["hit"] > 0).p if "hit" in bounds else None
        found.append(Gap(what, at, bounds, p))
    return found


def _comparisons(cells: Sequence[Cell]) -> Iterator[tuple[str, str, _Condition, _Condition]]:
    """The title of each comparison, what both sides have in common, and both conditions."""
    views = list(dict.fromkeys(cell.view for cell in cells))
    kappas = list(dict.fromkeys(cell.kappa for cell in cells))
    pairs = "attention centre", "attention random", "box centre", "box random", "attention box"
    for ours, theirs in map(str.split, pairs):
        for kappa in kappas:
            yield f"{ours} − {theirs}", similarity_name(kappa), (ours, kappa), (theirs, kappa)
    for kappa in filter(None, kappas):
        name = similarity_name(kappa)
        for view in views:
            yield f"{name} − cosine", view, (view, kappa), (view, 0.0)
        yield f"attention, {name} − centre, cosine", "", ("attention", kappa), ("centre", 0.0)


def _conditions(cells: Sequence[Cell]) -> list[_Condition]:
    return list(dict.fromkeys((cell.view, cell.kappa) for cell in cells))


def differences(cells: Sequence[Cell]) -> str:
    """Lay out `gaps` as Markdown, × 100, with a star if the interval excludes zero."""
    kinds = list(cells[0].metrics.values)
    rows = [["difference", "at", *(METRICS[kind].title for kind in kinds), "McNemar's p"]]
    for gap in gaps(cells):
        row = [gap.what, gap.at]
        for kind in kinds:
            bounds = gap.bounds[kind]
            star = " *" if bounds.low > 0 or bounds.high < 0 else ""
            row.append(f"{_percent(bounds, '+')}{star}")
        rows.append([*row, "" if gap.p is None else f"{gap.p:.2g}"])
    return markdown(rows)


def write_differences(path: str | Path, cells: Sequence[Cell]) -> None:
    """Write `gaps` of each vocabulary, one CSV row per metric."""
    names = ("vocabulary", "difference", "at", "metric", "mean", "low", "high", "mcnemar_p")
    rows = (
        (words, gap.what, gap.at, kind, *map(_short, bounds), gap.p if kind == "hit" else None)
        for words, group in by_vocabulary(cells).items()
        for gap in gaps(group)
        for kind, bounds in gap.bounds.items()
    )
    write_rows(path, names, rows)


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
    """Read the rows of `write_ablation`."""
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
    """A metric × 100 as text: mean ± standard error [95 % interval], as `summary` gives them."""
    value, ends = summary(measured, kind)
    text = f"{100 * value.mean:.1f} ± {100 * value.error:.1f}"
    return text if ends is None else f"{text} [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"


def summary(measured: Sequence[Metrics], kind: str) -> tuple[Estimate, tuple[float, float] | None]:
    """A metric's estimate over neurons, and its 95 % interval if there are several probe sets."""
    values = [metrics.values[kind] for metrics in measured]
    return estimate(np.mean(values, axis=0)), interval([float(np.mean(each)) for each in values])


def markdown(rows: list[list[str]]) -> str:
    """Lay out a head row and more rows as a Markdown table."""
    return tabulate(rows[1:], rows[0], tablefmt="github", disable_numparse=True)


def write_comparison(workdir: Place, found: Comparison) -> str:
    """Write compare.csv, a row per method, compare.md, and certainty.csv, a row per concept.

    Returns "compare"; "compare-2" and so on, if compare.csv has other methods.
    """
    ends = [f"{of}{end}" for of in ("", "_difference") for end in ("", "_low", "_high")]
    kinds = found.lines[AGAINST].bounds
    rows = []
    for method, line in found.lines.items():
        values = [end for kind in kinds for end in (*line.bounds[kind], *line.differences[kind])]
        held_out = line.held_out.mean if line.held_out else None
        rows.append([method, *values, line.test.p, round(line.seconds, 3), held_out])

    def same_methods(content: bytes) -> bool:
        written = content.decode("utf-8", "replace").split("\n")[1:-1]
        return [line.partition(",")[0] for line in written] == list(found.lines)

    head = ["method", *(kind + end for kind in kinds for end in ends), "p", "seconds", "held_out"]
    name = workdir.unused("compare", ".csv", same_methods)
    write_rows(workdir / f"{name}.csv", head, rows)
    write_file(workdir / f"{name}.md", f"{comparison(found)}\n".encode())
    concepts = (
        (neuron.unit, text, *map(neuron.certainty(rank).get, CERTAINTY))
        for neuron in found.result
        for rank, (text, _) in enumerate(neuron.concepts)
    )
    write_rows(workdir / "certainty.csv", ("unit", "concept", *CERTAINTY), concepts)
    return name


def comparison(found: Comparison) -> str:
    """The table, metrics × 100 with 95 % intervals, and the certainty of the run's own concepts."""
    head = ["method"]
    for kind in found.lines[AGAINST].bounds:
        head += [METRICS[kind].title, f"− {AGAINST}"]
    rows = [[*head, "McNemar's p", "seconds"]]
    for name, line in found.lines.items():
        itself, row = name == AGAINST, [name]
        for kind, bounds in line.bounds.items():
            row += [_percent(bounds), "" if itself else _percent(line.differences[kind], "+")]
        rows.append([*row, "" if itself else f"{line.test.p:.2g}", f"{line.seconds:.2f}"])
    held_out = "".join(
        f"\n\n{name}: correlation of its sums with activations on images set aside for it "
        f"{mean.mean:.2f} [{mean.low:.2f}, {mean.high:.2f}]."
        for name, line in found.lines.items()
        if (mean := line.held_out)
    )
    sentences = certainty(found.result.unnamed, found.result.hubs)
    similarity = similarity_name(found.kappa, found.similarity)
    return f"{markdown(rows)}{held_out}\n\nthe run's concepts ({similarity}): {sentences}"


def _percent(bounds: Bounds, sign: str = "") -> str:
    mean, low, high = (f"{100 * end:{sign}.1f}" for end in bounds)
    return f"{mean} [{low}, {high}]"
