r"""Measure everything that docs/evidence.md says.

    jaxdesc evidence --workdir=out/evidence

About ten minutes on two CPU cores; started again, it reads what is done. Writes
evidence.json, all the numbers, and evidence.md, the page; `--docs=docs` puts both there too.
"""

import os
import time
from importlib.metadata import version
from pathlib import Path

import jax

from jaxdesc.commands import flags, inputs
from jaxdesc.evidence import crops, page, similarity, sparse, truth
from jaxdesc.evidence.table import Table
from jaxdesc.store import Place, write_file

_DOCS = flags.DEFINE_path("docs", None, "A second folder for numbers and page, such as docs.")
FLAGS = (inputs.WORKDIR, _DOCS)
STUDIES = {"crops": crops, "similarity": similarity, "sparse": sparse, "truth": truth}


def main() -> None:
    """Run every study, write the numbers and the page, and print the page."""
    workdir = inputs.results()
    inputs.keep_programs(Place(workdir))
    tables: list[Table] = []
    seconds = {}
    for name, study in STUDIES.items():
        began = time.perf_counter()
        tables += study.tables(workdir)
        seconds[name] = round(time.perf_counter() - began)
    facts = {
        "seconds": seconds,
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "jax": version("jax"),
    }
    text = page.render(tables, facts)
    for folder in {workdir, Path(_DOCS.value or workdir)}:
        write_file(folder / "evidence.json", page.dump(tables, facts).encode())
        write_file(folder / "evidence.md", text.encode())
    print(text)
