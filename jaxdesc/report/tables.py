"""Tables of an ablation: every view × similarity, and the differences that answer its questions."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from jaxdesc.evaluation.statistics import interval, over_probes
from jaxdesc.pipeline import Cell
from jaxdesc.result import write_whole

TITLES = {
    "hit": "Hit Rate",
    "f1": "F1",
    "clip_cos": "CLIP cos",
    "sentence_cos": "sentence cos",
}


def similarity_name(kappa: float) -> str:
    """Name a κ: its zero is the cosine."""
    return "cosine" if kappa == 0 else f"t-vMF κ={kappa:g}"


def ablation(cells: Sequence[Cell]) -> str:
    """Lay out an ablation as Markdown.

    Args:
        cells: of all probe sets.

    Returns:
        A row for each view and κ; each metric ×100 as mean ± standard error over neurons, and the
        95 % interval over probe sets where there are several.
    """
    kinds = list(cells[0].metrics.values)
    rows = [["view", "similarity", *(TITLES[kind] for kind in kinds)]]
    for view, kappa in _conditions(cells):
        here = [c for c in cells if (c.view, c.kappa) == (view, kappa)]
        rows.append([view, similarity_name(kappa), *(_measured(here, kind) for kind in kinds)])
    return _markdown(rows)


def differences(cells: Sequence[Cell]) -> str:
    """Compare views pairwise and t-vMF with the cosine, on the same neurons and probe sets.

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
    return _markdown(rows)


def write_ablation(path: Path, cells: Sequence[Cell]) -> None:
    """Write one CSV row for every view, κ, probe set and metric: mean and standard error."""

    def rows(file: IO[str]) -> None:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["view", "kappa", "probe", "metric", "mean", "standard_error", "neurons"])
        for cell in cells:
            for kind, value in cell.metrics.estimates.items():
                numbers = (f"{value.mean:.6g}", f"{value.error:.6g}", value.count)
                writer.writerow([cell.view, cell.kappa, cell.probe, kind, *numbers])

    write_whole(path, rows)


def _conditions(cells: Sequence[Cell]) -> list[tuple[str, float]]:
    return list(dict.fromkeys((c.view, c.kappa) for c in cells))


def _of(cells: Sequence[Cell], view: str, kappa: float) -> list[Cell]:
    """One condition's cells, a probe set each, in the order by which conditions are paired."""
    here = [c for c in cells if (c.view, c.kappa) == (view, kappa)]
    return sorted(here, key=lambda c: c.probe)


def _measured(cells: Sequence[Cell], kind: str) -> str:
    value = over_probes([c.metrics.values[kind] for c in cells])
    ends = interval([float(np.mean(c.metrics.values[kind])) for c in cells])
    text = f"{100 * value.mean:.1f} ± {100 * value.error:.1f}"
    return text if ends is None else f"{text} [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"


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


def _markdown(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |" for r in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)
