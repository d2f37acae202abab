"""Tables of evidence: plain values that go through JSON, so that a page can be checked by them."""

from dataclasses import dataclass
from typing import Any

from jaxdesc.evaluation.statistics import Bounds

Cell = str | int | float | Bounds | None


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: by which a page asks for it.
        columns: their heads; every row has a cell for each.
        rows: cells: text, numbers, a mean with its 95 % interval, or nothing.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        """Refuse rows of another length.

        Raises:
            ValueError: a row has too many or too few cells.
        """
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"a row of table {self.name!r} has {len(row)} cells, but there are "
                    f"{len(self.columns)} columns: {row}."
                )

    def at(self, column: str, **where: Cell) -> Cell:
        """The cell of a column in the one row whose other columns have these values.

        Raises:
            ValueError: no row has them, or more than one.
        """
        places = {name: self.columns.index(name) for name in where}
        found = [row for row in self.rows if all(row[places[n]] == v for n, v in where.items())]
        if len(found) != 1:
            raise ValueError(f"{len(found)} rows of table {self.name!r} have {where}, not one.")
        return found[0][self.columns.index(column)]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, as JSON holds them; a `Bounds` is a list of three numbers."""
        rows = [[list(c) if isinstance(c, Bounds) else c for c in row] for row in self.rows]
        return {"name": self.name, "columns": list(self.columns), "rows": rows}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Table":
        """What `to_dict` gave."""
        rows = [tuple(Bounds(*c) if isinstance(c, list) else c for c in r) for r in values["rows"]]
        return cls(values["name"], tuple(values["columns"]), tuple(rows))
