"""TensorFlow Datasets, read from ArrayRecord files without TensorFlow."""

import hashlib
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from jaxdesc.errors import SHOWN, InputError, UnusableImage, is_text, shown
from jaxdesc.images.example import Box, Example, decode, image_column

FORM = "tfds:NAME[/CONFIG][:VERSION]/SPLIT[,data_dir=PATH][,image=KEY]"
_NAMES = ("file_name", "filename", "image/filename")


class Tfds:
    """One split of a prepared TFDS set with an image.

    Images stay encoded until Pillow decodes them, as a folder's do. The category is the name in the
    set's `ClassLabel`, which `labels.matched` turns into a class; the box is the largest of its
    `BBoxFeature`, None if the image shows no object.

    `spec` is the rest after `tfds:`, such as `imagenet2012/validation[:1000]`. Without `data_dir`
    the set is searched in TFDS_DATA_DIR, or else in TFDS's default. `image` chooses one of several
    images. `namings` has the names of each `ClassLabel` in its order, the one called label first.
    Raises `InputError` for a set that is not prepared, not stored as ArrayRecord or not complete,
    or has no such split, or no image or several.
    """

    has_labels = False

    def __init__(self, spec: str):
        self.spec = f"tfds:{spec}"
        # Values of options may hold commas.
        parts: list[str] = re.split(r",(data_dir|image)=", spec)
        options = dict(zip(parts[1::2], parts[2::2], strict=True))
        name, _, self._split = parts[0].rpartition("/")
        if not (name and self._split) or not is_text(spec):
            raise InputError(f"The image source {shown(self.spec)} can't be read: expected {FORM}.")
        data_dir = options.get("data_dir") or os.environ.get("TFDS_DATA_DIR")
        builder = _prepared(name, data_dir and os.path.expanduser(data_dir))
        self._info = builder.info
        features, title = self._info.features, f"The TFDS set {self._info.full_name}"
        self._image = image_column(features, options.get("image"), title)
        keys = [key for key, each in features.items() if type(each).__name__ == "ClassLabel"]
        self._labels = sorted(keys, key=lambda key: (key != "label", key))
        self.namings = tuple(tuple(features[key].names or ()) for key in self._labels)
        self._box = _box_path(features)
        self.has_boxes = bool(self._box)
        self._name = next((key for key in _NAMES if key in features), None)
        self._records = _records(builder, self._split)

    def __reduce__(self) -> Any:
        return Tfds, (self.spec.removeprefix("tfds:"),)  # another process opens it again

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Example:
        """Read one record and decode its image."""
        record = self._record(index)
        name = f"{self._named(record, index)!r} of {self.spec}"
        image = decode(io.BytesIO(record[self._image]), name)
        labels = zip(self.namings, (int(record[key]) for key in self._labels), strict=True)
        # A hidden label is -1.
        categories = tuple(names[i] if names and i >= 0 else None for names, i in labels)
        for key in self._box:
            record = record[key]
        box = _largest(record, image.size) if self._box else None
        return Example(image, box=box, categories=categories)

    def identify(self, index: int) -> str:
        """Give the file name in the record, or else split and number."""
        try:
            return self._named(self._record(index) if self._name else {}, index)
        except UnusableImage:
            return self._number(index)

    def fingerprint(self) -> str:
        """Hash the set's full name, the split, and every file's name, size and time of change."""
        folder = Path(self._info.data_dir)
        files = [folder / "features.json", *self._info.splits[self._split].filepaths]
        stats = [(Path(file).name, Path(file).stat()) for file in files]
        facts = [(name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in stats]
        text = repr((self._info.full_name, self._split, self._image, facts))
        return hashlib.sha256(text.encode()).hexdigest()

    def _record(self, index: int) -> Any:
        try:
            return self._records[index]
        except Exception as error:  # of any type: ArrayRecord's and the parsers'
            name = repr(self._number(index))
            raise UnusableImage(name, f"can't be read from its record ({error})") from error

    def _named(self, record: Any, index: int) -> str:
        if self._name is None:
            return self._number(index)
        name: bytes = record[self._name]
        return name.decode("utf-8", "backslashreplace")

    def _number(self, index: int) -> str:
        return f"{self._info.full_name}/{self._split}/{index:08d}"


def _prepared(name: str, data_dir: str | None) -> Any:
    """Build the set from its files; its code, which may need TensorFlow, is not run."""
    import tensorflow_datasets as tfds  # not at the top: it takes a second
    from tensorflow_datasets.core.read_only_builder import builder_from_files

    folder = str(data_dir or tfds.core.constants.DATA_DIR)
    root = tfds.core.Path(folder) / name.partition(":")[0].lower()
    try:
        for level in ("", "*/", "*/*/"):  # all configs and versions, if the name has none
            for file in root.glob(f"{level}features.json"):
                _refuse_code(file)
        return builder_from_files(name, data_dir=folder)
    except InputError:
        raise
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise InputError(
            f"The TFDS set {shown(name)} is not prepared in {shown(folder)}: run `tfds build "
            f"{name[:SHOWN]} --file_format=array_record --data_dir={folder[:SHOWN]}`, or give its "
            "folder in TFDS_DATA_DIR or as ',data_dir=PATH' after the split."
        ) from error
    except Exception as error:  # of any type: Protobuf's, JSON's, an OSError
        reason = " ".join(str(error).split())[:SHOWN]
        raise InputError(
            f"The TFDS set {shown(name)} in {shown(folder)} can't be read "
            f"({type(error).__name__}: {reason}): prepare it again."
        ) from error


def _refuse_code(file: Any) -> None:
    """Refuse features from outside TFDS, which would import the modules that the set names."""

    def look(pairs: list[tuple[str, Any]]) -> None:
        for key, value in pairs:
            named = key in ("pythonClassName", "python_class_name", "type", "proto_cls")
            if named and "." in str(value) and not str(value).startswith("tensorflow_datasets."):
                raise InputError(
                    f"{file} names the feature {shown(value)}, whose code would be run: only "
                    "TFDS's features are read; prepare the set with these."
                )

    try:
        json.loads(file.read_text(), object_pairs_hook=look)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{file} is not a description of features: prepare the set again."
        ) from error


