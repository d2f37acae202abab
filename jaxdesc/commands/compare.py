r"""Compare methods of naming neurons on one run: the paper's, WWW, CLIP-Dissect's five, INVERT.

    jaxdesc describe --config=scenes --workdir=out/scenes
    jaxdesc compare --workdir=out/scenes
    jaxdesc compare --workdir=out/scenes --methods=WWW,wpmi

It reads the results of describe, and also encodes the views that are no neuron's exemplars. Hit
Rate and F1 need a layer whose neurons have class names. Writes compare.csv, compare.md and, for the
certainty of the run's concepts, certainty.csv. Other methods are written to compare-2, and so on.
"""

from jaxdesc.commands import flags, inputs
from jaxdesc.evaluation.methods import METHODS
from jaxdesc.pipeline import compare
from jaxdesc.report import files, tables

_METHODS = flags.DEFINE_list(
    "methods", list(METHODS), "Which methods are compared with t-vMF, which is always among them."
)
FLAGS = (*inputs.RUN, inputs.LAYER, _METHODS)


def main() -> None:
    """Read the run, compare the methods, write and print the table."""
    with inputs.opened(files.read(inputs.results()).config) as (run, workdir):
        found = compare(run, _METHODS.value)
        name = tables.write_comparison(workdir, found)
    print(f"\n{tables.comparison(found)}\n")
    print(f"methods compared in {workdir}: {name}.csv, {name}.md, certainty.csv")
