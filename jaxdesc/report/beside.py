"""Finished runs of the same neurons beside each other: what their page and their figures show."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from jaxdesc.errors import InputError
from jaxdesc.images.example import Source
from jaxdesc.models.target import Target
from jaxdesc.report import page, pictures, saved
from jaxdesc.report.located import located
from jaxdesc.report.saved import Saved
from jaxdesc.result import Result
from jaxdesc.runtime.progress import Display, Progress, State

SHOWN = 6  # neurons of the figures


def read(workdir: Path, beside: Sequence[Path] = ()) -> list[Saved]:
    """Read a run and those beside it.

    Raises:
        InputError: a folder without results, or runs on other images.
    """
    first, *others = runs = [saved.read(folder) for folder in (workdir, *beside)]
    own = first.config.images.source
    for other in others:
        if (theirs := other.config.images.source) != own:
            raise InputError(
                f"--beside has other images ({theirs}) than --workdir ({own}): expected the same."
            )
    return runs


def units(result: Result, asked: Sequence[str] | None) -> list[int]:
    """The units that are asked for, or else the first ones that have exemplars.

    Raises:
        InputError: a text that is no unit's number.
    """
    if asked is None:
        return [neuron.unit for neuron in result if neuron.exemplars][:SHOWN]
    known = {str(neuron.unit) for neuron in result}
    for text in asked:
        if text not in known:
            raise InputError(
                f"--neurons has {text!r}: expected numbers of neurons between commas, up to "
                f"{len(known) - 1}."
            )
    return [int(text) for text in asked]


def write_page(
    folder: Path,
    runs: Sequence[Saved],
    source: Source,
    target: Target | None = None,
    displays: Sequence[Callable[[State], Display]] = (),
) -> int:
    """Write the page of the runs, the first of which is the one that is listed.

    Args:
        folder: where to.
        runs: the methods.
        source: of their images.
        target: whose Grad-CAM is shown; no heatmaps where None.
        displays: of the pass over the exemplars' images.

    Returns:
        Its size in bytes, with its thumbnails.

    Raises:
        InputError: runs of other neurons, exemplars that aren't among the images (any more), or an
            image that can't be decoded.
    """
    own = runs[0].config
    runs = [replace(run, result=located(run.result, source)) for run in runs]
    indices = pictures.of_exemplars([run.result for run in runs])
    with Progress(len(indices), "look", displays) as bar:
        looked = pictures.look(source, indices, target, own.crop, own.images.batch, bar.update)
    title = f"{own.target.source}: what each neuron of {own.target.layer} responds to"
    return page.write(folder, page.files(title, [page.Method.of(run) for run in runs], looked))
