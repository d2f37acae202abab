"""The report: the page of a result, from its exemplars' images, which are read again.

Exemplars are found in the images by name: a result of bare activations knows only the rows of a
matrix, and a folder may have changed since it was described.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxdesc.config import Config, CropConfig, TargetConfig
from jaxdesc.errors import InputError, check_type, shown
from jaxdesc.evaluation.judging.judgement import Judgement
from jaxdesc.images.example import Source
from jaxdesc.images.sources import open_source
from jaxdesc.models.target import Target
from jaxdesc.report import data, page, pictures
from jaxdesc.report.data import Method
from jaxdesc.report.judged import Verdict
from jaxdesc.result import Result
from jaxdesc.runtime.progress import Display, Progress, State
from jaxdesc.stages.run import settled
from jaxdesc.store.workdir import folder_of

NAMED = 3  # missing images in an error
ALL, SOME = 4096, 1000  # up to ALL neurons all get thumbnails, of more the first SOME


def write_report(
    found: Result | Mapping[str, Result],
    folder: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | Source,
    target: Target | None = None,
    title: str = "What each neuron responds to",
    beside: Mapping[str, Any] | None = None,
    cam: str = "",
    of: str = "",
    judgement: Judgement | None = None,
) -> Path:
    """Write the page of a result: every neuron with its concepts and exemplars.

    Args:
        found: the result; or a result for each of several layers, which get a folder and a page
            each, and an index.
        folder: the folder to write; it opens from there without a network.
        images: the source that was described; for bare activations, the images whose names they
            have.
        target: network whose attention map is shown over the exemplars; no heatmaps if None.
        title: title of the page.
        beside: other results for the same neurons and images, by name; each by layer if there are
            several.
        cam: the kind of attention map that was given to `describe`.
        of: whose windows they are, as was given to `describe`; "unit" gets heatmaps of units.
        judgement: what `judge` found of the labels of one layer.

    Of more than 4,096 neurons only the first 1,000 get thumbnails; `launch.report --thumbnails`
    adds those of others.

    Returns:
        The path of the page, or of the index.

    Raises:
        InputError: results for other neurons, exemplars that aren't among the images, or images
            that can't be used.
    """
    path = Path(os.path.expanduser(folder))
    if isinstance(found, Mapping):
        for layer, result in found.items():
            others = {name: each[layer] for name, each in (beside or {}).items()}
            options: dict[str, Any] = {"images": images, "target": target, "cam": cam, "of": of}
            options |= {"title": f"{title}: {layer}", "beside": others}
            write_report(result, path / folder_of(layer), **options)
        return write_index(path, title, found, "{}/index.html")
    results = {"this result": found} | dict(beside or {})
    for name, result in results.items():
        check_type(result, Result, name, "describe")
    if target is not None:
        check_type(target, Target, "target", "load_target")
    methods = [Method(name, result, result.metrics_dict()) for name, result in results.items()]
    if judgement is not None:
        methods[0] = replace(methods[0], verdict=Verdict.of(judgement))
    crop, pooling, layer = CropConfig(cam=cam, of=of), "mean", found[0].layer
    if target is not None:
        asked = Config(target=TargetConfig(layer=layer), crop=crop)
        settings = settled(asked, target)
        crop, pooling = settings.crop, settings.target.pooling
    write(path, title, methods, open_source(images), target, crop, pooling=pooling)
    return path / "index.html"


def write(
    folder: Path,
    title: str,
    methods: Sequence[Method],
    source: Source,
    target: Target | None,
    crop: CropConfig,
    batch: int = 64,
    displays: Sequence[Callable[[State], Display]] = (),
    pooling: str = "mean",
    thumbnails: Collection[int] | None = None,
) -> int:
    """Write the page of some methods, the first of which is listed, and return its size in bytes.

    `crop` is as for `pictures.look`, and `pooling` the layer's. Without a target, heatmaps are left
    out; windows of units have heatmaps of units. If units are given whose `thumbnails` a written
    page lacks, only these are added.
    """
    methods = [replace(method, result=located(method.result, source)) for method in methods]
    units = [neuron.unit for neuron in methods[0].result]
    if thumbnails is None:
        places = list(range(len(units) if len(units) <= ALL else SOME))
    else:
        asked = [place for place, unit in enumerate(units) if unit in thumbnails]
        numbers = sorted({place // data.PIECE for place in asked})
        places = sorted({*asked, *(p for number in numbers for p in page.drawn(folder, number))})
    shown = [method.result.neurons[place] for method in methods for place in places]
    indices = sorted({e.index for neuron in shown for e in neuron.exemplars})
    own = None
    if crop.units:
        of_image: dict[int, dict[int, None]] = {}
        for neuron in shown:
            for exemplar in neuron.exemplars:
                of_image.setdefault(exemplar.index, {})[neuron.unit] = None
        by_image = {image: tuple(units) for image, units in of_image.items()}
        own = pictures.Own(methods[0].result[0].layer, pooling, by_image)
    with Progress(len(indices), "look", displays) as bar:
        seen = pictures.look(source, indices, target, crop, batch, bar.update, own)
    if thumbnails is None:
        return page.write(folder, page.files(title, methods, seen))
    return page.add(folder, page.pieces(numbers, methods, seen))


def write_index(folder: Path, title: str, results: Mapping[str, Result], pages: str) -> Path:
    """Write the page that names several layers, and return its path.

    `pages` is the address of a layer's page as seen from there, with {} for the layer's folder.
    """
    page.check_replaceable(folder)
    addresses = {layer: pages.format(folder_of(layer)) for layer in results}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text(page.index(title, results, addresses), encoding="utf-8")
    return folder / "index.html"


def located(result: Result, source: Source) -> Result:
    """Give each exemplar the index that its image has in a source.

    An image is found by its name in the source, such as its path in a folder. If that fails, either
    name may be the end of the other one's path, as long as only one image of the source fits.
    """
    asked = {(e.image, e.index) for neuron in result for e in neuron.exemplars}
    moved = {
        (name, index)
        for name, index in asked
        if index >= len(source) or source.identify(index) != name
    }
    if not moved:
        return result
    names = {name for name, _ in moved}
    found = _matches(names, [source.identify(index) for index in range(len(source))])
    taken = Counter({index: 1 for _, index in asked - moved} | Counter(found.values()))
    missing = sorted(name for name in names if taken[found.get(name, -1)] != 1)
    if missing and all(name == str(index) for name, index in moved):
        raise InputError(
            f"The exemplars have the numbers of rows for names, such as {missing[0]!r}, which say "
            f"nothing about {source.spec}: give describe_activations the names of its rows as "
            "images=, such as those of image_features."
        )
    if missing:
        more = ", …" if len(missing) > NAMED else ""
        raise InputError(
            f"{len(missing)} of the exemplars' {len({name for name, _ in asked})} images can't be "
            f"found in {source.spec}, or not one alone "
            f"({', '.join(map(shown, missing[:NAMED]))}{more}): give the images that were "
            "described, whose paths are also the names that describe_activations takes as images=."
        )
    neurons = []
    for neuron in result:
        moves = (replace(e, index=found.get(e.image, e.index)) for e in neuron.exemplars)
        neurons.append(replace(neuron, exemplars=tuple(moves)))
    return replace(result, neurons=tuple(neurons))


def _matches(names: Collection[str], sources: Sequence[str]) -> dict[str, int]:
    """Index of the only source image that each name can mean."""

    def ends_of(path: str) -> list[str]:  # without its first folder, its first two, and so on
        return [path[slash.end() :] for slash in re.finditer("/", path)]

    whole, ends = defaultdict(set), defaultdict(set)
    for index, name in enumerate(sources):
        whole[name].add(index)
        for end in ends_of(name):
            ends[end].add(index)
    matches = {}
    for name in names:
        same = whole.get(name) or ends.get(name, set()).union(
            *(whole.get(end, ()) for end in ends_of(name))
        )
        if len(same) == 1:
            (matches[name],) = same
    return matches
