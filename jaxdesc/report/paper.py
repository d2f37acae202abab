"""The paper's tables 1 and 2: what was measured beside what is printed there.

Both are about the last layer of ResNet-50 on ImageNet's validation set, with 40 exemplars and
α = 0.95. WWW is the method with centre views and the cosine (κ = 0), the paper's own has attention
views and t-vMF, and table 2 has the two other combinations.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from jaxdesc.report.tables import TITLES, Row, similarity_name
from jaxdesc.store import Place, write_file, write_rows

METRICS = ("clip_cos", "sentence_cos", "f1", "hit")
VIEWS = ("centre", "attention")
# By view and whether the similarity is t-vMF; what stands between has no name.
METHODS = {("centre", False): "WWW", ("attention", True): "ours"}
ABSENT = "—"

# (vocabulary, view, whether t-vMF): CLIP cos, mpnet cos, F1, Hit Rate × 100; of table 2's inner
# rows the Hit Rate is not printed, and which is which is told by section 5 (the ticks are lost).
PRINTED: dict[tuple[str, str, bool], tuple[float | None, ...]] = {
    ("imagenet", "centre", False): (93.31, 83.47, 77.53, 95.5),
    ("broden", "centre", False): (77.79, 44.47, 6.60, 9.3),
    ("wordnet", "centre", False): (88.76, 70.05, 42.62, 66.2),
    ("imagenet", "attention", True): (93.46, 83.90, 76.98, 95.5),
    ("broden", "attention", True): (78.31, 45.45, 6.73, 9.3),
    ("wordnet", "attention", True): (89.49, 72.58, 45.77, 69.8),
    ("wordnet", "centre", True): (88.89, 70.45, 42.42, None),
    ("wordnet", "attention", False): (89.43, 72.42, 45.83, None),
}


@dataclass(frozen=True)
class Line:
    """One row of a table: a method on a vocabulary and a probe set.

    Attributes:
        vocabulary, probe: as their config names them; no probe set where nothing was measured.
        view: "centre" or "attention".
        kappa: 0 is the cosine; None a t-vMF that was not measured, since the paper has no κ.
        measured: by metric.
    """

    vocabulary: str
    probe: str
    view: str
    kappa: float | None
    measured: dict[str, Row]

    @property
    def method(self) -> str:
        """WWW, ours, or what stands between them."""
        between = "t-vMF alone" if self.kappa != 0 else "attention alone"
        return METHODS.get((self.view, self.kappa != 0), between)

    def printed(self, metric: str) -> float | None:
        """The paper's number × 100, where it has one."""
        key = (_kind(self.vocabulary), self.view, self.kappa != 0)
        return dict(zip(METRICS, PRINTED.get(key, ()), strict=False)).get(metric)


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        name: of its files.
        title: what it compares.
        lines: its rows.
    """

    name: str
    title: str
    lines: list[Line]

    def markdown(self) -> str:
        """Lay it out as Markdown."""
        return self._laid_out("github")

    def latex(self) -> str:
        """Lay it out as LaTeX (booktabs)."""
        return self._laid_out("latex_booktabs")

    def _laid_out(self, form: str) -> str:
        head = ["method", "similarity", "concepts", "probe images"]
        for metric in METRICS:
            head += [TITLES[metric], "paper", "ceiling"]
        rows = [_texts(line) for line in self.lines]
        return tabulate(rows, head, tablefmt=form, disable_numparse=True)

    def write(self, folder: Place) -> None:
        """Write it as Markdown, LaTeX and CSV (one row a metric, numbers × 100)."""
        for suffix, text in (("md", self.markdown()), ("tex", self.latex())):
            write_file(folder / f"{self.name}.{suffix}", f"{text}\n".encode())
        where = ["method", "view", "kappa", "concepts", "probe", "metric"]
        names = [*where, "mean", "standard_error", "ceiling", "paper"]
        write_rows(folder / f"{self.name}.csv", names, self._rows(), ".6g")

    def _rows(self) -> Iterator[list[Any]]:
        for line in self.lines:
            kappa = None if line.kappa is None else str(line.kappa)
            for metric in METRICS:
                what = [line.method, line.view, kappa, line.vocabulary, line.probe, metric]
                row = line.measured.get(metric)
                values = [row.mean, row.standard_error, row.ceiling] if row else [None] * 3
                scaled = [None if value is None else 100 * value for value in values]
                yield [*what, *scaled, line.printed(metric)]


def tables(rows: Sequence[Row]) -> list[Table]:
    """Set measured rows beside the paper's numbers.

    Args:
        rows: of `tables.read_ablation`; what was not measured is shown as a dash.

    Returns:
        Table 1, both methods on each vocabulary; and table 2, every combination of view and
        similarity on those vocabularies that have them.
    """
    lines = sorted([*_measured(rows), *_unmeasured(rows)], key=_place)
    whole = [line for line in lines if line.method in METHODS.values()]
    combined = {line.vocabulary for line in lines if line not in whole}
    return [
        Table("table1", "Table 1: both methods on each vocabulary", whole),
        Table(
            "table2",
            "Table 2: attention windows and t-vMF, alone and together",
            [line for line in lines if line.vocabulary in combined],
        ),
    ]


def _measured(rows: Sequence[Row]) -> list[Line]:
    groups: dict[tuple[str, str, str, float], dict[str, Row]] = {}
    for row in rows:
        if row.view in VIEWS:
            key = (row.vocabulary, row.probe, row.view, row.kappa)
            groups.setdefault(key, {})[row.metric] = row
    return [Line(*key, measured=measured) for key, measured in groups.items()]


def _unmeasured(rows: Sequence[Row]) -> list[Line]:
    found = {(_kind(row.vocabulary), row.view, row.kappa != 0) for row in rows}
    return [
        Line(vocabulary, ABSENT, view, None if t_vmf else 0.0, {})
        for vocabulary, view, t_vmf in PRINTED
        if (vocabulary, view, t_vmf) not in found
    ]


def _place(line: Line) -> tuple[int, str, int, float, str]:
    """The paper's vocabularies first, in its order; each one's methods from WWW to ours."""
    known, name = [vocabulary for vocabulary, _, _ in PRINTED], _kind(line.vocabulary)
    rank = known.index(name) if name in known else len(known)
    kappa = math.inf if line.kappa is None else line.kappa
    return rank, line.vocabulary, VIEWS.index(line.view), kappa, line.probe


def _kind(vocabulary: str) -> str:
    """The vocabulary's kind: "broden" of "broden:PATH"."""
    return vocabulary.partition(":")[0]


def _texts(line: Line) -> list[str]:
    similarity = "t-vMF" if line.kappa is None else similarity_name(line.kappa)
    known = _kind(line.vocabulary) in [vocabulary for vocabulary, _, _ in PRINTED]
    concepts = _kind(line.vocabulary) if known else line.vocabulary
    return [
        *(line.method, similarity, concepts, line.probe),
        *(text for metric in METRICS for text in _cells(line, metric)),
    ]


def _cells(line: Line, metric: str) -> list[str]:
    """Measured, printed and ceiling of a metric, × 100."""
    row, printed = line.measured.get(metric), line.printed(metric)
    return [
        f"{100 * row.mean:.2f} ± {100 * row.standard_error:.2f}" if row else ABSENT,
        ABSENT if printed is None else f"{printed:g}",
        f"{100 * row.ceiling:.1f}" if row else ABSENT,
    ]
