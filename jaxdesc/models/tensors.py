"""Tensors of a checkpoint by name: safetensors, Flax's msgpack, PyTorch's files.

A file's first bytes say which format it has; if they do not, its name does. Nothing is unpickled
except by PyTorch in its mode that runs no code (`weights_only`).
"""

import argparse
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from jaxdesc.errors import InputError
from jaxdesc.models.settings import read_object
from jaxdesc.models.source import ORBAX, weights_file, weights_names

# Prefixes that wrappers give to every tensor: (distributed) data parallelism, torch.compile,
# Lightning and other modules around a network, transformers' wrapper of timm.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "timm_model.")
HEADS = ("fc.", "classifier.", "head.")  # next to a wrapped trunk
# Training scripts save the network under one of these; the first is read. Averages of its weights
# over the steps (model_ema and the like) are other networks.
STATE_DICTS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights")
STEP_COUNTER = "n_averaged"  # PyTorch's AveragedModel keeps it among the tensors
# Types that unpickling NumPy's numbers and arrays needs; none of them runs other code.
NUMPY = [
    *(np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0], np.ndarray, np.dtype),
    *{type(np.dtype(kind)) for kind in "?bhilqBHILQefd"},
]
STATE_DICT = "expected a state dict, tensors by name, as torchvision publishes them"

# Functions that read a tensor each, by its name: memory holds no second copy of a checkpoint.
Reads = dict[str, Callable[[], np.ndarray]]
Reader = Callable[[Path, list[str]], Reads]


class Tensors(Mapping[str, np.ndarray]):
    """Tensors by name, each read when it is asked for."""

    def __init__(self, reads: Reads):
        self._reads = reads

    def __getitem__(self, name: str) -> np.ndarray:
        return self._reads[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._reads)

    def __len__(self) -> int:
        return len(self._reads)


def renamed(tensors: Mapping[str, np.ndarray], names: Mapping[str, str | list[str]]) -> Tensors:
    r"""Return tensors under other names, each still read when it is asked for.

    Args:
        tensors: by their present names.
        names: new names by patterns of whole names, with `\1`, `\2` … for a pattern's groups; the
            first that matches counts. A list names the equal parts of a tensor, one after the
            other. A tensor that none matches, or whose new name is taken, keeps its own.
    """
    reads: Reads = {}

    def part(name: str, index: int, count: int) -> np.ndarray:
        return tensors[name] if count == 1 else np.split(tensors[name], count)[index]

    for name in tensors:
        found = ((re.fullmatch(pattern, name), new) for pattern, new in names.items())
        match, new = next(((m, new) for m, new in found if m), (None, name))
        parts = (
            [match.expand(n) for n in ([new] if isinstance(new, str) else new)] if match else [name]
        )
        for index, own in enumerate(parts):
            reads[name if own in reads else own] = partial(part, name, index, len(parts))
    return Tensors(reads)


def read_tensors(source: str | PathLike[str], notes: list[str] | None = None) -> Tensors:
    """Read the tensors of a folder with weights of `source.FORMATS`, or of one file of any name.

    Formats are safetensors and PyTorch's, whole or in shards with an index, and Flax's msgpack,
    whose names are joined by dots. A prefix of `PREFIXES` that all names share is stripped, and
    notes say what was left out. Raises `InputError` if the file is missing, damaged, or of another
    format.
    """
    file, notes = weights_file(source), [] if notes is None else notes
    if not file.exists():
        raise InputError(
            f"{file.parent} holds no weights: expected {', '.join(weights_names(file.parent))} or "
            f"{ORBAX}/; download the checkpoint again."
        )
    reads = _reader(file)(file, notes)
    while prefix := next((p for p in PREFIXES if _is_wrapped(reads, p)), ""):
        # A training module holds more than the network: its loss, its metrics.
        left = sorted(name for name in reads if not name.startswith((prefix, *HEADS)))
        if left:
            more = f" and {len(left) - 3} more" if len(left) > 3 else ""
            notes.append(f"{', '.join(left[:3])}{more} in {file} lie outside and were left out.")
        reads = {n.removeprefix(prefix): read for n, read in reads.items() if n not in left}
        notes.append(f"The prefix {prefix!r} of the tensors' names in {file} was left out.")
    return Tensors(reads)


