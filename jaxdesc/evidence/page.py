"""The page of evidence, made from tables alone: every number and every verdict is looked up.

The text is a template. Its verdicts ("better", "no clear difference") follow from intervals.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from jaxdesc.evaluation.judging.judgement import ABLATION, COSY
from jaxdesc.evaluation.judging.measures import JUDGES
from jaxdesc.evaluation.statistics import Bounds
from jaxdesc.evidence.table import Cell, Table
from jaxdesc.report import tables as layout

# Columns that are not shares, and are shown as they are and not × 100.
PLAIN = (
    *("AUC", "SMD", "p", "kappa", "field", "impurity", "clarity", "polysemanticity"),
    *(*JUDGES, *COSY, *ABLATION, "order of methods", "order of all", "right above wrong"),
    *("name − label", "missing", "extra"),
)

# An interval's end so near to zero is zero, up to the order of a sum.
_ROUNDING = 1e-9


def render(tables: Iterable[Table], facts: Mapping[str, Any]) -> str:
    """The page as Markdown, with facts about the run: "seconds", "device", "cores" and "jax".

    Raises:
        ValueError: a table, column or row that the template asks for is missing.
    """
    by_name = {table.name: table for table in tables}
    environment = Environment(
        loader=PackageLoader("jaxdesc.evidence"),
        undefined=StrictUndefined,
        autoescape=False,  # Markdown, of the project's words and numbers
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

    def named(name: str) -> Table:
        if name not in by_name:
            raise ValueError(f"the page asks for table {name!r}, but has {', '.join(by_name)}.")
        return by_name[name]

    return environment.get_template("evidence.md").render(
        measured=by_name.__contains__,
        table=lambda name, columns=(), **where: markdown(named(name), columns, **where),
        at=lambda name, column, **where: named(name).at(column, **where),
        sides=lambda name, column, over, *texts, **where: summary(
            named(name), column, over, *texts, **where
        ),
        points=points,
        number=number,
        verdict=verdict,
        **facts,
    )


def dump(tables: Iterable[Table], facts: Mapping[str, Any]) -> str:
    """Tables and facts as JSON, for `load`."""
    content = {"facts": dict(facts), "tables": [table.to_dict() for table in tables]}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def load(text: str) -> tuple[tuple[Table, ...], dict[str, Any]]:
    """Read the tables and facts of `dump`."""
    content = json.loads(text)
    return tuple(map(Table.from_dict, content["tables"])), content["facts"]


def markdown(table: Table, columns: Sequence[str] = (), **where: Cell) -> str:
    """A table as Markdown: shares × 100, with their intervals, of the rows with some values.

    By default it has all columns except those of `where`.
    """
    names = columns or [name for name in table.columns if name not in where]
    indices = [table.columns.index(name) for name in names]
    rows = _rows(table, **where)
    cells = [[_text(name, row[i]) for name, i in zip(names, indices, strict=True)] for row in rows]
    return layout.markdown([list(names), *cells])


def summary(
    table: Table,
    column: str,
    over: str,
    more: str = "better",
    less: str = "worse",
    **where: Cell,
) -> str:
    """The verdicts of a column of differences, each with its rows by the names of column `over`."""
    verdicts: dict[str, list[str]] = {}
    for row in _rows(table, **where):
        cell, name = row[table.columns.index(column)], row[table.columns.index(over)]
        if isinstance(cell, Bounds):
            text = number(name) if isinstance(name, float) else str(name)
            verdicts.setdefault(verdict(cell, more, less), []).append(text)
    return "; ".join(f"{text} for {', '.join(names)}" for text, names in verdicts.items())


def points(bounds: Bounds, sign: bool = False) -> str:
    """A share × 100 with its interval; a difference with its sign."""
    plus = "+" if sign else ""
    # The sum turns the zero that a small negative number is rounded to into a plain one.
    mean, low, high = (f"{round(100 * end, 1) + 0.0:{plus}.1f}" for end in bounds)
    return f"{mean} [{low}, {high}]".replace("-", "−")


def verdict(difference: Bounds, more: str = "better", less: str = "worse") -> str:
    """The verdict of a difference's interval: it excludes zero, on either side, or does not."""
    if difference.low > _ROUNDING:
        return more
    if difference.high < -_ROUNDING:
        return less
    return "no clear difference"


def number(value: Any) -> str:
    """A number or an interval as it is, in three digits."""
    if isinstance(value, Bounds):
        mean, low, high = (f"{round(end, 2) + 0.0:.2f}" for end in value)
        return f"{mean} [{low}, {high}]".replace("-", "−")
    return f"{value:.3g}".replace("-", "−") if isinstance(value, float) else str(value)


def _rows(table: Table, **where: Cell) -> list[tuple[Cell, ...]]:
    indices = {table.columns.index(name): value for name, value in where.items()}
    return [row for row in table.rows if all(row[i] == v for i, v in indices.items())]


def _text(column: str, cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str | int):
        return str(cell)
    if column.partition(",")[0].partition("@")[0] in PLAIN:
        return number(cell)
    if isinstance(cell, Bounds):
        return points(cell, sign="−" in column)
    return f"{100 * cell:.1f}"
