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
from jaxdesc.images.example import Box, Example, decode

FORM = "tfds:NAME[/CONFIG][:VERSION]/SPLIT[,data_dir=PATH][,image=KEY]"
_NAMES = ("file_name", "filename", "image/filename")


class Tfds:
    """One split of a prepared TFDS set with an image.

    Images stay encoded until Pillow decodes them, as a folder's do. The category is the name that
    the set's `ClassLabel` has for it, which `labels.matched` turns into a class; the box is its
    `BBoxFeature`, of several objects the largest one's, and an image that shows no object has none.

    Args:
        spec: what follows `tfds:`, such as `imagenet2012/validation[:1000]`. Without `data_dir` the
            set is looked for in TFDS_DATA_DIR, or else in TFDS's own default. `image` says which
            one is meant, where the set has several.

    Attributes:
        namings: names of each `ClassLabel` in its own order, that called label first.

    Raises:
        InputError: a set that is not prepared, or not as ArrayRecord, or not whole, or has no such
            split, or no image or several.
    """

    has_labels = False

    def __init__(self, spec: str):
        self.spec = f"tfds:{spec}"
        place, options = _options(spec)
        name, _, self._split = place.rpartition("/")
        if not (name and self._split) or not is_text(spec):
            raise InputError(f"The image source {shown(self.spec)} can't be read: expected {FORM}.")
        data_dir = options.get("data_dir") or os.environ.get("TFDS_DATA_DIR")
        builder = _prepared(name, data_dir and os.path.expanduser(data_dir))
        self._info = builder.info
        self._image = _image(self._info, options.get("image"))
        features = self._info.features
        keys = [key for key, own in features.items() if type(own).__name__ == "ClassLabel"]
        self._labels = sorted(keys, key=lambda key: (key != "label", key))
        self.namings = tuple(tuple(features[key].names or ()) for key in self._labels)
        self._box = _box_path(self._info.features)
        self._name = next((key for key in _NAMES if key in self._info.features), None)
        self._records = _records(builder, self._split)
        self.has_boxes = bool(self._box)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Example:
        """Read one record and decode its image."""
        record = self._record(index)
        name = f"{self._named(record, index)!r} of {self.spec}"
        image = decode(io.BytesIO(record[self._image]), name)
        labels = zip(self.namings, (int(record[key]) for key in self._labels), strict=True)
        # A label is -1 where a set hides it.
        categories = tuple(names[i] if names and i >= 0 else None for names, i in labels)
        for key in self._box:
            record = record[key]
        box = _largest(record, image.size) if self._box else None
        return Example(image, box=box, categories=categories)

    def identify(self, index: int) -> str:
        """Give the file name that the set tells, or else split and number."""
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
        except Exception as error:  # ArrayRecord's and the parsers' own, of no fixed type
            name = repr(self._number(index))
            raise UnusableImage(name, f"can't be read from its record ({error})") from error

    def _named(self, record: Any, index: int) -> str:
        if self._name is None:
            return self._number(index)
        name: bytes = record[self._name]
        return name.decode("utf-8", "backslashreplace")

    def _number(self, index: int) -> str:
        return f"{self._info.full_name}/{self._split}/{index:08d}"


def _options(spec: str) -> tuple[str, dict[str, str]]:
    """Set and split, and the options after them, whose values may hold commas."""
    place, *parts = re.split(r",(data_dir|image)=", spec)
    return place, dict(zip(parts[::2], parts[1::2], strict=True))


def _image(info: Any, wanted: str | None) -> str:
    """The key of the image that is meant."""
    keys = sorted(key for key, own in info.features.items() if type(own).__name__ == "Image")
    if wanted is None and len(keys) > 1 and "image" in keys:
        wanted = "image"
    if not keys:
        raise InputError(
            f"The TFDS set {info.full_name} has no image among its features "
            f"{', '.join(sorted(info.features))}: give another."
        )
    if wanted not in (None, *keys):
        raise InputError(
            f"The TFDS set {info.full_name} has no image {shown(wanted)}: expected one of "
            f"{', '.join(keys)}."
        )
    if wanted is None and len(keys) > 1:
        raise InputError(
            f"The TFDS set {info.full_name} has {len(keys)} images, {', '.join(keys)}: say which "
            f"one by ',image={keys[0]}' after the split."
        )
    return wanted or keys[0]