def _is_wrapped(names: Mapping[str, Any], prefix: str) -> bool:
    """Return True if nearly all names have a prefix."""
    return bool(names) and sum(name.startswith(prefix) for name in names) >= 0.9 * len(names)


def _read_safetensors(file: Path, _: list[str]) -> Reads:
    def checked(read: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return read(*arguments)
        except (AttributeError, KeyError) as error:  # types that NumPy lacks
            raise InputError(
                f"{file} holds numbers of 8 bits or fewer ({error}); expected 16, 32 or 64; "
                "use the checkpoint that is not quantised."
            ) from error
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{file} can't be read ({error}); expected a complete safetensors file; "
                "download the checkpoint again, or convert it to safetensors."
            ) from error

    opened = checked(partial(safe_open, framework="numpy"), file)
    return {name: partial(checked, opened.get_tensor, name) for name in checked(opened.keys)}


def _read_shards(index: Path, notes: list[str]) -> Reads:
    """Read every file that an index names, each tensor from one of them."""
    entries = read_object(index, "the index of a checkpoint in shards").get("weight_map")
    files = entries.values() if isinstance(entries, dict) else ()
    if not files or not all(isinstance(name, str) and Path(name).name == name for name in files):
        raise InputError(
            f"{index} names no files next to it in its weight_map; expected a file per tensor; "
            "download the checkpoint again."
        )
    paths = [index.parent / name for name in sorted(set(files))]
    readers = [_reader(path) for path in paths]
    if _read_shards in readers:
        raise InputError(
            f"{index} names another index among its files; expected the files that hold the "
            "tensors; download the checkpoint again."
        )
    shards = [read(path, notes) for read, path in zip(readers, paths, strict=True)]
    twice = [name for name, n in Counter(name for s in shards for name in s).items() if n > 1]
    if twice:
        raise InputError(
            f"{index} names several files that hold the same tensors: {', '.join(sorted(twice))}; "
            "download the checkpoint again."
        )
    return {name: read for shard in shards for name, read in shard.items()}


def _read_msgpack(file: Path, _: list[str]) -> Reads:
    from flax import serialization, traverse_util

    try:
        tree = traverse_util.flatten_dict(serialization.msgpack_restore(file.read_bytes()), sep=".")
        return {name: partial(np.asarray, np.asarray(tensor)) for name, tensor in tree.items()}
    except Exception as error:  # of no fixed type: msgpack's, NumPy's, an OSError
        raise InputError(
            f"{file} can't be read ({error!r}); expected the parameters of a Flax model; download "
            "the checkpoint again."
        ) from error


class CodeNeeded(InputError):
    """A file can be read only by running code that it names."""


def _read_pytorch(file: Path, notes: list[str]) -> Reads:
    # Opened, as PyTorch minds the name's suffix too.
    with file.open("rb") as opened:
        return read_pytorch(file, opened, notes)


def read_pytorch(file: Path, opened: BinaryIO, notes: list[str]) -> Reads:
    """Read a state dict, or a training checkpoint that holds one, as `torch.save` wrote it.

    `file` names it in errors. Raises `CodeNeeded` if it holds more than tensors and plain values,
    and `InputError` if it can't be read.
    """
    _refuse_other_archives(file)
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{file} can be read by PyTorch alone, which is not installed; pip install torch, or "
            "use a checkpoint with a model.safetensors, such as timm's of the same network."
        ) from error
    try:
        # Training scripts save their flags too, plain values in a Namespace, and NumPy's numbers.
        allowed = torch.serialization.safe_globals([argparse.Namespace, *NUMPY])
        with allowed:
            content = torch.load(opened, map_location="cpu", weights_only=True)
    except Exception as error:  # of no fixed type: pickle's, zipfile's, PyTorch's own
        needed = re.search(r"(?i)unsupported (?:global: )?GLOBAL (\S+)", str(error))
        if not needed:
            raise _unreadable(file, error) from error
        raise CodeNeeded(
            f"{file} can't be read (it needs {needed[1]}, and no code is run); {STATE_DICT}; save "
            "the network's state_dict() alone, and give that file."
        ) from error

    def array(tensor: Any) -> np.ndarray:
        numbers = tensor.detach()  # NumPy has no bfloat16
        return np.asarray((numbers.float() if numbers.is_floating_point() else numbers).numpy())

    state = _state_dict(content, file, notes)
    try:
        return {n: partial(np.asarray, array(t)) for n, t in state.items() if n != STEP_COUNTER}
    except (TypeError, RuntimeError, NotImplementedError) as error:  # quantised or sparse
        raise _unreadable(file, error) from error


