"""The files of a checkpoint: its JSON, and its tensors by name in whatever format they come.

A file's first bytes say which format it has, and if they do not, its name does. No file is ever
unpickled, but for PyTorch's, which PyTorch reads without running anything that they say.
"""

import json
import re
from collections import ChainMap, Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open

from jaxdesc.errors import InputError
from jaxdesc.models.pytorch import read_state_dict

Config = TypeVar("Config")

# The files of a folder that may hold its weights; where there are several, the first is read.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "flax_model.msgpack",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
LARGEST_JSON = 2**26  # bytes; a tokenizer's are a few million
ORBAX = "orbax"  # the folder that a converted checkpoint holds instead
# What wrappers put before every tensor's name: (distributed) data parallelism, torch.compile,
# Lightning and other modules around a network, transformers' around timm's.
HEADS = ("fc.", "classifier.", "head.")  # beside a wrapped trunk
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "timm_model.")


def read_config(folder: str | PathLike[str]) -> dict[str, Any]:
    """Return the entries of a folder's `config.json`.

    Raises:
        InputError: the file is missing, is not JSON, or holds no JSON object.
    """
    return _read_object(Path(folder) / "config.json", "the config of a checkpoint")


def parsed(
    read: Callable[[dict[str, Any]], Config], entries: dict[str, Any], source: str | PathLike[str]
) -> Config:
    """Read a network's config from its entries; an error names the file or folder."""
    try:
        return read(entries)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def _read_object(file: Path, what: str) -> dict[str, Any]:
    try:
        entries = read_json(file)
    except FileNotFoundError as error:
        raise InputError(
            f"{file} does not exist; expected {what}; download the checkpoint again, or correct "
            "its path."
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} can't be read as JSON ({error}); expected {what}; download the checkpoint "
            "again, or correct its path."
        ) from error
    if not isinstance(entries, dict):
        raise InputError(
            f"{file} holds a JSON {type(entries).__name__}, expected an object of settings; "
            "download the checkpoint again."
        )
    return entries


def read_json(file: Path) -> Any:
    """Parse a JSON file of a checkpoint, of at most `LARGEST_JSON` bytes.

    Raises:
        OSError: it can't be read.
        ValueError: it is no JSON, or none that Python can hold.
    """
    with file.open("rb") as opened:
        content = opened.read(LARGEST_JSON + 1)
    if len(content) > LARGEST_JSON:
        raise ValueError(f"more than {LARGEST_JSON:,} bytes")
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("brackets within brackets, too deep") from error


def weights_file(folder: str | PathLike[str]) -> Path:
    """Return the file that holds a folder's weights, or would; a file stands for itself."""
    place = Path(folder)
    if place.is_file():
        return place
    files = [place / name for name in WEIGHTS]
    return next((file for file in files if file.exists()), files[0])


def read_tensors(
    source: str | PathLike[str], notes: list[str] | None = None
) -> Mapping[str, np.ndarray]:
    """Return the tensors of a folder's weights, or of one file, by name.

    Formats are safetensors, whole or in shards with an index, each tensor of which is read when it
    is asked for; Flax's msgpack, with names joined by dots; and PyTorch's, whole or in shards. A
    prefix of `PREFIXES` that all names share is left out.

    Args:
        source: a folder with one of `WEIGHTS`, or a file of any name.
        notes: gets a sentence about each thing around the tensors that was left out.

    Raises:
        InputError: the file is missing, damaged, or of another format.
    """
    file = weights_file(source)
    notes = [] if notes is None else notes
    if not file.exists():
        raise InputError(
            f"{file.parent} holds no weights: expected {', '.join(WEIGHTS)} or {ORBAX}/; download "
            "the checkpoint again."
        )
    tensors = _reader(file)(file, notes)
    while prefix := _common_prefix(tensors):
        # A training module holds more than the network: its loss, its metrics.
        kept = {
            name.removeprefix(prefix): name for name in tensors if name.startswith((prefix, *HEADS))
        }
        if len(kept) < len(tensors):
            left = sorted(set(tensors) - set(kept.values()))
            more = f" and {len(left) - 3} more" if len(left) > 3 else ""
            notes.append(f"{', '.join(left[:3])}{more} in {file} lie outside and were left out.")
        tensors = _Renamed(tensors, kept)
        notes.append(f"The prefix {prefix!r} of the tensors' names in {file} was left out.")
    return tensors


def _common_prefix(names: Mapping[str, Any]) -> str:
    """Return a wrapper's prefix that nearly all names have."""
    counts = {p: sum(name.startswith(p) for name in names) for p in PREFIXES}
    return next((p for p, count in counts.items() if count and count >= 0.9 * len(names)), "")


