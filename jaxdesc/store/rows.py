"""Rows as a CSV file that a spreadsheet may open."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jaxdesc.store.place import write_file

# How a cell begins that a spreadsheet runs; the last four are full width.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def write_rows(
    path: str | Path, names: Sequence[str], rows: Iterable[Iterable[Any]], real: str = ""
) -> None:
    """Write `csv_file`, on a disk or in a bucket.

    Raises:
        InputError: it can't be written.
    """
    write_file(path, csv_file(names, rows, real))


def csv_file(names: Sequence[str], rows: Iterable[Iterable[Any]], real: str = "") -> bytes:
    """Lay rows out as a CSV file.

    Texts come from anybody, so one that a spreadsheet would take for a formula gets an apostrophe
    in front, by which spreadsheets know a text.

    Args:
        names: of the columns.
        rows: of texts, numbers and None.
        real: format of floats; all their digits by default.
    """

    def cell(value: Any) -> Any:
        if isinstance(value, str):
            return f"'{value}" if value.startswith(_FORMULA) else value
        return f"{value:{real}}" if isinstance(value, float) else value

    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(map(cell, row) for row in rows)
    return text.getvalue().encode()