def _refuse_other_archives(file: Path) -> None:
    """Refuse zip archives that `torch.save` did not write."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return  # not an archive, or a damaged one: PyTorch says which
    if any("/code/" in name for name in names):
        raise InputError(
            f"{file} is a TorchScript archive, whose code is not run: save its tensors alone, "
            "torch.save(torch.jit.load(FILE).state_dict(), NEW_FILE), and give the new file."
        )
    if not any(name.endswith("data.pkl") for name in names):
        raise InputError(
            f"{file} is a zip archive that torch.save did not write: unpack it and give what is "
            "inside, or save the network's state_dict()."
        )


def _state_dict(content: Any, file: Path, notes: list[str]) -> Mapping[str, Any]:
    """Return the state dict of the network in a file's content."""
    import torch

    def tensors_of(value: Any) -> dict[str, Any]:
        items = value.items() if isinstance(value, dict) else ()
        return {k: v for k, v in items if isinstance(k, str) and isinstance(v, torch.Tensor)}

    entries = content if isinstance(content, dict) else {}
    inner = {key: tensors_of(value) for key, value in entries.items()}
    whole = {key: t for key, t in inner.items() if t and len(t) == len(entries[key])}
    networks = {key: t for key, t in whole.items() if any(tensor.ndim for tensor in t.values())}
    nested = [key for key in STATE_DICTS if isinstance(entries.get(key), dict)]
    if nested and not networks:
        return _state_dict(entries[nested[0]], file, notes)
    usual = [key for key in STATE_DICTS if key in networks]
    if len(networks) > 1 and not usual:
        raise InputError(
            f"{file} holds several networks, {', '.join(map(str, networks))}: save the "
            "state_dict() of one of them, and give that file."
        )
    if networks:
        chosen = (*usual, *networks)[0]
        others = ", ".join(repr(key) for key in networks if key != chosen)
        unread = f" and not {others}" if others else ""
        notes.append(f"{file} is a training checkpoint: its {chosen!r} was read{unread}.")
        return networks[chosen]
    tensors = tensors_of(entries)
    if not tensors:
        kind = type(content).__name__
        raise InputError(f"{file} can't be read (a {kind} without tensors by name); {STATE_DICT}.")
    return tensors


def _unreadable(file: Path, error: Exception) -> InputError:
    reason = str(error).partition("\n")[0][:100]
    return InputError(
        f"{file} can't be read ({type(error).__name__}: {reason}); {STATE_DICT}; download it again."
    )


_SAVE = "save the tensors as safetensors, or as PyTorch's state dict, with what wrote them"
# Readers, or why there is none, by the first bytes; the first pattern that matches counts.
CONTENTS: tuple[tuple[bytes, Reader | str], ...] = (
    (rb".{4}\0{4}\{", _read_safetensors),  # its header has less than 4 GB
    (rb"\s*[\[{]", _read_shards),
    (rb"PK\x03\x04|\x80[\x02-\x05]", _read_pytorch),
    (
        rb"version https://git-lfs",
        "a pointer of Git LFS, not the weights: run git lfs pull in its repository",
    ),
    (
        rb"(?i)\s*<(!doctype|html|head|\?xml)",
        "a web page, not weights: download the file itself, logged in if that is asked",
    ),
    (rb"\x89HDF", f"HDF5, as Keras and TensorFlow write it, which is not read: {_SAVE}"),
    (rb"GGUF", f"GGUF, llama.cpp's format, which is not read: {_SAVE}"),
    (rb"\x08[\x01-\x1f][\x12:B]", f"an ONNX graph, which is not read: {_SAVE}"),
    (
        rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|.{257}ustar",
        "an archive or compressed: unpack it, and give what is inside",
    ),
    (rb"[\x80-\x9f\xdc-\xdf]", _read_msgpack),
)
# For unknown first bytes; PyTorch's files have any suffix.
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
    matches = (reader for pattern, reader in CONTENTS if re.match(pattern, start, re.DOTALL))
    reader = next(matches, SUFFIXES.get(file.suffix, _read_pytorch))
    if isinstance(reader, str):
        raise InputError(f"{file} is {reader}.")
    return reader
