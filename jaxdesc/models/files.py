"""The files of a checkpoint: its JSON, and its tensors by name in whatever format they come.

No file is ever unpickled, but for a `.pth`, which PyTorch reads without running anything that the
file says.
"""

import json
from collections import ChainMap, Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open

from jaxdesc.errors import InputError

Config = TypeVar("Config")

# The files of a folder that may hold its weights; where there are several, the first is read.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "flax_model.msgpack")
LARGEST_JSON = 2**26  # bytes; a tokenizer's are a few million
ORBAX = "orbax"  # the folder that a converted checkpoint holds instead


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


def read_tensors(folder: str | PathLike[str]) -> Mapping[str, np.ndarray]:
    """Return the tensors of a folder's weights, or of one file, by name.

    Understood are `model.safetensors`, whole or in shards with an index, each of whose tensors is
    read when it is asked for; `flax_model.msgpack`, whose names are joined by dots; and a PyTorch
    state dict such as torchvision's `.pth`.

    Raises:
        InputError: the file is missing, truncated, or of another format.
    """
    file = weights_file(folder)
    if not file.exists():
        raise InputError(_no_weights(file.parent))
    readers = {".json": _read_shards, ".msgpack": _read_msgpack, ".pth": _read_pth}
    return readers.get(file.suffix, _Safetensors)(file)


def _no_weights(folder: Path) -> str:
    pickled = sorted(path.name for path in folder.glob("*pytorch_model*.bin"))
    remedy = (
        f"{', '.join(pickled)} is a pickle, which could run any code and is not read; convert it "
        "with save_pretrained of Hugging Face transformers, which writes model.safetensors"
        if pickled
        else "download the checkpoint again"
    )
    return f"{folder} holds no weights: expected {', '.join(WEIGHTS)} or {ORBAX}/; {remedy}."


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


def _read_shards(index: Path) -> Mapping[str, np.ndarray]:
    """Read every file that an index names; a tensor that lies in two of them is doubtful."""
    places = _read_object(index, "the index of a checkpoint in shards").get("weight_map")
    files = list(places.values()) if isinstance(places, dict) else []
    if not files or not all(isinstance(name, str) and Path(name).name == name for name in files):
        raise InputError(
            f"{index} names no files beside it in its weight_map; expected a file for each tensor; "
            "download the checkpoint again."
        )
    shards: list[Any] = [_Safetensors(index.parent / name) for name in sorted(set(files))]
    twice = [name for name, n in Counter(name for s in shards for name in s).items() if n > 1]
    if twice:
        raise InputError(
            f"{index} names several files that hold the same tensors: {', '.join(sorted(twice))}; "
            "download the checkpoint again."
        )
    return ChainMap(*shards)


def _read_msgpack(file: Path) -> dict[str, np.ndarray]:
    from flax import serialization, traverse_util

    try:
        tree = traverse_util.flatten_dict(serialization.msgpack_restore(file.read_bytes()), sep=".")
        return {name: np.asarray(tensor) for name, tensor in tree.items()}
    except Exception as error:  # of no fixed type: msgpack's, NumPy's, an OSError
        raise InputError(
            f"{file} can't be read ({error!r}); expected the parameters of a Flax model; download "
            "the checkpoint again."
        ) from error


def _read_pth(file: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{file} can be read by PyTorch alone, which is not installed; pip install torch, or "
            "use a checkpoint with a model.safetensors, such as timm's of the same network."
        ) from error
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        return {name: tensor.float().numpy() for name, tensor in state.items()}
    except Exception as error:  # of no fixed type: pickle's, zipfile's, PyTorch's own
        reason = str(error).partition("\n")[0][:100]
        raise InputError(
            f"{file} can't be read ({type(error).__name__}: {reason}); expected a state dict, "
            "tensors by name, as torchvision publishes them; download it again."
        ) from error
