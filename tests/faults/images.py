"""Bad folders, images and other sources, by the message that each gives."""

import json
import os
from io import BytesIO
from unittest.mock import Mock

import numpy as np
from PIL import Image

from jaxdesc.images.folder import Folder
from jaxdesc.images.sources import open_source
from jaxdesc.images.tfds import Tfds
from tests.faults.place import png, rows
from tests.plain_target import PREPROCESS


def source(spec, *files):
    """Open a source; in its spec and in the names of empty files, <here> is the folder."""

    def run(place):
        for file in files:
            place.file(file)
        open_source(spec.replace("<here>", str(place.folder)))

    return run


def image(content, name="a.png"):
    """Read the only image of a folder, from bytes or a function that puts it there."""

    def run(place):
        path = place.file(f"photos/{name}", b"" if callable(content) else content)
        if callable(content):
            path.unlink()
            content(path)
        Folder(str(path.parent))[0]

    return run


def saved(kind):
    """The bytes of a picture with structure."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file := BytesIO(), kind)
    return file.getvalue()


def locked_folder(place):
    """Simulated, as root may read everything."""
    place.file("photos/locked/a.png")
    listed = os.scandir

    def scandir(path):
        if os.path.basename(path) == "locked":
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    place.patch.setattr("os.scandir", scandir)
    open_source(f"folder:{place.folder / 'photos'}")


def deep_folder(place):
    place.patch.setattr("os.walk", Mock(side_effect=RecursionError))
    open_source(f"folder:{place.folder}")


def unchecked_bomb(place):
    place.patch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    image(png(50_000, 50_000))(place)


def tfds(spec, **files):
    """Open a TFDS set that has a description and no records."""

    def run(place):
        for name, content in files.items():
            place.file(f"photos/1.0.0/{name}.json", content)
        Tfds(f"{spec},data_dir={place.folder}")

    return run


NOT_UTF8 = os.fsdecode(b"photos\xff")
FEATURES = json.dumps(
    {"pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict"}
)

ROWS = {
    # Folders.
    "The image folder '<here>/none' does not exist: give": source("folder:<here>/none"),
    "The image folder 'a\\x00\\x1b[2J' does not exist: give": source("folder:a\0\x1b[2J"),
    "The image folder '<here>/photos' holds no image: expected ... .jpg, ... but found 'b.gif' "
    "(GIF is not read: convert it": source(
        "folder:<here>/photos", "photos/a.txt", "photos/b.gif", "photos/c.jpg.bak"
    ),
    "The image folder '<here>/photos' can't be read (... '<here>/photos/locked'): make it "
    "readable": locked_folder,
    "The image folder '<here>' holds folders within folders, too deep": deep_folder,
    "The image folder '<here>/photos\\udcff' has a name that is not UTF-8: rename it": source(
        f"folder:<here>/{NOT_UTF8}", f"{NOT_UTF8}/a.png"
    ),
    # Images.
    "The image '<here>/photos/a.png' is empty: repair or remove it.": image(b""),
    "The image '<here>/photos/a.jpg' is HTML, which is not read": image(b"<html>404", "a.jpg"),
    # Of a format that Pillow would hand to another program.
    "The image '<here>/photos/a.png' can't be decoded (no image)": image(saved("EPS")),
    "The image '<here>/photos/a.jpg' can't be decoded (": image(saved("JPEG")[:-600], "a.jpg"),
    "The image '<here>/photos/a.webp' can't be decoded (": image(saved("WEBP")[:-300], "a.webp"),
    "The image '<here>/photos/a.png' can't be decoded (... bomb": image(png(50_000, 50_000)),
    "The image '<here>/photos/a.png' can't be decoded (50000 × 50000 pixels": unchecked_bomb,
    "The image '<here>/photos/a.png' does not exist": image(lambda path: path.symlink_to("b.png")),
    "The image '<here>/photos/a.png' is not a file: repair": image(os.mkfifo),
    "The image of 1 × 30000000 pixels would become 37 × 1110000000, too long": lambda p: (
        PREPROCESS.cut(Image.new("1", (1, 30_000_000)), (0.5, 0.5))
    ),
    # Other sources.
    "Unknown image source 'web:photos': expected KIND:REST, KIND one": source("web:photos"),
    **rows(
        "The image source ",
        source,
        {
            "'scenes:sed=1' can't be read: expected scenes:split=probe": "scenes:sed=1",
            "'scenes:split=test' can't be read: expected": "scenes:split=test",
            "'scenes:correlation=nan' can't be read: expected": "scenes:correlation=nan",
            "'scenes:count=x' has a bad number: ... 'x'; expected": "scenes:count=x",
            "'scenes:seed=1,seed=2' gives an option twice: give": "scenes:seed=1,seed=2",
            "'tfds:photos' can't be read: expected tfds:NAME": "tfds:photos",
            "'hf:photos' can't be read: expected hf:NAME/SPLIT[,config=": "hf:photos",
            "'hf:/data/photos/train,config=a' can't be read:": "hf:/data/photos/train,config=a",
            "'hf:*/train' can't be read: expected hf:NAME": "hf:*/train",
        },
    ),
    "The data set '<here>' can't be read (FileNotFoundError: Directory <here> is neither ...): "
    "give a folder that save_to_disk wrote": source("hf:<here>/train"),
    "The TFDS set '../photos' is not prepared in '<here>': run `tfds build ../photos": tfds(
        "../photos/validation"
    ),
    "<here>/photos/1.0.0/features.json is not a description of features: prepare": tfds(
        "photos/train", features="[" * 100_000
    ),
    "The TFDS set 'photos' in '<here>' can't be read (ParseError: ...): prepare it again": tfds(
        "photos/train", features=FEATURES, dataset_info='{"splits": 3}'
    ),
}
