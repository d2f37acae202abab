r"""One image explained by the neurons that a run has described: what, where and why.

    python -m launch.describe --config=configs/scenes.py --workdir=out/layer4 \
        --config.target.layer=layer4 --config.ablation.views="()"
    python -m launch.explain --workdir=out/layer4 --image=PHOTO.jpg

The class map wants other images of the predicted class: those of the run's own source, where it has
labels, up to `--peers` of them. Writes a picture (PNG, SVG) and a fragment of HTML.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from absl import flags
from PIL import Image

from jaxdesc.errors import InputError, UnusableImage
from jaxdesc.explain import explain
from jaxdesc.images.sources import Source, open_source
from jaxdesc.models.target import load_target
from jaxdesc.report import saved
from jaxdesc.vocabulary import load_classes
from launch import command, inputs

_IMAGE = flags.DEFINE_string("image", None, "The image, a file.")
_PEERS = flags.DEFINE_integer("peers", 50, "Images of its class for the class map; 0 for none.")
_FOREMOST = flags.DEFINE_integer("foremost", 3, "How many neurons are shown.")


def main() -> None:
    """Read the run, explain the image, write and print it."""
    if not inputs.WORKDIR.value:
        raise InputError("--workdir is missing: say where results are.")
    if not _IMAGE.value:
        raise InputError("--image is missing: give the file of an image.")
    workdir, run = Path(inputs.WORKDIR.value), saved.read(Path(inputs.WORKDIR.value))
    config = run.config
    target = load_target(config.target.source, precision=config.precision)
    target = replace(target, classes=load_classes(config.target.classes) or target.classes)
    path = Path(_IMAGE.value)
    found = explain(target, path, run.result, neurons=_FOREMOST.value)
    source = open_source(config.images.source)
    if source.has_labels and _PEERS.value:
        peers = islice(_of_class(source, found.label), _PEERS.value)
        found = explain(target, path, run.result, peers=peers, neurons=_FOREMOST.value)
    # Any character may stand in a file's name, but not in all file systems'.
    name = re.sub(r"[^\w.-]", "_", path.stem)
    written = found.save(workdir / "explanations", name)
    print(json.dumps(found.to_dict(), indent=1, ensure_ascii=False))
    print(f"{', '.join(own.name for own in written)} in {workdir / 'explanations'}")


def _of_class(source: Source, label: int) -> Iterator[Image.Image]:
    for index in range(len(source)):
        try:
            example = source[index]
        except UnusableImage:
            continue
        if example.label == label:
            yield example.image


if __name__ == "__main__":
    command.run(main)