def _records(builder: Any, split: str) -> Any:
    import tensorflow_datasets as tfds

    name = builder.info.full_name
    try:
        count = builder.info.splits[split].num_examples
    except Exception as error:  # of any type: from TFDS's parser of splits
        raise InputError(
            f"The TFDS set {name} can't be split as {shown(split)}: expected one of "
            f"{', '.join(builder.info.splits)}, or a part such as validation[:1000]."
        ) from error
    if not count:
        raise InputError(f"The split {split!r} of the TFDS set {name} is empty: give another.")
    images = [k for k, f in builder.info.features.items() if isinstance(f, tfds.features.Image)]
    encoded = {key: tfds.decode.SkipDecoding() for key in images}  # masks and the like stay so
    folder, prepared_as = builder.info.data_dir, builder.info.file_format.value
    try:
        source = builder.as_data_source(split, decoders=encoded)
    except NotImplementedError as error:
        raise InputError(
            f"The TFDS set {name} was prepared as {prepared_as}, which has no random access: run "
            f"`tfds convert_format --dataset_version_dir={folder} --out_file_format=array_record`."
        ) from error
    _check_counts(builder.info, split)
    return source


def _check_counts(info: Any, split: str) -> None:
    """Refuse a split whose files don't hold as many records as its description says."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    parts = info.splits[split].file_instructions
    expected = {part.filename: part.examples_in_shard for part in parts}
    missing = [file.name for file in map(Path, expected) if not file.exists()]
    total = sum(expected.values())
    try:
        count = total if missing else len(ArrayRecordDataSource(list(expected)))
        fault = f"holds {count} records of {split}, but its dataset_info.json lists {total}"
    except Exception as error:  # of any type: ArrayRecord's
        count, fault = -1, f"has a damaged file ({shown(str(error))})"
    if missing:
        fault = f"lacks the file {missing[0]}, which its dataset_info.json lists"
    if missing or count != total:
        raise InputError(
            f"The TFDS set {info.full_name} in {info.data_dir} {fault}: prepare it again, or copy "
            "all of it."
        )


def _box_path(features: Any) -> tuple[str, ...]:
    """Path to the boxes in a record, such as objects/bbox; empty if there are none."""
    for key, feature in features.items():
        inner = getattr(feature, "feature", feature)  # of a Sequence
        parts = inner.items() if hasattr(inner, "items") else ()
        for path, part in (((key,), inner), *(((key, name), part) for name, part in parts)):
            form = getattr(getattr(part, "bbox_format", None), "value", None)
            if type(part).__name__ == "BBoxFeature" and form == "REL_YXYX":
                return path
    return ()


def _largest(boxes: Any, size: tuple[int, int]) -> Box | None:
    """Largest box in pixels, of one or several (top, left, bottom, right) as fractions."""
    width, height = size
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    corners = corners[np.isfinite(corners).all(axis=1)]
    if not len(corners):
        return None
    areas = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    top, left, bottom, right = corners[areas.argmax()].tolist()
    return (left * width, top * height, right * width, bottom * height)
