r"""Compare methods of naming neurons on one run: the paper's, WWW, CLIP-Dissect's five, INVERT.

    jaxdesc describe --config=scenes --workdir=out/scenes
    jaxdesc compare --workdir=out/scenes
    jaxdesc compare --workdir=out/scenes --methods=WWW,wpmi

It reads the results of describe, and also encodes the views that are nobody's exemplars. Hit Rate
and F1 need a layer whose neurons have class names. Writes compare.csv, compare.md, certainty.csv:
the certainty of the run's concepts. A comparison of other methods becomes compare-2, and so on.
"""

import time

from jaxdesc.commands import flags, inputs
from jaxdesc.evaluation.methods import METHODS
from jaxdesc.pipeline import compare
from jaxdesc.report import compared, files

_METHODS = flags.DEFINE_list(
    "methods", list(METHODS), "Which methods are compared with t-vMF, which is always among them."
)
FLAGS = (*inputs.RUN, _METHODS)


def main() -> None:
    """Read the run, compare the methods, write and print the table."""
    began = time.perf_counter()
    run, workdir = inputs.open_run(files.read(inputs.results()).config)
    ready = time.perf_counter()
    with inputs.working(run, workdir):
        found = compare(run, _METHODS.value)
        name = compared.write(workdir, found)
    print(f"\n{compared.markdown(found)}\n")
    inputs.print_stages(run, ready - began, time.perf_counter() - ready)
    print(f"methods compared in {workdir}: {name}.csv, {name}.md, certainty.csv")
