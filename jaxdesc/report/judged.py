"""Files of a judgement: judge.csv, a row per unit and source; judge.json; and its tables."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxdesc.errors import InputError, printable
from jaxdesc.evaluation.judging.judgement import COSY, Judgement, Line, summary, title
from jaxdesc.evaluation.judging.scores import BEST, CEILED, RANDOM
from jaxdesc.report.tables import markdown
from jaxdesc.store import Place, write_file, write_rows

NAME = "judge"


def write(workdir: Place, judgement: Judgement) -> tuple[str, str]:
    """Write judge.csv, judge.json and judge.md; return their name and the text of the last one.

    The name is judge-2, and so on, if another judgement is there: of other images or sources.
    """
    lines = summary(judgement)
    content = _content(judgement, lines)

    def same(written: bytes) -> bool:
        try:
            before = dict(json.loads(written))
        except ValueError:
            return False
        keys = ("images", "presence", "held_out", "labelled", "measures")
        return all(before.get(key) == content[key] for key in keys)

    name = workdir.unused(NAME, ".json", same)
    head = ("layer", "unit", "source", "label", *judgement.measures, *_ends(judgement))
    write_rows(workdir / f"{name}.csv", head, _rows(judgement), ".6g")
    write_file(workdir / f"{name}.json", f"{json.dumps(content, indent=1)}\n".encode())
    text = text_of(judgement, lines)
    write_file(workdir / f"{name}.md", f"{text}\n".encode())
    return name, text


def _rows(judgement: Judgement) -> Iterator[tuple[Any, ...]]:
    """Rows of each unit: every source that has a label for it, and the floor and ceiling."""
    columns = {
        source: np.stack([judgement.values(source, name) for name in judgement.measures], axis=1)
        for source in judgement.sources
    }
    for unit in range(judgement.units):
        for source, values in columns.items():
            label = judgement.labels.get(source, {}).get(unit)
            if label is None and np.isnan(values[unit]).all():
                continue
            scores = (None if np.isnan(value) else float(value) for value in values[unit])
            control = judgement.controls.get(source, {}).get(unit)
            ends: list[float | None] = [None] * len(_ends(judgement))
            if control:
                both = (end for bounds in control for end in bounds[1:])
                ends = [None if np.isnan(end) else end for end in both]
            text = "" if label is None else str(label)
            yield judgement.layer, unit, source, text, *scores, *ends


def _ends(judgement: Judgement) -> tuple[str, ...]:
    """Columns of the intervals of CoSy, if it was asked for."""
    if not judgement.controls:
        return ()
    return tuple(f"{name}_{end}" for name in COSY for end in ("low", "high"))


def _content(judgement: Judgement, lines: Mapping[str, Mapping[str, Line]]) -> dict[str, Any]:
    return {
        "layer": judgement.layer,
        "images": judgement.images,
        "count": judgement.count,
        "presence": judgement.presence,
        "held_out": judgement.held_out,
        "notes": list(judgement.notes),
        "labelled": {source: len(labels) for source, labels in judgement.labels.items()},
        "measures": {name: title(name) for name in judgement.measures},
        "short": list(judgement.short),
        "sanity": {name: test._asdict() for name, test in judgement.sanity.items()},
        "sources": {
            source: {
                name: {
                    "mean": line.mean and list(line.mean),
                    "units": line.units,
                    "against": {other: list(gap) for other, gap in line.against.items()},
                }
                for name, line in of_source.items()
            }
            for source, of_source in lines.items()
        },
    }


def text_of(judgement: Judgement, lines: Mapping[str, Mapping[str, Line]]) -> str:
    """Lay out what a reader needs: means with 95 % intervals, then differences from the run."""
    short, (first, *_) = judgement.short, judgement.sources
    heads = ["labels", "units", *map(title, short)]
    means, gaps = [heads], [["labels", *heads[2:]]]
    for source, of_source in lines.items():
        labelled = len(judgement.labels.get(source, {}))
        units = _units((line.units for line in of_source.values()), labelled)
        means.append([printable(source), units])
        means[-1] += [_cell(of_source[name].mean) for name in short]
        if source not in (first, BEST):
            row = [_cell(of_source[name].against.get(first), "+") for name in short]
            gaps.append([f"{printable(source)} − {first}", *row])
    where = "held out" if judgement.held_out else "NOT held out"
    parts = [
        f"Labels of {judgement.layer} on {judgement.count} images of {judgement.images}, {where}; "
        f"presence by {judgement.presence}. Means over the units that can be judged, with 95 % "
        f"intervals; the floor is {RANDOM!r}"
        + (_ceiling(judgement) if judgement.ceilings else "."),
        markdown(means),
        "Differences over the units that both have a label for, paired:",
        markdown(gaps),
        *_sanity(judgement),
        *(f"note: {note}" for note in judgement.notes),
    ]
    return "\n\n".join(map(printable_lines, parts))


def _ceiling(judgement: Judgement) -> str:
    some = f" of {CEILED} units drawn at random" if judgement.units > CEILED else ""
    return (
        f", the ceiling {BEST!r} of the vocabulary{some} (AUPRC's is searched among the best by "
        "the other measures, and may be too low)."
    )


def _sanity(judgement: Judgement) -> Iterator[str]:
    if judgement.sanity:
        yield (
            "Sanity of the measures: by how much the score of the run's labels falls, and of what "
            "share of units, if half of a concept's positives are missing, or as many others are "
            "extra. A measure for which few fall says little here."
        )
        heads = ["measure", "missing", "units that fall", "extra", "units that fall"]
        rows = [
            [title(name), *(f"{value:.3f}" for value in test)]
            for name, test in judgement.sanity.items()
        ]
        yield markdown([heads, *rows])


def printable_lines(text: str) -> str:
    """Text whose lines have no control characters."""
    return "\n".join(map(printable, text.split("\n")))


def _units(judged: Iterable[int], labelled: int | None) -> str:
    """Units whose label can be judged by some measure, and of how many if there are more."""
    most = max(judged)
    return f"{most} of {labelled}" if labelled and labelled > most else str(most)


def _cell(bounds: Sequence[float] | None, sign: str = "") -> str:
    if bounds is None:
        return ""
    if bounds[1] == bounds[2]:  # of a single unit, or all are equal
        return f"{round(bounds[0], 3) + 0.0:{sign}.3f}"
    mean, low, high = (f"{round(end, 3) + 0.0:{sign}.3f}" for end in bounds)  # no minus zero
    return f"{mean} [{low}, {high}]"


@dataclass(frozen=True)
class Verdict:
    """A judgement as a page shows it.

    Attributes:
        heads: headings of the measures.
        about: what judged, in a sentence.
        rows: of each source its name, the units that can be judged, and a cell per measure.
        labels: of each unit its sources, with the label and a score per measure, or None.
        notes: what a reader has to know, in sentences.
    """

    heads: tuple[str, ...]
    about: str
    rows: tuple[tuple[str, ...], ...]
    labels: Mapping[int, Sequence[tuple[str, str, tuple[float | None, ...]]]] = field(hash=False)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, judgement: Judgement) -> "Verdict":
        """The verdict of a judgement."""
        content = _content(judgement, summary(judgement))
        names = ("layer", "unit", "source", "label", *judgement.measures)
        return _verdict(content, (dict(zip(names, row, strict=False)) for row in _rows(judgement)))


def read(workdir: Path) -> Verdict | None:
    """Read the last judgement that `write` left; None if there is none."""
    found = sorted(workdir.glob(f"{NAME}*.json"), key=lambda file: (len(file.name), file.name))
    if not found:
        return None
    file = found[-1]
    try:
        content = dict(json.loads(file.read_text(encoding="utf-8")))
        with file.with_suffix(".csv").open(newline="", encoding="utf-8") as table:
            return _verdict(content, csv.DictReader(table))
    except (OSError, LookupError, TypeError, ValueError, csv.Error) as error:
        raise InputError(
            f"{file} and its table are not a judgement of this version ({error!r}): judge again, "
            "or delete both."
        ) from error


def _verdict(content: Mapping[str, Any], rows: Iterator[Mapping[str, Any]] | Any) -> Verdict:
    short = content["short"]
    labels: dict[int, list[tuple[str, str, tuple[float | None, ...]]]] = {}
    for row in rows:
        scores = tuple(None if row[name] in (None, "") else float(row[name]) for name in short)
        label = str(row["label"])
        labels.setdefault(int(row["unit"]), []).append((str(row["source"]), label, scores))
    held_out = "held out" if content["held_out"] else "not held out: they chose the labels"
    return Verdict(
        heads=tuple(content["measures"][name] for name in short),
        about=(
            f"Labels judged on {content['count']} images of {content['images']}, {held_out}; "
            f"presence by {content['presence']}. Means over units, with 95 % intervals."
        ),
        rows=tuple(
            (
                source,
                _units(
                    (of_source[name]["units"] for name in short), content["labelled"].get(source)
                ),
                *(_cell(of_source[name]["mean"]) for name in short),
            )
            for source, of_source in content["sources"].items()
        ),
        labels=labels,
        notes=tuple(content["notes"]),
    )
