r"""The page of a run: every neuron with its concepts, exemplars, heatmaps and windows.

    python -m launch.report --workdir=out/scenes
    python -m launch.report --workdir=out/scenes --beside=out/www

It reads what launch.describe left in the working directory, and the images again; heatmaps need the
target again too (`--noheatmaps` spares it). `report/index.html` opens from disk.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from tqdm import tqdm

from jaxdesc.errors import InputError
from jaxdesc.images.sources import open_source
from jaxdesc.models.target import load_target
from jaxdesc.report import page, pictures, saved
from jaxdesc.report.pictures import Picture
from jaxdesc.report.saved import Saved
from launch import command, inputs

_BESIDE = flags.DEFINE_list("beside", [], "Working directories shown beside it, e.g. WWW's.")
_HEATMAPS = flags.DEFINE_bool("heatmaps", True, "Show where the target's Grad-CAM looks.")


def main() -> None:
    """Read the runs, look at their exemplars' images, write the page."""
    if not inputs.WORKDIR.value:
        raise InputError("--workdir is missing: say where results are.")
    workdir = Path(inputs.WORKDIR.value)
    runs = [saved.read(folder) for folder in (workdir, *map(Path, _BESIDE.value))]
    own = runs[0].config
    title = f"{own.target.source}: what each neuron of {own.target.layer} responds to"
    made = page.files(title, [page.Method.of(run) for run in runs], _look(runs))
    total = page.write(workdir / "report", made)
    print(f"{workdir / 'report' / 'index.html'}: {total / 1e6:.1f} MB with its thumbnails")


def _look(runs: Sequence[Saved]) -> dict[int, Picture]:
    config = runs[0].config
    for other in runs[1:]:
        if other.config.images.source != config.images.source:
            raise InputError(
                f"--beside has other images ({other.config.images.source}) than --workdir "
                f"({config.images.source}): expected the same."
            )
    source = open_source(config.images.source)
    network = config.target.source
    target = load_target(network, precision=config.precision) if _HEATMAPS.value else None
    indices = {e.index for run in runs for neuron in run.result for e in neuron.exemplars}
    with tqdm(total=len(indices), desc="look", unit="img", disable=inputs.QUIET.value) as bar:
        return pictures.look(
            source, sorted(indices), target, config.crop, config.images.batch, bar.update
        )


if __name__ == "__main__":
    command.run(main)
