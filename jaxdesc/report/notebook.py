"""The report of a result that is at hand, rather than in a working directory."""

import os
from collections.abc import Mapping
from pathlib import Path

from jaxdesc.attention.saliency import DEFAULT
from jaxdesc.config import CropConfig
from jaxdesc.errors import check_type
from jaxdesc.images.example import Source
from jaxdesc.images.sources import open_source
from jaxdesc.models.target import Target
from jaxdesc.report import page, pictures
from jaxdesc.report.located import located
from jaxdesc.report.page import Method
from jaxdesc.result import Result


def write_report(
    found: Result,
    folder: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | Source,
    target: Target | None = None,
    title: str = "What each neuron responds to",
    beside: Mapping[str, Result] | None = None,
    cam: str = DEFAULT,
) -> Path:
    """Write the page of a result: every neuron with its concepts and exemplars.

    Args:
        found: what it shows.
        folder: where to; it opens from there without a network.
        images: the source that was described; of bare activations, the images that their names
            stand for.
        target: whose map of attention is shown over the exemplars; no heatmaps where None.
        title: of the page.
        beside: other results of the same neurons on the same images, by their names.
        cam: that map, as `describe` was given it.

    Returns:
        The path of the page.

    Raises:
        InputError: results of other neurons, exemplars that aren't among the images, or images
            that can't be used.
    """
    results = {"this result": found} | dict(beside or {})
    for name, result in results.items():
        check_type(result, Result, name, "describe")
    if target is not None:
        check_type(target, Target, "target", "load_target")
    source = open_source(images)
    results = {name: located(result, source) for name, result in results.items()}
    methods = [Method(name, result, result.metrics_dict()) for name, result in results.items()]
    shown = pictures.of_exemplars(list(results.values()))
    looked = pictures.look(source, shown, target, CropConfig(cam=cam))
    written = Path(os.path.expanduser(folder))
    page.write(written, page.files(title, methods, looked))
    return written / "index.html"
