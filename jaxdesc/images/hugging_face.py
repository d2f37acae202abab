"""Data sets of Hugging Face, read from Arrow files on this machine by its library `datasets`."""

import hashlib
import io
import os
import re
from pathlib import Path
from typing import Any

from jaxdesc.errors import SHOWN, InputError, UnusableImage, is_text, shown
from jaxdesc.images.example import Example, decode, image_column

FORM = "hf:NAME/SPLIT[,config=CONFIG][,image=COLUMN], or hf:FOLDER/SPLIT[,image=COLUMN]"
_NAMES = ("file_name", "filename")
_ID = re.compile(r"[\w.-]+(/[\w.-]+)?", re.A)  # NAME or OWNER/NAME


class HuggingFace:
    """One split of a data set with an image, from a saved folder or the cache of `datasets`.

    Nothing is fetched: a data set of the Hub, such as `owner/photos`, must have been loaded once. A
    folder is what `save_to_disk` wrote, of all splits or of a single one. Images stay encoded until
    Pillow decodes them, as a folder's do. The category is the name in the set's `ClassLabel`, which
    `labels.matched` turns into a class.

    `spec` is the rest after `hf:`, such as `owner/photos/validation[:1000]`. `config` chooses one
    of several configs in the cache, `image` one of several images. `namings` has the names of each
    `ClassLabel` in its order, the one called label first. Raises `InputError` for a set that is not
    there or damaged, or has no such split, or no image or several.
    """

    has_boxes = has_labels = False

    def __init__(self, spec: str):
        self.spec = f"hf:{spec}"
        # Values of options may hold commas.
        parts: list[str] = re.split(r",(config|image)=", spec)
        options = dict(zip(parts[1::2], parts[2::2], strict=True))
        name, _, self._split = parts[0].rpartition("/")
        config, folder = options.get("config"), os.path.abspath(os.path.expanduser(name))
        local = os.path.isdir(folder) or name.startswith(("/", "~", "."))
        fits = config is None if local else _ID.fullmatch(name)
        if not (name and self._split and fits) or not is_text(spec):
            raise InputError(f"The image source {shown(self.spec)} can't be read: expected {FORM}.")
        title = f"The data set {shown(name)}"
        splits = _saved(folder, title) if local else _cached(name, config, title)
        rows = _part(splits, self._split, title)
        features = rows.features
        self._image = image_column(features, options.get("image"), title)
        keys = [key for key, each in features.items() if type(each).__name__ == "ClassLabel"]
        self._labels = sorted(keys, key=lambda key: (key != "label", key))
        self.namings = tuple(tuple(features[key].names) for key in self._labels)
        self._name = next((key for key in _NAMES if key in features), None)
        self._set = Path(name).name
        self._rows, self._texts = _columns(rows, self._image, self._labels, self._name)

    def __reduce__(self) -> Any:
        return HuggingFace, (self.spec.removeprefix("hf:"),)  # another process opens it again

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Example:
        """Read one row and decode its image."""
        row = _row(self._rows, index, self._number(index))
        name = f"{self._named(row, index)!r} of {self.spec}"
        labels = zip(self.namings, (row[key] for key in self._labels), strict=True)
        # A hidden label is -1 or missing.
        categories = tuple(
            names[i] if i is not None and 0 <= i < len(names) else None for names, i in labels
        )
        return Example(_decoded(row[self._image], name), categories=categories)

    def identify(self, index: int) -> str:
        """Give the file name in the row, or else split and number."""
        try:
            row = {} if self._texts is None else _row(self._texts, index, "")
            return self._named(row, index)
        except UnusableImage:
            return self._number(index)

    def fingerprint(self) -> str:
        """Hash split, columns and names, and every file's name, size and times of change."""
        import pyarrow.compute as pc

        images = self._rows.data.column(self._image)
        files = [each["filename"] for each in self._rows.cache_files]
        # Images that are not in the table but in files of their own.
        outside = pc.is_null(pc.struct_field(images, "bytes"))
        files += pc.struct_field(images, "path").filter(outside).drop_null().to_pylist()
        facts = [(Path(file).name, *_stat(file)) for file in files]
        parts = self._split, self._image, self._labels, self.namings, self._name, facts
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def _named(self, row: Any, index: int) -> str:
        return str(row[self._name]) if row.get(self._name or "") else self._number(index)

    def _number(self, index: int) -> str:
        return f"{self._set}/{self._split}/{index:08d}"


