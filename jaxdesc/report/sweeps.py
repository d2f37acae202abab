"""A sweep as a file, a table and a figure: each metric over κ, for every α and exemplar count."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxdesc.evaluation.metrics import METRICS, Metrics
from jaxdesc.evaluation.statistics import interval
from jaxdesc.pipeline import Cell
from jaxdesc.report.plots import MUTED, SERIES, house_style, rendered
from jaxdesc.report.tables import estimates, markdown, percent, summary
from jaxdesc.store import Place, csv_file

SHOWN = 10  # rows of a table that is cut short
PANEL = 2.3, 1.6  # inches, if there are few columns
WIDEST, NARROWEST = 14.0, 1.3  # inches: most for all columns, but at least this for each
MARKERS = "osD^vP"
FIELDS = ("probe", "view", "kappa", "alpha", "exemplars", "metric", "mean", "standard_error",
          "ceiling", "neurons")  # fmt: skip


def write(workdir: Place, cells: Sequence[Cell]) -> list[str]:
    """Write sweep.csv, one row per cell and metric, and `figure` as sweep.png and sweep.svg.

    Returns the files' names; sweep-2.csv and so on, if those hold another sweep.
    """
    rows = (
        (cell.probe, *_condition(cell), *estimate)
        for cell in cells
        for estimate in estimates(cell.metrics, cell.ceilings)
    )
    table = csv_file(FIELDS, rows)
    name = workdir.unused("sweep", ".csv", table.__eq__)
    files = {"csv": table, **rendered(figure(cells))}
    for kind, content in files.items():
        workdir.write(f"{name}.{kind}", content)
    return [f"{name}.{kind}" for kind in sorted(files)]


def table(cells: Sequence[Cell]) -> str:
    """Lay out a sweep as Markdown, one row per view, κ, α and number of exemplars.

    Metrics are as `tables.percent` shows them over all probe sets. Of more than ten rows it has
    only the best by F1, and a line that says so.
    """
    conditions = list(dict.fromkeys(_condition(cell) for cell in cells))
    best = sorted(conditions, key=lambda where: -summary(_measured(cells, *where), "f1")[0].mean)
    few = len(conditions) <= SHOWN
    kinds = list(cells[0].metrics.values)
    rows = [["view", "κ", "α", "exemplars", *(METRICS[kind].title for kind in kinds)]]
    for view, *numbers in conditions if few else best[:SHOWN]:
        measured = _measured(cells, view, *numbers)
        texts = [view, *(f"{number:g}" for number in numbers)]
        rows.append([*texts, *(percent(measured, kind) for kind in kinds)])
    note = f"\n\nThe {SHOWN} best of {len(conditions)} by F1; the CSV file has them all."
    return markdown(rows) + ("" if few else note)


def figure(cells: Sequence[Cell]) -> Figure:
    """Draw each metric over κ: one row per metric, one column per view and α.

    Each panel has a line per number of exemplars. Bands are 95 % intervals of the mean, over probe
    sets if there are several, or else over neurons, as the legend says. The figure is not pyplot's.
    """
    kinds = list(cells[0].metrics.values)
    columns = list(dict.fromkeys((cell.view, cell.alpha) for cell in cells))
    width = max(NARROWEST, min(PANEL[0], WIDEST / len(columns)))
    size = (width * len(columns) + 0.6, PANEL[1] * len(kinds) + 0.8)
    probes = len({cell.probe for cell in cells})
    (count,) = {value.count for value in cells[0].metrics.estimates.values()}
    over = f"{probes} probe sets" if probes > 1 else f"{count} neurons of one probe set"
    with house_style():
        drawn = Figure(figsize=size, layout="constrained")
        grid = drawn.subplots(len(kinds), len(columns), sharex=True, squeeze=False)
        for kind, panels in zip(kinds, grid, strict=True):
            first: dict[str, Axes] = {}  # the views are too far apart for a common scale
            for (view, alpha), panel in zip(columns, panels, strict=True):
                if view in first:
                    panel.sharey(first[view])
                    panel.tick_params(labelleft=False)
                else:
                    first[view] = panel
                _draw_panel(panel, cells, view, alpha, kind)
            ceiling = 100 * cells[0].ceilings.estimates[kind].mean
            panels[0].set_ylabel(f"{METRICS[kind].title} × 100\n(ceiling {ceiling:.1f})")
        for (view, alpha), top, bottom in zip(columns, grid[0], grid[-1], strict=True):
            top.set_title(f"{view}, α = {alpha:g}")
            bottom.set_xlabel("κ (0 is the cosine)")
        legend = drawn.legend(
            *grid[0, 0].get_legend_handles_labels(),
            title=f"exemplars per neuron\nbands: 95 % interval over {over}",
            title_fontproperties={"size": 7},
            loc="outside upper center",
            ncols=8,
        )
        legend.get_title().set(color=MUTED, multialignment="center")
    return drawn


def _draw_panel(panel: Axes, cells: Sequence[Cell], view: str, alpha: float, kind: str) -> None:
    kappas = sorted({cell.kappa for cell in cells})
    counts = sorted({cell.exemplars for cell in cells})
    colours: Sequence[Any] = SERIES
    if len(counts) > len(SERIES):  # from light to dark
        colours = list(matplotlib.colormaps["plasma"](np.linspace(0.8, 0.05, len(counts))))
    for index, (count, colour) in enumerate(zip(counts, colours, strict=False)):
        points = [_point(_measured(cells, view, kappa, alpha, count), kind) for kappa in kappas]
        low, middle, high = np.transpose(points)
        shape: Any = {"marker": MARKERS[index % len(MARKERS)], "markersize": 3, "linewidth": 1.1}
        panel.plot(kappas, middle, color=colour, label=f"{count}", **shape)
        panel.fill_between(kappas, low, high, color=colour, alpha=0.09, linewidth=0)
        for edge in (low, high):  # shows which of the overlapping bands is which
            panel.plot(kappas, edge, color=colour, linewidth=0.5, linestyle=(index, (4, 2)))
    positive = [kappa for kappa in kappas if kappa > 0]
    panel.set_xscale("symlog", linthresh=min(positive, default=1.0), linscale=0.5)
    panel.set_xticks(kappas, [f"{kappa:g}" for kappa in kappas])
    panel.minorticks_off()
    panel.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    panel.grid(color=MUTED, alpha=0.18, linewidth=0.4)


def _point(measured: Sequence[Metrics], kind: str) -> tuple[float, float, float]:
    """Low end, middle and high end of a band, × 100; without width for a single neuron."""
    value, ends = summary(measured, kind)
    if len(measured) == 1:
        ends = interval([float(metric) for metric in measured[0].values[kind]])
    low, high = ends or (value.mean, value.mean)
    return 100 * low, 100 * value.mean, 100 * high


def _condition(cell: Cell) -> tuple[str, float, float, int]:
    return cell.view, cell.kappa, cell.alpha, cell.exemplars


def _measured(cells: Sequence[Cell], *condition: object) -> list[Metrics]:
    """The metrics of one view, κ, α and number of exemplars, on each probe set."""
    return [cell.metrics for cell in cells if _condition(cell) == condition]
