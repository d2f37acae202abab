"""A comparison of methods as a table and files."""

from collections.abc import Iterator

from jaxdesc.evaluation.methods import AGAINST, Line
from jaxdesc.evaluation.metrics import METRICS
from jaxdesc.evaluation.statistics import Bounds
from jaxdesc.pipeline import Comparison
from jaxdesc.report import tables
from jaxdesc.result import CERTAINTY, Result
from jaxdesc.store import Place, write_file, write_rows


def write(workdir: Place, found: Comparison) -> str:
    """Write compare.csv, a row per method, compare.md, and certainty.csv, a row per concept.

    Returns:
        "compare"; "compare-2" and so on, if compare.csv has other methods.

    Raises:
        InputError: they can't be written.
    """
    ends = [f"{of}{end}" for of in ("", "_difference") for end in ("", "_low", "_high")]
    head = ["method", *(kind + end for kind in _kinds(found) for end in ends), "p", "seconds"]
    rows = [_cells(name, line) for name, line in found.lines.items()]
    name = workdir.unused("compare", ".csv", lambda content: _methods(content) == list(found.lines))
    write_rows(workdir / f"{name}.csv", head, rows)
    write_rows(workdir / "certainty.csv", ("unit", "concept", *CERTAINTY), _certainty(found.result))
    write_file(workdir / f"{name}.md", f"{markdown(found)}\n".encode())
    return name


def markdown(found: Comparison) -> str:
    """The table, metrics × 100 with 95 % intervals, and the certainty of the run's own concepts."""
    head = ["method"]
    for kind in _kinds(found):
        head += [METRICS[kind].title, f"− {AGAINST}"]
    head += ["McNemar's p", "seconds"]
    table = tables.markdown([head, *(_row(name, line) for name, line in found.lines.items())])
    sentences = tables.certainty(found.result.unnamed, found.result.hubs)
    similarity = tables.similarity_name(found.kappa, found.similarity)
    return f"{table}\n\nthe run's concepts ({similarity}): {sentences}"


def _kinds(found: Comparison) -> list[str]:
    return list(found.lines[AGAINST].bounds)


def _methods(content: bytes) -> list[str]:
    """Methods of a comparison that was written."""
    return [line.partition(",")[0] for line in content.decode("utf-8", "replace").split("\n")[1:-1]]


def _cells(name: str, line: Line) -> list[object]:
    ends = [end for kind in line.bounds for end in (*line.bounds[kind], *line.differences[kind])]
    return [name, *ends, line.test.p, round(line.seconds, 3)]


def _certainty(result: Result) -> Iterator[tuple[object, ...]]:
    for neuron in result:
        for rank, (text, _) in enumerate(neuron.concepts):
            known = neuron.certainty(rank)
            yield neuron.unit, text, *(known.get(name) for name in CERTAINTY)


def _row(name: str, line: Line) -> list[str]:
    row = [name]
    for kind, bounds in line.bounds.items():
        row.append(_percent(bounds, ""))
        row.append("" if name == AGAINST else _percent(line.differences[kind], "+"))
    return [*row, "" if name == AGAINST else f"{line.test.p:.2g}", f"{line.seconds:.2f}"]


def _percent(bounds: Bounds, sign: str) -> str:
    mean, low, high = (f"{100 * end:{sign}.1f}" for end in bounds)
    return f"{mean} [{low}, {high}]"
