r"""Write the page of a run: every neuron with its concepts, exemplars, heatmaps and windows.

    jaxdesc report --workdir=out/scenes
    jaxdesc report --workdir=out/scenes --beside=out/www --figures --neurons=0,5,7

It reads the results of describe in the working directory, and the images again; heatmaps also need
the target (`--noheatmaps` does without). `report/index.html` opens from disk; if there are several
layers, it names them, and each layer's folder gets a page. Of more than 4,096 neurons the first
1,000 get thumbnails, and `--thumbnails=4711,4712` adds those of others. `--figures` draws some
neurons as SVG and PNG into `figures/`: all methods, their views, scores and activations; other
neurons go into `figures-2/` and so on.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from jaxdesc.commands import flags, inputs
from jaxdesc.errors import InputError
from jaxdesc.images.example import Source
from jaxdesc.images.split import open_images
from jaxdesc.models.target import Target
from jaxdesc.report import files, judged, plots, report
from jaxdesc.report.data import Method
from jaxdesc.report.files import Saved
from jaxdesc.result import Result
from jaxdesc.store.workdir import folder_of

_BESIDE = flags.DEFINE_list("beside", [], "Working directories to show next to it, such as WWW's.")
_FIGURES = flags.DEFINE_bool("figures", False, "Draw figures too.")
_NEURONS = flags.DEFINE_list("neurons", None, "Neurons of the figures; the first six by default.")
_HEATMAPS = flags.DEFINE_bool("heatmaps", True, "Show where the target looks.")
_THUMBNAILS = flags.DEFINE_list(
    "thumbnails", None, "Neurons whose thumbnails are added to a written page of one layer."
)
FLAGS = (
    *(inputs.WORKDIR, inputs.LAYER, inputs.QUIET),
    *(_BESIDE, _FIGURES, _NEURONS, _HEATMAPS, _THUMBNAILS),
)


def main() -> None:
    """Read the runs, look at their exemplars' images, write the pages."""
    flags.only_with(_FIGURES, _NEURONS)
    workdir = inputs.finished()
    one = inputs.LAYER.value or _FIGURES.value or _THUMBNAILS.value
    layers = () if one else files.layers_in(workdir)
    chosen = {layer: workdir / folder_of(layer) for layer in layers}
    folders = chosen or {inputs.LAYER.value: inputs.results()}
    every = {layer: _read(folder, layer) for layer, folder in folders.items()}
    first = next(iter(every.values()))
    config, units = first[0].config, _units(first[0].result, _NEURONS.value)
    source, target = open_images(config.images), None
    if _HEATMAPS.value or _FIGURES.value:
        target = inputs.open_target(config)
    for layer, runs in every.items():
        _write(folders[layer] / "report", runs, source, target if _HEATMAPS.value else None)
    if _FIGURES.value and target:
        (folder,) = folders.values()
        written = plots.draw(folder / "figures", workdir, first, source, target, units)
        print(f"figures in {written[0].parent}")
    if layers:
        title = f"{config.target.source}: what each neuron responds to"
        results = {layer: runs[0].result for layer, runs in every.items()}
        pages = "../{}/report/index.html"
        print(f"{report.write_index(workdir / 'report', title, results, pages)}: the layers")


def _read(folder: Path, layer: str) -> list[Saved]:
    """The run in a folder and those to show next to it, of the same layer if they have several."""
    runs = [files.read(folder)]
    for text in _BESIDE.value:
        other = Path(os.path.expanduser(text))
        runs.append(files.read(other / folder_of(layer) if files.layers_in(other) else other))
    expected = runs[0].config.images.source
    for run in runs:
        if (images := run.config.images.source) != expected:
            raise InputError(
                f"--beside has other images ({images}) than --workdir ({expected}): expected the "
                "same."
            )
    return runs


def _write(folder: Path, runs: Sequence[Saved], source: Source, target: Target | None) -> None:
    config, page = runs[0].config, folder / "index.html"
    verdicts = [judged.read(folder.parent), *(None for _ in runs[1:])]
    asked = None
    if _THUMBNAILS.value:
        asked = _units(runs[0].result, _THUMBNAILS.value, "--thumbnails")
    elif page.exists():
        print(f"{page} is replaced", flush=True)
    size = report.write(
        folder,
        f"{config.target.source}: what each neuron of {config.target.layer} responds to",
        [Method.of(run, verdict) for run, verdict in zip(runs, verdicts, strict=True)],
        source,
        target,
        config.crop,
        config.images.batch,
        inputs.displays(),
        config.target.pooling,
        asked,
    )
    what = f"{size / 1e6:.1f} MB"
    added = f"{what} for {len(asked or ())} neurons were added"
    print(f"{page}: {added if asked else f'{what} with its thumbnails'}")


def _units(result: Result, asked: Sequence[str] | None, flag: str = "--neurons") -> list[int]:
    """The units that are asked for, or else the first ones that have exemplars."""
    if asked is None:
        return [neuron.unit for neuron in result if neuron.exemplars][:6]
    known = {str(neuron.unit) for neuron in result}
    for text in asked:
        if text not in known:
            raise InputError(
                f"{flag} has {text!r}: expected numbers of neurons between commas, up to "
                f"{len(known) - 1}."
            )
    return [int(text) for text in asked]
