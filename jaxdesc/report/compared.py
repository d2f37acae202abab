"""A comparison of methods as table and files."""

from jaxdesc.evaluation.comparison import AGAINST, Comparison, Known, Line
from jaxdesc.evaluation.statistics import Bounds
from jaxdesc.report import tables
from jaxdesc.store import Place, write_file, write_rows

KINDS = ("hit", "f1")


def write(workdir: Place, found: Comparison) -> str:
    """Write compare.csv, a row per method, compare.md, and certainty.csv, a row per concept.

    Returns:
        "compare"; "compare-2" and so on, if compare.csv is of other methods.

    Raises:
        InputError: they can't be written.
    """
    bounds = [
        f"{kind}{of}{end}"
        for kind in KINDS
        for of in ("", "_difference")
        for end in ("", "_low", "_high")
    ]
    rows = [_cells(name, line) for name, line in found.lines.items()]
    name = workdir.unused("compare", ".csv", lambda content: _methods(content) == list(found.lines))
    write_rows(workdir / f"{name}.csv", ["method", *bounds, "p", "seconds"], rows)
    write_rows(workdir / "certainty.csv", Known._fields, found.certainty.rows)
    write_file(workdir / f"{name}.md", f"{markdown(found)}\n".encode())
    return name


def _methods(content: bytes) -> list[str]:
    """Methods of a comparison that was written."""
    return [line.partition(",")[0] for line in content.decode("utf-8", "replace").split("\n")[1:-1]]


def _cells(name: str, line: Line) -> list[object]:
    each = [(line.bounds[kind], line.differences[kind]) for kind in KINDS]
    bounds = [end for pair in each for own in pair for end in own]
    return [name, *bounds, line.test.p, round(line.seconds, 3)]


def markdown(found: Comparison) -> str:
    """The table, metrics × 100 with 95 % intervals, and what the run's own names are worth."""
    head = ["method"]
    for kind in KINDS:
        head += [tables.TITLES[kind], f"− {AGAINST}"]
    head += ["McNemar's p", "seconds"]
    table = tables.markdown([head, *(_row(name, line) for name, line in found.lines.items())])
    return f"{table}\n\n{_sentences(found)}"


def _row(name: str, line: Line) -> list[str]:
    row = [name]
    for kind in KINDS:
        row.append(_percent(line.bounds[kind], ""))
        row.append("" if name == AGAINST else _percent(line.differences[kind], "+"))
    return [*row, "" if name == AGAINST else f"{line.test.p:.2g}", f"{line.seconds:.2f}"]


def _percent(bounds: Bounds, sign: str) -> str:
    mean, low, high = (f"{100 * end:{sign}.1f}" for end in bounds)
    return f"{mean} [{low}, {high}]"


def _sentences(found: Comparison) -> str:
    """What the run's own names are worth."""
    certain, own = found.certainty, tables.similarity_name(found.kappa)
    return f"{own}, the run's own: {tables.certainty(certain.unnamed, certain.hubs)}"
