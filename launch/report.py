r"""The page of a run: every neuron with its concepts, exemplars, heatmaps and windows.

    python -m launch.report --workdir=out/scenes
    python -m launch.report --workdir=out/scenes --beside=out/www --figures --neurons=0,5,7

It reads what launch.describe left in the working directory, and the images again; heatmaps need the
target again too (`--noheatmaps` spares it). `report/index.html` opens from disk. `--figures` draws
some neurons as SVG and PNG into `figures/`: with all methods, their views, scores and activations.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from tqdm import tqdm

from jaxdesc.errors import InputError
from jaxdesc.images.sources import Source, open_source
from jaxdesc.models.target import Target, load_target
from jaxdesc.report import drawn, page, pictures, saved
from jaxdesc.report.pictures import Picture
from jaxdesc.report.saved import Saved
from jaxdesc.result import Result
from launch import command, inputs

SHOWN = 6  # neurons of the figures

_BESIDE = flags.DEFINE_list("beside", [], "Working directories shown beside it, e.g. WWW's.")
_FIGURES = flags.DEFINE_bool("figures", False, "Draw figures too.")
_NEURONS = flags.DEFINE_list("neurons", None, "The neurons of the figures; the first six if not.")
_HEATMAPS = flags.DEFINE_bool("heatmaps", True, "Show where the target looks.")


def main() -> None:
    """Read the runs, look at their exemplars' images, write the page."""
    if not inputs.WORKDIR.value:
        raise InputError("--workdir is missing: say where results are.")
    workdir = Path(inputs.WORKDIR.value)
    runs = [saved.read(folder) for folder in (workdir, *map(Path, _BESIDE.value))]
    source, units = _source(runs), _units(runs[0].result)
    own = runs[0].config
    title = f"{own.target.source}: what each neuron of {own.target.layer} responds to"
    methods = [page.Method.of(run) for run in runs]
    target = None
    if _HEATMAPS.value or _FIGURES.value:
        target = load_target(own.target.source, precision=own.precision)
    looked = _look(runs, source, target if _HEATMAPS.value else None)
    total = page.write(workdir / "report", page.files(title, methods, looked))
    print(f"{workdir / 'report' / 'index.html'}: {total / 1e6:.1f} MB with its thumbnails")
    if _FIGURES.value and target:
        drawn.draw(workdir / "figures", workdir, runs, source, target, units)
        print(f"figures in {workdir / 'figures'}")


def _source(runs: Sequence[Saved]) -> Source:
    own, *others = (run.config.images.source for run in runs)
    for other in others:
        if other != own:
            raise InputError(
                f"--beside has other images ({other}) than --workdir ({own}): expected the same."
            )
    return open_source(own)


def _units(result: Result) -> list[int]:
    """The units that --neurons names, or else the first ones that have exemplars."""
    if _NEURONS.value is None:
        return [neuron.unit for neuron in result if neuron.exemplars][:SHOWN]
    known = {str(neuron.unit) for neuron in result}
    for text in _NEURONS.value:
        if text not in known:
            raise InputError(
                f"--neurons has {text!r}: expected numbers of neurons between commas, up to "
                f"{len(known) - 1}."
            )
    return [int(text) for text in _NEURONS.value]


def _look(runs: Sequence[Saved], source: Source, target: Target | None) -> dict[int, Picture]:
    config = runs[0].config
    indices = {e.index for run in runs for neuron in run.result for e in neuron.exemplars}
    with tqdm(total=len(indices), desc="look", unit="img", disable=inputs.QUIET.value) as bar:
        return pictures.look(
            source, sorted(indices), target, config.crop, config.images.batch, bar.update
        )


if __name__ == "__main__":
    command.run(main)