def _saved(folder: str, title: str) -> dict[str, Any]:
    """Open the splits that `save_to_disk` wrote."""
    datasets = _library(title)
    try:
        found = datasets.load_from_disk(folder, keep_in_memory=False)
    except Exception as error:  # of any type: Arrow's, JSON's, an OSError
        raise InputError(
            f"{title} can't be read ({_reason(error)}): give a folder that save_to_disk wrote, all "
            "of it."
        ) from error
    # A single split that was saved may have no name.
    return found if isinstance(found, dict) else {str(found.split or "train"): found}


def _cached(name: str, config: str | None, title: str) -> dict[str, Any]:
    """Open the splits in the cache, by the builder that asks no server."""
    datasets = _library(title)
    from datasets.packaged_modules.cache.cache import Cache

    identity = {"repo_id": name, "dataset_name": name.split("/")[-1], "config_name": config}
    try:
        found: dict[str, Any] = Cache(version="auto", hash="auto", **identity).as_dataset()
    except Exception as error:  # of any type, as above
        raise InputError(
            f"{title} can't be read from the cache {shown(str(datasets.config.HF_DATASETS_CACHE))} "
            f"({_reason(error)}): run datasets.load_dataset({name[:SHOWN]!r}) once, choose one of "
            "several configs with ',config=NAME' after the split, or give a folder that "
            "save_to_disk wrote."
        ) from error
    return found


def _library(title: str) -> Any:
    try:
        import datasets  # not at the top: it takes a second
    except ImportError as error:
        raise InputError(
            f"{title} can't be read ({error}): run pip install 'jaxdesc[datasets]'."
        ) from error
    return datasets


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:SHOWN]}"


def _part(splits: dict[str, Any], split: str, title: str) -> Any:
    """Return the rows of a split, or of a part of one."""
    import datasets

    try:
        instruction = datasets.ReadInstruction.from_spec(split)
        parts = instruction.to_absolute({name: len(rows) for name, rows in splits.items()})
        rows = [splits[part.splitname].select(range(part.from_, part.to)) for part in parts]
    except Exception as error:  # of any type: from the parser of splits
        raise InputError(
            f"{title} can't be split as {shown(split)}: expected one of {', '.join(splits)}, or a "
            f"part such as {next(iter(splits))}[:1000]."
        ) from error
    if not sum(map(len, rows)):
        raise InputError(f"{title} has no row in the split {shown(split)}: give another.")
    return datasets.concatenate_datasets(rows)


def _columns(rows: Any, image: str, labels: list[str], name: str | None) -> tuple[Any, Any]:
    """Return the columns that are read, images encoded, and that of the names alone, if any."""
    import datasets

    plain = rows.with_format(None)
    read = plain.select_columns([image, *labels, *([name] if name else [])])
    encoded = read.cast_column(image, datasets.Image(decode=False))
    return encoded, plain.select_columns([name]) if name else None


def _row(rows: Any, index: int, name: str) -> Any:
    try:
        return rows[index]
    except Exception as error:  # of any type: Arrow's and the features'
        raise UnusableImage(repr(name), f"can't be read from its row ({shown(error)})") from error


def _decoded(value: Any, name: str) -> Any:
    """Decode an image of a row: its bytes, or the file that it names."""
    if value and value["bytes"] is not None:
        return decode(io.BytesIO(value["bytes"]), name)
    if not value or not value["path"]:
        raise UnusableImage(name, "is missing in its row")
    if not os.path.isfile(value["path"]):
        raise UnusableImage(name, f"is not in its row but in {shown(value['path'])}, not a file")
    return decode(Path(value["path"]), name)


def _stat(file: str) -> tuple[int, ...]:
    try:
        stat = os.stat(file)
    except OSError:  # the image will be missing
        return ()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