def _absent(info: Any, file: str) -> InputError:
    return InputError(
        f"The TFDS set {info.full_name} in {info.data_dir} lacks the file {file}, which its "
        "dataset_info.json tells of: prepare it anew, or copy it whole."
    )


def _prepared(name: str, data_dir: str | None) -> Any:
    """The set as its files describe it: its own code, which may want TensorFlow, is not run."""
    import tensorflow_datasets as tfds  # a second, for those who read such a set
    from tensorflow_datasets.core.read_only_builder import builder_from_files

    folder = str(data_dir or tfds.core.constants.DATA_DIR)
    try:
        for file in _descriptions(tfds.core.Path(folder), name):
            _refuse_code(file)
        return builder_from_files(name, data_dir=folder)
    except InputError:
        raise
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise InputError(
            f"The TFDS set {shown(name)} is not prepared in {shown(folder)}: run `tfds build "
            f"{name[:SHOWN]} --file_format=array_record --data_dir={folder[:SHOWN]}`, or say where "
            "it lies by TFDS_DATA_DIR or by ',data_dir=PATH' after the split."
        ) from error
    except Exception as error:  # of no fixed type: Protobuf's, JSON's, an OSError
        reason = " ".join(str(error).split())[:SHOWN]
        raise InputError(
            f"The TFDS set {shown(name)} in {shown(folder)} can't be read "
            f"({type(error).__name__}: {reason}): prepare it anew."
        ) from error


def _descriptions(folder: Any, name: str) -> list[Any]:
    """What describes the features of a set's versions, of all its configs where none is named."""
    place = folder / name.partition(":")[0].lower()
    return [file for level in ("", "*/", "*/*/") for file in place.glob(f"{level}features.json")]


def _refuse_code(file: Any) -> None:
    """TFDS imports the module of every kind of feature that a set names: only its own may be."""

    def look(pairs: list[tuple[str, Any]]) -> None:
        for key, value in pairs:
            named = key in ("pythonClassName", "python_class_name", "type", "proto_cls")
            if named and "." in str(value) and not str(value).startswith("tensorflow_datasets."):
                raise InputError(
                    f"{file} names the feature {shown(value)}, whose code would be run: only "
                    "TFDS's own features are read; prepare the set with these."
                )

    try:
        json.loads(file.read_text(), object_pairs_hook=look)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is no description of features: prepare the set anew.") from error


def _records(builder: Any, split: str) -> Any:
    import tensorflow_datasets as tfds

    name = builder.info.full_name
    try:
        count = builder.info.splits[split].num_examples
    except Exception as error:  # of no fixed type: what TFDS's parser of splits meets
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
    """Refuse a split whose files hold another number of records than the set tells of."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    told = {part.filename: part.examples_in_shard for part in info.splits[split].file_instructions}
    for file in map(Path, told):
        if not file.exists():
            raise _absent(info, file.name)
    try:
        found = len(ArrayRecordDataSource(list(told)))
    except Exception as error:  # of no fixed type: ArrayRecord's own
        raise InputError(
            f"The TFDS set {info.full_name} in {info.data_dir} has a damaged file "
            f"({shown(str(error))}): prepare it anew, or copy it whole."
        ) from error
    if found != sum(told.values()):
        raise InputError(
            f"The TFDS set {info.full_name} in {info.data_dir} holds {found} records of "
            f"{split}, but its dataset_info.json tells of {sum(told.values())}: prepare it anew, "
            "or copy it whole."
        )


def _box_path(features: Any) -> tuple[str, ...]:
    """Where a record holds its boxes, as objects/bbox; empty where nowhere."""
    for key, feature in features.items():
        inner = getattr(feature, "feature", feature)  # of a Sequence
        if _is_box(inner):
            return (key,)
        if hasattr(inner, "items"):
            for name, part in inner.items():
                if _is_box(part):
                    return (key, name)
    return ()


def _is_box(feature: Any) -> bool:
    relative = getattr(getattr(feature, "bbox_format", None), "value", None)
    return type(feature).__name__ == "BBoxFeature" and relative == "REL_YXYX"


def _largest(boxes: Any, size: tuple[int, int]) -> Box | None:
    """From (top, left, bottom, right) in fractions of the image, one or several, to pixels."""
    width, height = size
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    corners = corners[np.isfinite(corners).all(axis=1)]
    if not len(corners):
        return None
    areas = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    top, left, bottom, right = corners[areas.argmax()].tolist()
    return (left * width, top * height, right * width, bottom * height)
