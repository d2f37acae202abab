"""Bad folders, images and other sources."""

import json
import os
from io import BytesIO

import numpy as np
from PIL import Image

from jaxdesc.images.folder import Folder
from jaxdesc.images.sources import open_source
from jaxdesc.images.tfds import Tfds
from tests.faults.place import Rows, long_name, png
from tests.plain_target import PREPROCESS

case = Rows()

# How several messages end.
ABSENT = "' does not exist: give a folder of JPEG, PNG or WebP files as folder:PATH."
NO_IMAGE = " can't be decoded (no image): repair or remove it."
EMPTY = " is empty: repair or remove it."
UNREADABLE = " can't be decoded (<said>): repair or remove it."
SOURCES = ": expected KIND:REST, KIND one of folder, tfds, scenes, or the path of a folder."
OPTIONS = (
    " can't be read: expected scenes:split=probe,seed=0,count=1600,correlation=0, with "
    "split one of train, validation, probe, pairs, seed at least 0 and below 2**32, count at "
    "least 1 and at most 1000000000 and correlation in [0, 1]."
)


# Folders of images.


def folder(name="photos", **files):
    """Open a folder of these files."""

    def run(place):
        place.file(f"{name}/.keep")
        for file, content in files.items():
            place.file(f"{name}/{file}", content)
        return open_source(f"folder:{place.folder / name}")

    return run


case(
    "folder: missing",
    lambda p: open_source(f"folder:{p.folder}/none"),
    "The image folder '<here>/none" + ABSENT,
)
case(
    "folder: empty",
    folder(),
    "The image folder '<here>/photos' holds no image: expected at least one file ending "
    "in .jpg, .jpeg, .jpe, .jfif, .png, .webp.",
)
case(
    "folder: no images",
    folder(**{"a.txt": "a", "b.gif": "b", "c.jpg.bak": "c"}),
    "The image folder '<here>/photos' holds no image: expected at least one file ending "
    "in .jpg, .jpeg, .jpe, .jfif, .png, .webp, but found 'b.gif' (GIF is not read: convert it to "
    "JPEG, PNG or WebP).",
)
case(
    "folder: a file",
    lambda p: open_source(f"folder:{p.file('photos.png', 'x')}"),
    "The image folder '<here>/photos.png" + ABSENT,
)
case(
    "folder: zero byte in its name",
    lambda p: open_source("folder:a\0b"),
    "The image folder 'a\\x00b" + ABSENT,
)
case(
    "folder: escape sequence in its name",
    lambda p: open_source("folder:\x1b[2J"),
    "The image folder '\\x1b[2J" + ABSENT,
)


def circular_folder(place):
    (place.folder / "loop").symlink_to(place.folder / "loop")
    open_source(f"folder:{place.folder / 'loop'}")


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
    def walk(*arguments, **options):
        raise RecursionError

    place.patch.setattr("os.walk", walk)
    open_source(f"folder:{place.folder}")


def folder_of_no_text(place):
    name = os.fsdecode(b"photos\xff")
    place.file(f"{name}/a.png")
    open_source(f"folder:{place.folder / name}")


case("folder: links to itself", circular_folder, "The image folder '<here>/loop" + ABSENT)
case(
    "folder: locked",
    locked_folder,
    "The image folder '<here>/photos' can't be read ([Errno 13] Permission denied: "
    "'<here>/photos/locked'): make it readable, or give another.",
)
case(
    "folder: too deep",
    deep_folder,
    "The image folder '<here>' holds folders within folders, too deep to be read: give "
    "one that is less deep.",
)
case(
    "folder: name that is not UTF-8",
    folder_of_no_text,
    "The image folder '<here>/photos\\udcff' has a name that is not UTF-8: rename it, or "
    "give a link to it.",
)


# Images.


def image(content, name="a.png"):
    """Read the only image of a folder."""

    def run(place):
        place.file(f"photos/{name}", content(place) if callable(content) else content)
        Folder(str(place.folder / "photos"))[0]

    return run


def saved(kind, size=(40, 30), **options):
    """The bytes of a picture with structure."""

    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file := BytesIO(), kind, **options)
    return file.getvalue()


def unchecked_bomb(place):
    place.patch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    return png(50_000, 50_000)