class _Renamed(Mapping[str, np.ndarray]):
    """Some tensors under other names."""

    def __init__(self, tensors: Mapping[str, np.ndarray], names: Mapping[str, str]):
        self._tensors, self._names = tensors, names

    def __getitem__(self, name: str) -> np.ndarray:
        return self._tensors[self._names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class _Safetensors(Mapping[str, np.ndarray]):
    """The tensors of a file, each read whenever it is asked for: memory holds no second copy."""

    def __init__(self, file: Path):
        self._file = file
        with self._read():
            self._opened = safe_open(file, framework="numpy")
            self._names = frozenset(self._opened.keys())

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        with self._read():
            tensor: np.ndarray = self._opened.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @contextmanager
    def _read(self) -> Iterator[None]:
        try:
            yield
        except (AttributeError, KeyError) as error:  # what safetensors misses of NumPy
            raise InputError(
                f"{self._file} holds numbers of 8 bits or fewer ({error}); expected 16, 32 or 64; "
                "use the checkpoint that is not quantised."
            ) from error
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{self._file} can't be read ({error}); expected a complete safetensors file; "
                "download the checkpoint again, or convert it to safetensors."
            ) from error


def _read_safetensors(file: Path, _: list[str]) -> Mapping[str, np.ndarray]:
    return _Safetensors(file)


def _read_shards(index: Path, notes: list[str]) -> Mapping[str, np.ndarray]:
    """Read every file that an index names; a tensor that lies in two of them is doubtful."""
    places = _read_object(index, "the index of a checkpoint in shards").get("weight_map")
    files = list(places.values()) if isinstance(places, dict) else []
    if not files or not all(isinstance(name, str) and Path(name).name == name for name in files):
        raise InputError(
            f"{index} names no files beside it in its weight_map; expected a file for each tensor; "
            "download the checkpoint again."
        )
    paths = [index.parent / name for name in sorted(set(files))]
    readers = [_reader(path) for path in paths]
    if _read_shards in readers:
        raise InputError(
            f"{index} names another index among its files; expected the files that hold the "
            "tensors; download the checkpoint again."
        )
    shards: list[Any] = [read(path, notes) for read, path in zip(readers, paths, strict=True)]
    twice = [name for name, n in Counter(name for s in shards for name in s).items() if n > 1]
    if twice:
        raise InputError(
            f"{index} names several files that hold the same tensors: {', '.join(sorted(twice))}; "
            "download the checkpoint again."
        )
    return ChainMap(*shards)


def _read_msgpack(file: Path, _: list[str]) -> dict[str, np.ndarray]:
    from flax import serialization, traverse_util

    try:
        tree = traverse_util.flatten_dict(serialization.msgpack_restore(file.read_bytes()), sep=".")
        return {name: np.asarray(tensor) for name, tensor in tree.items()}
    except Exception as error:  # of no fixed type: msgpack's, NumPy's, an OSError
        raise InputError(
            f"{file} can't be read ({error!r}); expected the parameters of a Flax model; download "
            "the checkpoint again."
        ) from error


Reader = Callable[[Path, list[str]], Mapping[str, np.ndarray]]


def _refused(what: str) -> Reader:
    def refuse(file: Path, _: list[str]) -> Mapping[str, np.ndarray]:
        raise InputError(f"{file} is {what}.")

    return refuse


_SAVE = "save the tensors as safetensors, or as PyTorch's state dict, with what wrote them"
# By what a file begins with, the first that fits: safetensors' header has less than 4 GB.
CONTENTS: tuple[tuple[bytes, Reader], ...] = (
    (rb".{4}\0{4}\{", _read_safetensors),
    (rb"\s*[\[{]", _read_shards),
    (rb"PK\x03\x04|\x80[\x02-\x05]", read_state_dict),
    (
        rb"version https://git-lfs",
        _refused("a pointer of Git LFS, not the weights: run git lfs pull in its repository"),
    ),
    (
        rb"(?i)\s*<(!doctype|html|head|\?xml)",
        _refused("a web page, not weights: download the file itself, logged in if that is asked"),
    ),
    (rb"\x89HDF", _refused(f"HDF5, as Keras and TensorFlow write it, which is not read: {_SAVE}")),
    (rb"GGUF", _refused(f"GGUF, llama.cpp's format, which is not read: {_SAVE}")),
    (rb"\x08[\x01-\x1f][\x12:B]", _refused(f"an ONNX graph, which is not read: {_SAVE}")),
    (
        rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|.{257}ustar",
        _refused("an archive or compressed: unpack it, and give what is inside"),
    ),
    (rb"[\x80-\x9f\xdc-\xdf]", _read_msgpack),
)
# For a file that begins with nothing known; PyTorch's has any suffix.
SUFFIXES = {".safetensors": _read_safetensors, ".json": _read_shards, ".msgpack": _read_msgpack}


def _reader(file: Path) -> Reader:
    try:
        with file.open("rb") as opened:
            start = opened.read(512)
    except OSError as error:
        raise InputError(
            f"{file} can't be read ({error.strerror}); download the checkpoint again, or correct "
            "its permissions."
        ) from error
    told = (reader for pattern, reader in CONTENTS if re.match(pattern, start, re.DOTALL))
    return next(told, SUFFIXES.get(file.suffix, read_state_dict))
