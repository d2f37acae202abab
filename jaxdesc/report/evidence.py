"""The page of evidence, made of tables alone: every number and every verdict in it is looked up.

The text around them is a template; whether something helps, or no difference can be told, is what
an interval says, not what was written down once.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from jaxdesc.evaluation.statistics import Bounds
from jaxdesc.evidence.table import Cell, Table
from jaxdesc.report import tables as layout
from jaxdesc.report.page import TEMPLATES

# Columns that are no shares, and so stand as they are and not × 100.
PLAIN = ("AUC", "SMD", "p", "kappa", "field", "impurity")

# An end of an interval that lies so near to zero is zero, summed in some order.
_ROUNDING = 1e-9


def render(tables: Iterable[Table], facts: Mapping[str, Any]) -> str:
    """The page, as Markdown.

    Args:
        tables: all that the template asks for.
        facts: what it says of the run: "seconds" of each study, "device", "cores", "jax".

    Raises:
        ValueError: a table, column or row that the template asks for isn't there.
    """
    by_name = {table.name: table for table in tables}
    environment = Environment(
        loader=PackageLoader("jaxdesc.report", TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,  # Markdown, of the project's own words and numbers
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    page = environment.get_template("evidence.md")

    def table(name: str, columns: Sequence[str] = (), **where: Cell) -> str:
        return markdown(_found(by_name, name), columns, **where)

    def at(name: str, column: str, **where: Cell) -> Cell:
        return _found(by_name, name).at(column, **where)

    def sides(name: str, column: str, over: str, **where: Cell) -> str:
        return summary(_found(by_name, name), column, over, **where)

    shown = {"points": points, "number": number, "verdict": verdict}
    return page.render(table=table, at=at, sides=sides, **shown, **facts)


def dump(tables: Iterable[Table], facts: Mapping[str, Any]) -> str:
    """Tables and facts as JSON, from which `load` reads them back."""
    content = {"facts": dict(facts), "tables": [table.to_dict() for table in tables]}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def load(text: str) -> tuple[tuple[Table, ...], dict[str, Any]]:
    """What `dump` wrote."""
    content = json.loads(text)
    return tuple(map(Table.from_dict, content["tables"])), content["facts"]


def markdown(table: Table, columns: Sequence[str] = (), **where: Cell) -> str:
    """A table as Markdown: shares × 100, with their intervals.

    Args:
        table: what is laid out.
        columns: some of its columns; all but those of `where` if not given.
        where: which rows: those that have these values in these columns.
    """
    rows = _rows(table, **where)
    names = columns or [name for name in table.columns if name not in where]
    places = [table.columns.index(name) for name in names]
    cells = [[_text(table.columns[i], row[i]) for i in places] for row in rows]
    return layout.markdown([list(names), *cells])


def summary(table: Table, column: str, over: str, **where: Cell) -> str:
    """What the intervals of some differences say, each verdict with the rows that it holds for.

    Args:
        table: of the differences.
        column: in which they stand.
        over: the column that tells the rows apart.
        where: which rows.
    """
    said: dict[str, list[str]] = {}
    for row in _rows(table, **where):
        cell, own = row[table.columns.index(column)], row[table.columns.index(over)]
        if isinstance(cell, Bounds):
            text = number(own) if isinstance(own, float) else str(own)
            said.setdefault(verdict(cell), []).append(text)
    return "; ".join(f"{what} for {', '.join(own)}" for what, own in said.items())


def _rows(table: Table, **where: Cell) -> list[tuple[Cell, ...]]:
    places = {table.columns.index(name): value for name, value in where.items()}
    return [row for row in table.rows if all(row[i] == v for i, v in places.items())]


def points(bounds: Bounds, sign: bool = False) -> str:
    """A share × 100 with its interval, of a difference with its sign."""
    plus = "+" if sign else ""
    # The sum makes the zero that a small negative number is rounded to a plain one.
    mean, low, high = (f"{round(100 * end, 1) + 0.0:{plus}.1f}" for end in bounds)
    return f"{mean} [{low}, {high}]".replace("-", "−")


def verdict(difference: Bounds, more: str = "better", less: str = "worse") -> str:
    """What an interval of a difference says: that it excludes zero, on which side, or neither."""
    if difference.low > _ROUNDING:
        return more
    if difference.high < -_ROUNDING:
        return less
    return "no difference can be told"


def number(value: Any) -> str:
    """A number or an interval as it is, in three digits."""
    if isinstance(value, Bounds):
        mean, low, high = (f"{round(end, 2) + 0.0:.2f}" for end in value)
        return f"{mean} [{low}, {high}]".replace("-", "−")
    return f"{value:.3g}".replace("-", "−") if isinstance(value, float) else str(value)


def _text(column: str, cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str | int):
        return str(cell)
    if column.split(",")[0] in PLAIN:
        return number(cell)
    if isinstance(cell, Bounds):
        return points(cell, sign="−" in column)
    return f"{100 * cell:.1f}"


def _found(by_name: Mapping[str, Table], name: str) -> Table:
    if name not in by_name:
        raise ValueError(f"the page asks for table {name!r}, but there are {', '.join(by_name)}.")
    return by_name[name]
