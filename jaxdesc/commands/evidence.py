r"""Measure everything that docs/evidence.md says.

    jaxdesc evidence --workdir=out/evidence
    jaxdesc evidence --workdir=out/evidence --docs=docs --real --images=folder:PHOTOS

About an hour on two CPU cores; started again, it reads what is done. Writes
evidence.json, all the numbers, and evidence.md, the page; `--docs=docs` puts both there too, and
`--study=localisation` measures that study alone and takes the others' numbers from there; `--real`
likewise measures real networks on labelled photos (`pip install 'jaxdesc[torch-target,networks]'`).
"""

import os
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

import jax

from jaxdesc.commands import flags, inputs
from jaxdesc.errors import InputError
from jaxdesc.evidence import (
    crops,
    dictionary,
    judges,
    localisation,
    page,
    real,
    similarity,
    sparse,
    truth,
    units,
)
from jaxdesc.evidence.table import Table
from jaxdesc.images.example import Source
from jaxdesc.images.sources import open_source
from jaxdesc.store import Place, write_file

FILE = "evidence.json"
_DOCS = flags.DEFINE_path("docs", None, "A second folder for numbers and page, such as docs.")
STUDIES = {
    "crops": crops,
    "dictionary": dictionary,
    "judges": judges,
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
_REAL = flags.DEFINE_bool("real", False, "Measure EfficientNet-Lite on --images.")
_IMAGES = flags.DEFINE_string("images", None, "Labelled photos for --real, such as folder:PHOTOS.")
FLAGS = (inputs.WORKDIR, _DOCS, _STUDY, _REAL, _IMAGES)


def main() -> None:
    """Run every study, write the numbers and the page, and print the page."""
    workdir = inputs.results()
    inputs.keep_programs(Place(workdir))
    folders = {workdir, Path(_DOCS.value or workdir)}
    tables, seconds = _kept(Path(_DOCS.value or workdir) / FILE)
    studies = {name: partial(STUDIES[name].tables, workdir) for name in _STUDY.value or STUDIES}
    if _REAL.value:
        studies = {"real": partial(real.tables, workdir, _photos())}
    for name, measure in studies.items():
        began = time.perf_counter()
        tables |= {table.name: table for table in measure()}
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


def _photos() -> Source:
    if not _IMAGES.value:
        raise InputError("--images is missing: --real needs labelled photos, folder:PHOTOS.")
    return open_source(_IMAGES.value)


def _kept(file: Path) -> tuple[dict[str, Table], dict[str, int]]:
    """Return the tables and seconds of the studies that are not measured.

    None if all are, except those on real photos.
    """
    alone = bool(_STUDY.value or _REAL.value)
    if not file.exists():
        if alone:
            raise InputError(
                f"{file} does not exist: leave --study out, or --real, to measure all."
            )
        return {}, {}
    tables, facts = page.load(file.read_text(encoding="utf-8"))
    kept = {table.name: table for table in tables if alone or table.name.startswith("photo")}
    seconds = {name: took for name, took in facts["seconds"].items() if alone or name == "real"}
    return kept, seconds
