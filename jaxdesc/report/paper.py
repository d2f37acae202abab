"""The paper's tables 1 and 2: measured numbers next to the printed ones.

Both are about the last layer of ResNet-50 on ImageNet's validation set, with 40 exemplars and
α = 0.95. WWW is the method with centre views and the cosine (κ = 0), the paper's method has
attention views and t-vMF, and table 2 has the two other combinations.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from tabulate import tabulate

from jaxdesc.evaluation.metrics import METRICS
from jaxdesc.report.tables import Row, similarity_name
from jaxdesc.store import Place, write_file, write_rows

COLUMNS = ("clip_cos", "sentence_cos", "f1", "hit")
VIEWS = ("centre", "attention")
# By view and whether the similarity is t-vMF; the two other combinations have no name.
METHODS = {("centre", False): "WWW", ("attention", True): "ours"}
ABSENT = "—"

# (vocabulary, view, whether t-vMF): CLIP cos, mpnet cos, F1, Hit Rate × 100. Table 2's middle rows
# have no Hit Rate. Its tick marks are missing, but section 5 says which row is which.
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
    """One row of a table: a method on a vocabulary and a probe set, as their config names them.

    The probe set is a dash if nothing was measured. κ = 0 is the cosine; None is a t-vMF that was
    not measured, since the paper has no κ. `measured` has rows by metric.
    """

    vocabulary: str
    probe: str
    view: str
    kappa: float | None
    measured: dict[str, Row]

    @property
    def kind(self) -> str:
        """The vocabulary's kind: "broden" for "broden:PATH"."""
        return self.vocabulary.partition(":")[0]

    @property
    def method(self) -> str:
        """WWW, ours, or a combination of their parts."""
        between = "t-vMF alone" if self.kappa != 0 else "attention alone"
        return METHODS.get((self.view, self.kappa != 0), between)

    def printed(self, metric: str) -> float | None:
        """The paper's number × 100, if it has one."""
        key = self.kind, self.view, self.kappa != 0
        return dict(zip(COLUMNS, PRINTED.get(key, ()), strict=False)).get(metric)


@dataclass(frozen=True)
class Table:
    """A table of the paper: the name of its files, what it compares, and its rows."""

    name: str
    title: str
    lines: list[Line]

    def markdown(self, form: str = "github") -> str:
        """Lay it out as Markdown, or in another form of tabulate's."""
        head = ["method", "similarity", "concepts", "probe images"]
        for metric in COLUMNS:
            head += [METRICS[metric].title, "paper", "ceiling"]
        known = {vocabulary for vocabulary, _, _ in PRINTED}
        rows = []
        for line in self.lines:
            similarity = "t-vMF" if line.kappa is None else similarity_name(line.kappa)
            concepts = line.kind if line.kind in known else line.vocabulary
            cells = [line.method, similarity, concepts, line.probe]
            for metric in COLUMNS:
                row, printed = line.measured.get(metric), line.printed(metric)
                cells += [
                    f"{100 * row.mean:.2f} ± {100 * row.standard_error:.2f}" if row else ABSENT,
                    ABSENT if printed is None else f"{printed:g}",
                    f"{100 * row.ceiling:.1f}" if row else ABSENT,
                ]
            rows.append(cells)
        return tabulate(rows, head, tablefmt=form, disable_numparse=True)

    def write(self, folder: Place) -> None:
        """Write it as Markdown, LaTeX (booktabs) and CSV (one row per metric, numbers × 100)."""
        for suffix, form in (("md", "github"), ("tex", "latex_booktabs")):
            write_file(folder / f"{self.name}.{suffix}", f"{self.markdown(form)}\n".encode())
        where = ["method", "view", "kappa", "concepts", "probe", "metric"]
        names = [*where, "mean", "standard_error", "ceiling", "paper"]
        rows: list[list[object]] = []
        for line, metric in product(self.lines, COLUMNS):
            kappa = None if line.kappa is None else str(line.kappa)
            what = [line.method, line.view, kappa, line.vocabulary, line.probe, metric]
            values: list[float | None] = [None] * 3
            if row := line.measured.get(metric):
                values = [100 * row.mean, 100 * row.standard_error, 100 * row.ceiling]
            rows.append([*what, *values, line.printed(metric)])
        write_rows(folder / f"{self.name}.csv", names, rows, ".6g")


def tables(rows: Sequence[Row]) -> list[Table]:
    """Put rows of `tables.read_ablation` next to the paper's numbers; a dash is not measured.

    Table 1 has both methods on each vocabulary; table 2 every combination of view and similarity on
    those vocabularies that have them.
    """
    measured: dict[tuple[str, str, str, float], dict[str, Row]] = {}
    for row in rows:
        if row.view in VIEWS:
            key = (row.vocabulary, row.probe, row.view, row.kappa)
            measured.setdefault(key, {})[row.metric] = row
    lines = [Line(*key, measured=metrics) for key, metrics in measured.items()]
    found = {(line.kind, line.view, line.kappa != 0) for line in lines}
    for vocabulary, view, t_vmf in PRINTED:
        if (vocabulary, view, t_vmf) not in found:
            lines.append(Line(vocabulary, ABSENT, view, None if t_vmf else 0.0, {}))
    known = list(dict.fromkeys(vocabulary for vocabulary, _, _ in PRINTED))

    def order(line: Line) -> tuple[int, str, int, float, str]:
        """The paper's vocabularies first, in its order; in each the methods from WWW to ours."""
        rank = known.index(line.kind) if line.kind in known else len(known)
        kappa = math.inf if line.kappa is None else line.kappa
        return rank, line.vocabulary, VIEWS.index(line.view), kappa, line.probe

    lines.sort(key=order)
    whole = [line for line in lines if line.method in METHODS.values()]
    combined = {line.vocabulary for line in lines if line not in whole}
    parts = [line for line in lines if line.vocabulary in combined]
    return [
        Table("table1", "Table 1: both methods on each vocabulary", whole),
        Table("table2", "Table 2: attention windows and t-vMF, alone and together", parts),
    ]
