r"""Every method of naming neurons on one run: the paper's, WWW, CLIP-Dissect's five and INVERT.

    python -m launch.describe --config=configs/scenes.py --workdir=out/scenes
    python -m launch.compare --workdir=out/scenes

It reads what launch.describe left, and encodes the views that are nobody's exemplars too. Hit Rate
and F1 want a layer whose neurons have class names. Writes compare.csv, compare.md and
certainty.csv: how certain the run's own concepts are.
"""

import time

from jaxdesc.comparison import compare
from jaxdesc.report import compared, saved
from launch import command, inputs


def main() -> None:
    """Read the run, compare the methods, write and print the table."""
    began = time.perf_counter()
    run, workdir = inputs.open_run(saved.read(inputs.results()).config)
    ready = time.perf_counter()
    with inputs.working(run, workdir):
        found = compare(run)
        compared.write(workdir, found)
    print(f"\n{compared.markdown(found)}\n")
    inputs.print_stages(run, ready - began, time.perf_counter() - ready)
    print(f"methods compared in {workdir}: compare.csv, compare.md, certainty.csv")


if __name__ == "__main__":
    command.run(main)
