r"""Measure everything that docs/evidence.md says.

    jaxdesc evidence --workdir=out/evidence

Some three quarters of an hour on two CPU cores; started again, it reads what is done. Writes
evidence.json, all the numbers, and evidence.md, the page; `--docs=docs` puts both there too, and
`--study=localisation` measures that study alone and takes the others' numbers from there.
"""

import os
import time
from importlib.metadata import version
from pathlib import Path

import jax

from jaxdesc.commands import flags, inputs
from jaxdesc.errors import InputError
from jaxdesc.evidence import crops, localisation, page, similarity, sparse, truth, units
from jaxdesc.evidence.table import Table
from jaxdesc.store import Place, write_file

FILE = "evidence.json"
_DOCS = flags.DEFINE_path("docs", None, "A second folder for numbers and page, such as docs.")
STUDIES = {
    "crops": crops,
    "localisation": localisation,
    "similarity": similarity,
    "sparse": sparse,
    "truth": truth,
    "units": units,
}
_STUDY = flags.DEFINE_multi_enum(
    "study",
    [],
    list(STUDIES),
    "Which study to measure, by default all; may be given again. The numbers of the others are "
    "read from evidence.json.",
)
FLAGS = (inputs.WORKDIR, _DOCS, _STUDY)


def main() -> None:
    """Run every study, write the numbers and the page, and print the page."""
    workdir = inputs.results()
    inputs.keep_programs(Place(workdir))
    folders = {workdir, Path(_DOCS.value or workdir)}
    tables, seconds = _kept(Path(_DOCS.value or workdir) / FILE)
    for name in _STUDY.value or STUDIES:
        began = time.perf_counter()
        tables |= {table.name: table for table in STUDIES[name].tables(workdir)}
        seconds[name] = round(time.perf_counter() - began)
    facts = {
        "seconds": seconds,
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "jax": version("jax"),
    }
    text = page.render(tables.values(), facts)
    for folder in folders:
        write_file(folder / FILE, page.dump(tables.values(), facts).encode())
        write_file(folder / "evidence.md", text.encode())
    print(text)


def _kept(file: Path) -> tuple[dict[str, Table], dict[str, int]]:
    """Return the tables and seconds of the studies that are not measured; none if all are."""
    if not _STUDY.value:
        return {}, {}
    if not file.exists():
        raise InputError(f"{file} does not exist: leave --study out, to measure all.")
    tables, facts = page.load(file.read_text(encoding="utf-8"))
    return {table.name: table for table in tables}, facts["seconds"]
