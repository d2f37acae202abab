"""The report of a result that is at hand, rather than in a working directory."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from jaxdesc.config import CropConfig
from jaxdesc.images.sources import Source, open_source
from jaxdesc.models.target import Target
from jaxdesc.report import page, pictures
from jaxdesc.report.page import Method
from jaxdesc.result import Result
from jaxdesc.saliency import DEFAULT


def write_report(
    found: Result,
    folder: str | Path,
    *,
    images: str | PathLike[str] | Source,
    target: Target | None = None,
    title: str = "What each neuron responds to",
    beside: Mapping[str, Result] | None = None,
    cam: str = DEFAULT,
) -> Path:
    """Write the page of a result: every neuron with its concepts and exemplars.

    Args:
        found: what it shows.
        folder: where to; it opens from there without a network.
        images: the source that was described.
        target: whose map of attention is shown over the exemplars; no heatmaps where None.
        title: of the page.
        beside: other results of the same neurons on the same images, by their names.
        cam: that map, as `describe` was given it.

    Returns:
        The path of the page.

    Raises:
        InputError: results of other neurons, or images that can't be used.
    """
    source = open_source(images)
    results = {"this result": found} | dict(beside or {})
    methods = [Method(name, own, own.metrics_dict()) for name, own in results.items()]
    shown = pictures.of_exemplars(list(results.values()))
    looked = pictures.look(source, shown, target, CropConfig(cam=cam))
    page.write(Path(folder), page.files(title, methods, looked))
    return Path(folder) / "index.html"
