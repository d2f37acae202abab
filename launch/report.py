r"""The page of a run: every neuron with its concepts, exemplars, heatmaps and windows.

    python -m launch.report --workdir=out/scenes
    python -m launch.report --workdir=out/scenes --beside=out/www --figures --neurons=0,5,7

It reads what launch.describe left in the working directory, and the images again; heatmaps need the
target again too (`--noheatmaps` spares it). `report/index.html` opens from disk. `--figures` draws
some neurons as SVG and PNG into `figures/`: with all methods, their views, scores and activations.
"""

from pathlib import Path

from absl import flags

from jaxdesc.images.sources import open_source
from jaxdesc.models.target import load_target
from jaxdesc.report import beside, drawn
from launch import command, inputs

_BESIDE = flags.DEFINE_list("beside", [], "Working directories shown beside it, e.g. WWW's.")
_FIGURES = flags.DEFINE_bool("figures", False, "Draw figures too.")
_NEURONS = flags.DEFINE_list("neurons", None, "The neurons of the figures; the first six if not.")
_HEATMAPS = flags.DEFINE_bool("heatmaps", True, "Show where the target looks.")


def main() -> None:
    """Read the runs, look at their exemplars' images, write the page."""
    workdir = inputs.results()
    runs = beside.read(workdir, [Path(folder) for folder in _BESIDE.value])
    units, own = beside.units(runs[0].result, _NEURONS.value), runs[0].config
    source, target = open_source(own.images.source), None
    if _HEATMAPS.value or _FIGURES.value:
        target = load_target(
            own.target.source, precision=own.precision, preprocess=own.target.preprocess
        )
    seen_by = target if _HEATMAPS.value else None
    total = beside.write_page(workdir / "report", runs, source, seen_by, inputs.displays())
    print(f"{workdir / 'report' / 'index.html'}: {total / 1e6:.1f} MB with its thumbnails")
    if _FIGURES.value and target:
        drawn.draw(workdir / "figures", workdir, runs, source, target, units)
        print(f"figures in {workdir / 'figures'}")


if __name__ == "__main__":
    command.run(main)
