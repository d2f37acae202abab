"""A sweep as a file, a table and a picture: each metric over κ, for every α and exemplar count."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.evaluation.statistics import interval
from jaxdesc.report.plots import MUTED, SERIES, house_style, rendered
from jaxdesc.report.tables import TITLES, estimates, markdown, percent, summary
from jaxdesc.store import Place, csv_file
from jaxdesc.sweep import Cell

SHOWN = 10  # rows of a table that is cut short
PANEL = 2.3, 1.6  # inches, where there are few columns
WIDEST = 14.0  # inches of all columns, as far as they stay
NARROWEST = 1.3  # inches
MARKERS = "osD^vP"


class Row(NamedTuple):
    """One metric of one cell, as `sweep.csv` holds it."""

    probe: str
    view: str
    kappa: float
    alpha: float
    exemplars: int
    metric: str
    mean: float
    standard_error: float
    ceiling: float
    neurons: int


def write(workdir: Place, cells: Sequence[Cell]) -> list[str]:
    """Write sweep.csv, one row for every cell and metric, and `figure` as sweep.png and sweep.svg.

    Returns:
        Names of the files; sweep-2.csv and so on, if those are of another sweep.
    """
    table = csv_file(Row._fields, (row for cell in cells for row in _rows_of(cell)))
    name = workdir.unused("sweep", ".csv", table.__eq__)
    files = {"csv": table, **rendered(figure(cells))}
    for kind, content in files.items():
        workdir.write(f"{name}.{kind}", content)
    return [f"{name}.{kind}" for kind in sorted(files)]


def _rows_of(cell: Cell) -> list[Row]:
    where = cell.probe, cell.view, cell.kappa, cell.alpha, cell.exemplars
    return [Row._make((*where, *own)) for own in estimates(cell.metrics, cell.ceilings)]


def table(cells: Sequence[Cell]) -> str:
    """Lay out a sweep as Markdown.

    Args:
        cells: of all probe sets.

    Returns:
        A row for each view, κ, α and number of exemplars, each metric as `tables.percent` shows it;
        of more than ten only those that are best by F1, and a line that says so.
    """
    conditions = list(dict.fromkeys(_condition(cell) for cell in cells))
    best = sorted(conditions, key=lambda own: -summary(_measured(cells, *own), "f1")[0].mean)
    few = len(conditions) <= SHOWN
    kinds = list(cells[0].metrics.values)
    rows = [["view", "κ", "α", "exemplars", *(TITLES[kind] for kind in kinds)]]
    for own in conditions if few else best[:SHOWN]:
        measured = _measured(cells, *own)
        view, *numbers = own
        texts = [view, *(f"{number:g}" for number in numbers)]
        rows.append([*texts, *(percent(measured, kind) for kind in kinds)])
    note = (
        ""
        if few
        else f"\n\nThe {SHOWN} best of {len(conditions)} by F1; the CSV file has them all."
    )
    return markdown(rows) + note


def figure(cells: Sequence[Cell]) -> Figure:
    """Draw each metric over κ: a row a metric, a column a view and α, a line an exemplar count.

    Args:
        cells: of all probe sets.

    Returns:
        The figure, of which pyplot knows nothing. Bands are 95 % intervals of the mean: over probe
        sets where there are several, and else over neurons; its legend tells which.
    """
    kinds, columns = list(cells[0].metrics.values), _columns(cells)
    width = max(NARROWEST, min(PANEL[0], WIDEST / len(columns)))
    size = (width * len(columns) + 0.6, PANEL[1] * len(kinds) + 0.8)
    with house_style():
        drawn = Figure(figsize=size, layout="constrained")
        grid = drawn.subplots(len(kinds), len(columns), sharex=True, squeeze=False)
        for kind, axes in zip(kinds, grid, strict=True):
            _share_scale(columns, axes)
            for column, panel in zip(columns, axes, strict=True):
                _draw_panel(panel, cells, column, kind)
            ceiling = 100 * cells[0].ceilings.estimates[kind].mean
            axes[0].set_ylabel(f"{TITLES[kind]} × 100\n(ceiling {ceiling:.1f})")
        for column, top, bottom in zip(columns, grid[0], grid[-1], strict=True):
            top.set_title(f"{column.view}, α = {column.alpha:g}")
            bottom.set_xlabel("κ (0 is the cosine)")
        _draw_legend(drawn, grid[0, 0], _band_name(cells))
    return drawn


def _draw_legend(drawn: Figure, panel: Axes, bands: str) -> None:
    legend = drawn.legend(
        *panel.get_legend_handles_labels(),
        title=f"exemplars a neuron\nbands: {bands}",
        title_fontproperties={"size": 7},
        loc="outside upper center",
        ncols=8,
    )
    legend.get_title().set(color=MUTED, multialignment="center")


class _Column(NamedTuple):
    view: str
    alpha: float


def _columns(cells: Sequence[Cell]) -> list[_Column]:
    return list(dict.fromkeys(_Column(cell.view, cell.alpha) for cell in cells))


def _draw_panel(panel: Axes, cells: Sequence[Cell], column: _Column, kind: str) -> None:
    kappas = sorted({cell.kappa for cell in cells})
    counts = sorted({cell.exemplars for cell in cells})
    for place, (count, colour) in enumerate(zip(counts, _colours(len(counts)), strict=True)):
        points = [
            _point(_measured(cells, column.view, kappa, column.alpha, count), kind)
            for kappa in kappas
        ]
        low, middle, high = np.transpose(points)
        marker = MARKERS[place % len(MARKERS)]
        panel.plot(
            kappas,
            middle,
            color=colour,
            marker=marker,
            markersize=3,
            linewidth=1.1,
            label=f"{count}",
        )
        panel.fill_between(kappas, low, high, color=colour, alpha=0.09, linewidth=0)
        for edge in (low, high):  # of bands that overlap, which is which
            panel.plot(kappas, edge, color=colour, linewidth=0.5, linestyle=(place, (4, 2)))
    positive = [kappa for kappa in kappas if kappa > 0]
    panel.set_xscale("symlog", linthresh=min(positive, default=1.0), linscale=0.5)
    panel.set_xticks(kappas, [f"{kappa:g}" for kappa in kappas])
    panel.minorticks_off()
    panel.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    panel.grid(color=MUTED, alpha=0.18, linewidth=0.4)


def _colours(count: int) -> Sequence[Any]:
    """A colour a line; where there are more than the style has, from light to dark."""
    if count <= len(SERIES):
        return SERIES[:count]
    return list(matplotlib.colormaps["plasma"](np.linspace(0.8, 0.05, count)))


def _share_scale(columns: Sequence[_Column], axes: Iterable[Axes]) -> None:
    """One scale for all α of a view; views may lie so far apart that a common one shows nothing."""
    first: dict[str, Axes] = {}
    for column, panel in zip(columns, axes, strict=True):
        if column.view in first:
            panel.sharey(first[column.view])
            panel.tick_params(labelleft=False)
        else:
            first[column.view] = panel


def _point(measured: Sequence[Metrics], kind: str) -> tuple[float, float, float]:
    """Lower end, middle and upper end of a band, × 100; of one neuron the band has no width."""
    value, ends = summary(measured, kind)
    if len(measured) == 1:
        ends = interval([float(own) for own in measured[0].values[kind]])
    low, high = ends or (value.mean, value.mean)
    return 100 * low, 100 * value.mean, 100 * high


def _band_name(cells: Sequence[Cell]) -> str:
    probes = len({cell.probe for cell in cells})
    if probes > 1:
        return f"95 % interval over {probes} probe sets"
    (count,) = {value.count for value in cells[0].metrics.estimates.values()}
    return f"95 % interval over {count} neurons of one probe set"


def _condition(cell: Cell) -> tuple[str, float, float, int]:
    return cell.view, cell.kappa, cell.alpha, cell.exemplars


def _measured(cells: Sequence[Cell], *condition: object) -> list[Metrics]:
    """The metrics of one view, κ, α and number of exemplars, on each probe set."""
    return [cell.metrics for cell in cells if _condition(cell) == condition]
