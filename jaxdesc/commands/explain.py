r"""Explain one image by the neurons that a run has described: what, where and why.

    jaxdesc describe --config=scenes --workdir=out/layer4 \
        --config.target.layer=layer4 --config.ablation.views="()"
    jaxdesc explain --workdir=out/layer4 --image=PHOTO.jpg

The class map needs other images of the predicted class: those of the run's source, if it has
labels, up to `--peers` of them. Writes a picture (PNG, SVG) and a fragment of HTML, named like the
image, with a number if another explanation has that name.
"""

import json
from pathlib import Path

from jaxdesc.commands import flags, inputs
from jaxdesc.errors import InputError
from jaxdesc.images.split import open_images
from jaxdesc.report import files
from jaxdesc.report.explain import explain_among, file_name
from jaxdesc.store import Place

_IMAGE = flags.DEFINE_path("image", None, "The image, a file.")
_PEERS = flags.DEFINE_integer("peers", 50, "Images of its class for the class map; 0 for none.")
_FOREMOST = flags.DEFINE_integer("foremost", 3, "How many neurons are shown.")
FLAGS = (inputs.WORKDIR, inputs.LAYER, _IMAGE, _PEERS, _FOREMOST)


def main() -> None:
    """Read the run, explain the image, write and print it."""
    workdir = inputs.results()
    if not _IMAGE.value:
        raise InputError("--image is missing: give the file of an image.")
    run, path = files.read(workdir), Path(_IMAGE.value)
    target = inputs.open_target(run.config)
    source = open_images(run.config.images)
    crop, options = run.config.crop, {"peers": _PEERS.value, "neurons": _FOREMOST.value}
    # The window of a unit read at the class token is around another map than those shown here.
    own = crop.units and run.config.target.pooling != "class"
    field = crop.field if own else None
    found = explain_among(target, path, run.result, source, field=field, **options)
    page, folder = f"{found.to_html()}\n".encode(), workdir / "explanations"
    name = Place(folder).unused(file_name(path.stem), ".html", page.__eq__)
    written = found.save(folder, name)
    print(json.dumps(found.to_dict(), indent=1, ensure_ascii=False))
    print(f"{', '.join(file.name for file in written)} in {folder}")
