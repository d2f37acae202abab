r"""One image explained by the neurons that a run has described: what, where and why.

    python -m launch.describe --config=configs/scenes.py --workdir=out/layer4 \
        --config.target.layer=layer4 --config.ablation.views="()"
    python -m launch.explain --workdir=out/layer4 --image=PHOTO.jpg

The class map wants other images of the predicted class: those of the run's own source, where it has
labels, up to `--peers` of them. Writes a picture (PNG, SVG) and a fragment of HTML.
"""

import json
from dataclasses import replace
from pathlib import Path

from absl import flags

from jaxdesc.errors import InputError
from jaxdesc.explain import explain_among
from jaxdesc.images.sources import open_source
from jaxdesc.models.target import load_target
from jaxdesc.report import saved
from jaxdesc.vocabulary import load_classes
from launch import command, inputs

_IMAGE = flags.DEFINE_string("image", None, "The image, a file.")
_PEERS = flags.DEFINE_integer("peers", 50, "Images of its class for the class map; 0 for none.")
_FOREMOST = flags.DEFINE_integer("foremost", 3, "How many neurons are shown.")


def main() -> None:
    """Read the run, explain the image, write and print it."""
    workdir = inputs.results()
    if not _IMAGE.value:
        raise InputError("--image is missing: give the file of an image.")
    run, path = saved.read(workdir), Path(_IMAGE.value)
    own = run.config.target
    target = load_target(own.source, precision=run.config.precision, preprocess=own.preprocess)
    target = replace(target, classes=load_classes(own.classes) or target.classes)
    source = open_source(run.config.images.source)
    found = explain_among(
        target, path, run.result, source, peers=_PEERS.value, neurons=_FOREMOST.value
    )
    written = found.save(workdir / "explanations", path.stem)
    print(json.dumps(found.to_dict(), indent=1, ensure_ascii=False))
    print(f"{', '.join(own.name for own in written)} in {workdir / 'explanations'}")


if __name__ == "__main__":
    command.run(main)
