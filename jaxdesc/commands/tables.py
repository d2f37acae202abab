r"""Fill in the paper's tables 1 and 2: what is measured next to what is printed.

    jaxdesc tables --config=paper --workdir=out/paper \
        --config.images.source=tfds:imagenet2012/validation
    jaxdesc tables --workdir=out/paper

With a config it measures what is not measured yet; without one it prints what the working directory
holds so far. Writes to `tables/` in it: each table as Markdown, LaTeX and CSV, and differences.csv,
the effects of attention windows, of t-vMF and of both, by the paired bootstrap over neurons.
"""

from jaxdesc.commands import flags, inputs
from jaxdesc.errors import InputError
from jaxdesc.report import paper, tables
from jaxdesc.store import Place

FLAGS = inputs.FLAGS


def main() -> None:
    """Measure what the config asks for, then print and write both tables."""
    # Without a config it does nothing but read.
    flags.only_with(inputs.CONFIG, *(flag for flag in FLAGS if flag is not inputs.WORKDIR))
    if inputs.CONFIG.value is not None or flags.overrides():
        _measure()
    if not inputs.WORKDIR.value:
        raise InputError("--workdir is missing: say where results are, or should go.")
    workdir = Place(inputs.WORKDIR.value)
    for table in paper.tables(tables.read_ablation(workdir / "ablation.csv")):
        table.write(workdir.at("tables"))
        print(f"\n{table.title} (× 100)\n{table.markdown()}")
    cells = tables.read_neurons(workdir / "ablation_neurons.csv")
    tables.write_differences(workdir.at("tables") / "differences.csv", cells)
    for words, group in tables.by_vocabulary(cells).items():
        print(f"\nDifferences, concepts: {words} (× 100)\n{tables.differences(group)}")
    print(f"\ntables in {workdir / 'tables'}")


def _measure() -> None:
    asked = inputs.read_config().ablation
    if not (asked.views and asked.kappas):
        raise InputError(
            "config.ablation.views or config.ablation.kappas is empty: a table needs both; see "
            "paper."
        )
    with inputs.opened() as (run, workdir):
        inputs.measure(run, workdir)
