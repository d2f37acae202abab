r"""Write the page of a run: every neuron with its concepts, exemplars, heatmaps and windows.

    jaxdesc report --workdir=out/scenes
    jaxdesc report --workdir=out/scenes --beside=out/www --figures --neurons=0,5,7

It reads what describe left in the working directory, and the images again; heatmaps need the
target again too (`--noheatmaps` spares it). `report/index.html` opens from disk. `--figures` draws
some neurons as SVG and PNG into `figures/`: with all methods, their views, scores and activations;
of other neurons into `figures-2/` and so on.
"""

import os
from pathlib import Path

from jaxdesc.commands import flags, inputs
from jaxdesc.images.sources import open_source
from jaxdesc.report import beside, drawn

_BESIDE = flags.DEFINE_list("beside", [], "Working directories to show next to it, such as WWW's.")
_FIGURES = flags.DEFINE_bool("figures", False, "Draw figures too.")
_NEURONS = flags.DEFINE_list("neurons", None, "Neurons of the figures; the first six by default.")
_HEATMAPS = flags.DEFINE_bool("heatmaps", True, "Show where the target looks.")
FLAGS = (inputs.WORKDIR, inputs.QUIET, _BESIDE, _FIGURES, _NEURONS, _HEATMAPS)


def main() -> None:
    """Read the runs, look at their exemplars' images, write the page."""
    flags.only_with(_FIGURES, _NEURONS)
    workdir = inputs.results()
    folders = [Path(os.path.expanduser(folder)) for folder in _BESIDE.value]
    runs, page = beside.read(workdir, folders), workdir / "report" / "index.html"
    units, own = beside.units(runs[0].result, _NEURONS.value), runs[0].config
    source, target = open_source(own.images.source), None
    if _HEATMAPS.value or _FIGURES.value:
        target = inputs.open_target(own)
    seen_by = target if _HEATMAPS.value else None
    if page.exists():
        print(f"{page} is replaced", flush=True)
    total = beside.write_page(workdir / "report", runs, source, seen_by, inputs.displays())
    print(f"{page}: {total / 1e6:.1f} MB with its thumbnails")
    if _FIGURES.value and target:
        written = drawn.draw(workdir / "figures", workdir, runs, source, target, units)
        print(f"figures in {written[0].parent}")