case("image: zero bytes", image(b""), "The image '<here>/photos/a.png'" + EMPTY)
case(
    "image: text",
    image("<html>404</html>", "a.jpg"),
    "The image '<here>/photos/a.jpg' is HTML, which is not read: repair or remove it.",
)
case(
    "image: truncated JPEG",
    image(saved("JPEG")[:-600], "a.jpg"),
    "The image '<here>/photos/a.jpg'" + UNREADABLE,
)
case(
    "image: truncated PNG",
    image(saved("PNG")[:-600]),
    "The image '<here>/photos/a.png'" + UNREADABLE,
)
case(
    "image: truncated WebP",
    image(saved("WEBP")[:-300], "a.webp"),
    "The image '<here>/photos/a.webp'" + UNREADABLE,
)
case("image: header only", image(saved("PNG")[:33]), "The image '<here>/photos/a.png'" + NO_IMAGE)
case(
    "image: corrupt",
    image(saved("PNG")[:60] + bytes(20) + saved("PNG")[80:]),
    "The image '<here>/photos/a.png'" + UNREADABLE,
)
case(
    "image: decompression bomb",
    image(png(50_000, 50_000)),
    "The image '<here>/photos/a.png'" + UNREADABLE,
)
case(
    "image: decompression bomb, Pillow's check off",
    image(unchecked_bomb),
    "The image '<here>/photos/a.png' can't be decoded (50000 × 50000 pixels are too "
    "many): repair or remove it.",
)
case(
    "image: as large as can be declared",
    image(png(2**31 - 1, 2**31 - 1)),
    "The image '<here>/photos/a.png'" + UNREADABLE,
)
case("image: no width", image(png(0, 5)), "The image '<here>/photos/a.png'" + NO_IMAGE)
case(
    "image: of a program's kind", image(saved("EPS")), "The image '<here>/photos/a.png'" + NO_IMAGE
)
case(
    "image: name of a formula, two lines",
    image(b"", '=HYPERLINK("x")\n.png'),
    "The image '<here>/photos/=HYPERLINK(\"x\")\\n.png'" + EMPTY,
)
case(
    "image: name that steers a terminal",
    image(b"", "\x1b[31m<script>.png"),
    "The image '<here>/photos/\\x1b[31m<script>.png'" + EMPTY,
)
case(
    "image: name that is not UTF-8",
    image(b"", os.fsdecode(b"\xff.png")),
    "The image '<here>/photos/\\udcff.png'" + EMPTY,
)
case(
    "image: longer than can be resized",
    lambda p: PREPROCESS.cut(Image.new("1", (1, 30_000_000)), (0.5, 0.5)),
    "The image of 1 × 30000000 pixels would become 37 × 1110000000, too long for its "
    "shorter side: repair or remove it.",
)


def linked(target):
    def run(place):
        place.file("photos/.keep")
        (place.folder / "photos" / "a.png").symlink_to(place.folder / "photos" / target)
        Folder(str(place.folder / "photos"))[0]

    return run


def pipe(place):
    place.file("photos/.keep")
    os.mkfifo(place.folder / "photos" / "a.png")
    Folder(str(place.folder / "photos"))[0]


def longest_name(place):
    return image(b"", long_name(place.folder))(place)


case(
    "image: link to nothing",
    linked("gone.jpg"),
    "The image '<here>/photos/a.png' does not exist: repair or remove it.",
)
case(
    "image: link to itself",
    linked("a.png"),
    "The image '<here>/photos/a.png' can't be decoded ([Errno 40] Too many levels of "
    "symbolic links: '<here>/photos/a.png'): repair or remove it.",
)
case("image: a pipe", pipe, "The image '<here>/photos/a.png' is not a file: repair or remove it.")
case("image: longest name", longest_name, "The image '<here>/photos/<x>.png'" + EMPTY)


# Other sources.

case(
    "source: unknown",
    lambda p: open_source("web:imagenet2012"),
    "Unknown image source 'web:imagenet2012'" + SOURCES,
)
case(
    "source: folder without a path",
    lambda p: open_source("folder:"),
    "The image folder '" + ABSENT,
)
case(
    "scenes: unknown option",
    lambda p: open_source("scenes:sed=1"),
    "The image source 'scenes:sed=1'" + OPTIONS,
)
case(
    "scenes: unknown split",
    lambda p: open_source("scenes:split=test"),
    "The image source 'scenes:split=test'" + OPTIONS,
)
case(
    "scenes: no number",
    lambda p: open_source("scenes:count=many"),
    "The image source 'scenes:count=many' has a bad number: invalid literal for int() "
    "with base 10: 'many'; expected scenes:split=probe,seed=0,count=1600,correlation=0.",
)
case(
    "scenes: correlation is NaN",
    lambda p: open_source("scenes:correlation=nan"),
    "The image source 'scenes:correlation=nan'" + OPTIONS,
)
case(
    "scenes: twice",
    lambda p: open_source("scenes:seed=1,seed=2"),
    "The image source 'scenes:seed=1,seed=2' gives an option twice: give it once.",
)
case(
    "tfds: no split",
    lambda p: open_source("tfds:imagenet2012"),
    "The image source 'tfds:imagenet2012' can't be read: expected "
    "tfds:NAME[/CONFIG][:VERSION]/SPLIT[,data_dir=PATH][,image=KEY].",
)


def tfds(spec, **files):
    def run(place):
        for name, content in files.items():
            place.file(f"photos/1.0.0/{name}.json", content)
        Tfds(f"{spec},data_dir={place.folder}")

    return run


FEATURES = {"pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict"}

case(
    "tfds: unknown name",
    tfds("imagenet2013/validation"),
    "The TFDS set 'imagenet2013' is not prepared in '<here>': run `tfds build "
    "imagenet2013 --file_format=array_record --data_dir=<here>`, or give its folder in "
    "TFDS_DATA_DIR or as ',data_dir=PATH' after the split.",
)
case(
    "tfds: name outside the data",
    tfds("../photos/validation"),
    "The TFDS set '../photos' is not prepared in '<here>': run `tfds build ../photos "
    "--file_format=array_record --data_dir=<here>`, or give its folder in "
    "TFDS_DATA_DIR or as ',data_dir=PATH' after the split.",
)
case(
    "tfds: broken description",
    tfds("photos/train", features="{", dataset_info="{}"),
    "<here>/photos/1.0.0/features.json is not a description of features: prepare the set again.",
)
case(
    "tfds: deep description",
    tfds("photos/train", features="[" * 100_000),
    "<here>/photos/1.0.0/features.json is not a description of features: prepare the set again.",
)
case(
    "tfds: description of another kind",
    tfds("photos/train", features=json.dumps(FEATURES), dataset_info='{"splits": 3}'),
    "The TFDS set 'photos' in '<here>' can't be read (ParseError: <said>): prepare it again.",
)
