"""Labels of units from any source, and the tables that others publish them in."""

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from jaxdesc.errors import InputError, shown

UNIT, TEXT = ("unit", "neuron"), ("description", "concept")
FORMULA = ("=", "+", "-", "@")  # first letters of what a spreadsheet takes for a formula
FORM = (
    "columns unit (or neuron) and description (or concept), or concept0, weight0, … and bias; "
    "optional are layer and rank"
)


@dataclass(frozen=True)
class Label:
    """A description of a unit: a concept, or a weighted sum of several and a bias.

    Attributes:
        concepts: texts, the heaviest first.
        weights: one for each, or none for a single concept.
        bias: of the sum.
    """

    concepts: tuple[str, ...]
    weights: tuple[float, ...] = ()
    bias: float = 0.0

    def __str__(self) -> str:
        """Show the concept, or the sum."""
        if not self.weights:
            return self.concepts[0]
        terms = zip(self.weights, self.concepts, strict=True)
        return " + ".join(f"{weight:.2g} {text}" for weight, text in terms)


# Labels by unit; a unit that has none is missing.
Labels = Mapping[int, Label]


def read_labels(path: str | Path, layer: str, units: int) -> dict[int, Label]:
    """Read the labels of a layer's units from a CSV file.

    CLIP-Dissect's and MILAN's (layer, unit, description), CoSy's (neuron, concept), Linear
    Explanations' (unit, weight0, concept0, …, bias) and the concepts.csv of a run, or its folder,
    load as they are. Of several rows of a unit that of the lowest rank counts.

    Raises:
        InputError: a file that is not such a table, without a label of this layer, with a unit that
            the layer does not have, or with several labels of a unit of the same rank.
    """
    name, path = str(path), Path(path)
    if path.is_dir():
        path = path / "concepts.csv"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"labels {name!r} can't be read ({error}): give a CSV file.") from error
    try:
        head, *rows = csv.reader(io.StringIO(text, newline=""))
    except (ValueError, csv.Error) as error:  # ValueError: it has no line
        raise InputError(f"labels {name!r} are not a table ({error}): expected {FORM}.") from error
    columns = [column.strip() for column in head]
    unit = next((column for column in UNIT if column in columns), None)
    weighted = "concept0" in columns and "weight0" in columns
    single = next((column for column in TEXT if column in columns), None)
    if unit is None or not (weighted or single):
        raise InputError(f"labels {name!r} have the columns {', '.join(columns)}: expected {FORM}.")
    found: dict[int, tuple[float, Label]] = {}
    others: set[str] = set()
    for number, cells in enumerate(rows, 1):
        row, where = dict(zip(columns, cells, strict=False)), f"row {number} of labels {name!r}"
        if not any(cells):
            continue
        if row.get("layer") not in (None, "", layer):
            others.add(str(row["layer"]))
            continue
        index = _unit(row[unit], where, units, layer)
        label = _weighted(row, where) if weighted else _single(row[single or ""])
        rank = _number(row["rank"], "rank", where) if row.get("rank") else 0.0
        before = found.get(index)
        if label and before and rank == before[0] and label != before[1]:
            raise InputError(
                f"{where} has a second label of unit {index}: keep one, or number them in a column "
                "rank."
            )
        if label and (before is None or rank < before[0]):
            found[index] = rank, label
    if not found:
        has = f"labels of layers {', '.join(sorted(others))}" if others else "no label"
        raise InputError(
            f"labels {name!r} have {has}, and none of {layer!r}: name that layer in the column "
            "layer, or leave the column out."
        )
    return {unit: label for unit, (_, label) in found.items()}


def labels_of(given: Any, name: str, layer: str, units: int) -> dict[int, Label]:
    """Read the labels of a source from a CSV file, or from a mapping of units to texts.

    Raises:
        InputError: as `read_labels`, or for a mapping of anything else.
    """
    if not isinstance(given, Mapping):
        if not isinstance(given, str | os.PathLike):
            raise InputError(
                f"labels {shown(name)} are {shown(given)}: expected a CSV file, or a text for each "
                "unit."
            )
        return read_labels(os.path.expanduser(given), layer, units)
    found = {}
    for unit, text in given.items():
        label = text if isinstance(text, Label) else None
        if isinstance(text, str) and text.strip():
            label = Label((text.strip(),))
        if label is None or isinstance(unit, bool) or not hasattr(unit, "__index__"):
            raise InputError(
                f"labels {shown(name)} have {shown({unit: text})}: expected a text for each unit."
            )
        found[_unit(str(unit), f"the source {shown(name)}", units, layer)] = label
    return found


def _unit(text: str | None, where: str, units: int, layer: str) -> int:
    try:
        index = int(text or "")
    except ValueError:
        index = -1
    if not 0 <= index < units:
        raise InputError(
            f"{where} has the unit {shown(text)}: {layer!r} has units from 0 to {units - 1}."
        )
    return index


def _single(text: str | None) -> Label | None:
    words = " ".join((text or "").split())
    if words[:1] == "'" and words[1:2] in FORMULA:  # as the tables of a run mark it
        words = words[1:]
    return Label((words,)) if words else None


def _weighted(row: Mapping[str, Any], where: str) -> Label | None:
    """Read a weighted sum, which ends at the first missing concept or one that is "0"."""
    terms: list[tuple[float, str]] = []
    for number in count():
        text = " ".join((row.get(f"concept{number}") or "").split())
        if text in ("", "0"):
            break
        terms.append((_number(row.get(f"weight{number}"), f"weight{number}", where), text))
    if not terms:
        return None
    terms.sort(key=lambda term: -term[0])
    bias = _number(row.get("bias") or "0", "bias", where)
    weights, concepts = zip(*terms, strict=True)
    return Label(concepts, weights, bias)


def _number(text: Any, column: str, where: str) -> float:
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where} has the {column} {shown(text)}: expected a number.")
    return value


def texts_of(sources: Sequence[Labels]) -> list[str]:
    """Every concept that labels name, each once."""
    every = (text for labels in sources for label in labels.values() for text in label.concepts)
    return list(dict.fromkeys(every))
