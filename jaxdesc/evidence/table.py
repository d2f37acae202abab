"""Tables of evidence: plain values that go through JSON, so that a page can be checked by them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxdesc import pipeline
from jaxdesc.evaluation.statistics import Bounds, bootstrap, mcnemar, paired

Cell = str | int | float | Bounds | None

# Metrics of class neurons in every study.
NAMES = {"hit": "Hit Rate", "f1": "F1"}

# Metrics of each neuron, a mapping per probe set.
Measured = Sequence[Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Table:
    """One table: rows of text, numbers, means with their 95 % intervals, or None.

    `name` is that by which a page asks for it; every row has a cell for each of the `columns`.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def at(self, column: str, **where: Cell) -> Cell:
        """The cell of a column in the one row whose other columns have these values.

        Raises:
            ValueError: no row has them, or more than one.
        """
        indices = {name: self.columns.index(name) for name in where}
        found = [row for row in self.rows if all(row[indices[n]] == v for n, v in where.items())]
        if len(found) != 1:
            raise ValueError(f"{len(found)} rows of table {self.name!r} have {where}, not one.")
        return found[0][self.columns.index(column)]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, as JSON holds them; a `Bounds` is a list of three numbers."""
        rows = [[list(c) if isinstance(c, Bounds) else c for c in row] for row in self.rows]
        return {"name": self.name, "columns": list(self.columns), "rows": rows}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Table":
        """The table that `to_dict` wrote."""
        rows = [tuple(Bounds(*c) if isinstance(c, list) else c for c in r) for r in values["rows"]]
        return cls(values["name"], tuple(values["columns"]), tuple(rows))


def grouped(cells: Iterable[pipeline.Cell], *by: str) -> dict[tuple[Any, ...], Measured]:
    """Metrics of a sweep by some of its cells' attributes, one mapping per probe set."""
    found: dict[tuple[Any, ...], list[Mapping[str, np.ndarray]]] = {}
    for cell in cells:
        found.setdefault(tuple(getattr(cell, name) for name in by), []).append(cell.metrics.values)
    return {**found}


def means(measured: Measured) -> tuple[Bounds, ...]:
    """Mean of each metric, each neuron averaged over the probe sets first."""
    return tuple(bootstrap(_averaged(measured, kind)) for kind in NAMES)


def differences(measured: Measured, other: Measured) -> tuple[Cell, ...]:
    """Difference of each metric, and McNemar's p of the first probe set; None from itself."""
    if measured is other:
        return (None,) * (len(NAMES) + 1)
    gaps = [paired(_averaged(measured, kind), _averaged(other, kind)) for kind in NAMES]
    return (*gaps, mcnemar(measured[0]["hit"] > 0, other[0]["hit"] > 0).p)


def _averaged(measured: Measured, kind: str) -> np.ndarray:
    return np.mean([values[kind] for values in measured], axis=0)
