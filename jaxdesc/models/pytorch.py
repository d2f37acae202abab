"""PyTorch's files: the tensors of one network, among other things that were saved with them.

PyTorch reads them itself, in its mode that runs nothing that a file says (`weights_only`).
"""

import argparse
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdesc.errors import InputError

# Training scripts save the network under one of these, the first of which is read. An average of
# its weights over the steps (model_ema and the like) is another network.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights")
# PyTorch's AveragedModel counts its steps among the tensors.
COUNTER = "n_averaged"
# What NumPy's numbers and arrays are rebuilt by; none of it runs anything else.
NUMPY = [
    *(np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0], np.ndarray, np.dtype),
    *{type(np.dtype(kind)) for kind in "?bhilqBHILQefd"},
]
EXPECTED = "expected a state dict, tensors by name, as torchvision publishes them"


def read_state_dict(file: Path, notes: list[str]) -> Mapping[str, np.ndarray]:
    """Return the tensors by name of a file that `torch.save` wrote.

    Args:
        file: a state dict, or a training checkpoint, a dict with a state dict among its values.
        notes: gets a sentence if it is a training checkpoint.

    Raises:
        InputError: PyTorch is not installed, or the file is damaged, or holds several networks, or
            anything that is not a tensor or a plain value.
    """
    _refuse_other_archives(file)
    state = _state_dict(_load(file), file, notes)
    try:
        return {name: _array(tensor) for name, tensor in state.items() if name != COUNTER}
    except (TypeError, RuntimeError, NotImplementedError) as error:  # quantised, sparse or alike
        raise _unreadable(file, error) from error


def _refuse_other_archives(file: Path) -> None:
    """Refuse zip archives that `torch.save` did not write."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return  # none, or a damaged one: PyTorch says which
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


def _load(file: Path) -> Any:
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
        with allowed, file.open("rb") as opened:  # opened, as PyTorch minds the name's suffix too
            return torch.load(opened, map_location="cpu", weights_only=True)
    except Exception as error:  # of no fixed type: pickle's, zipfile's, PyTorch's own
        found = re.search(r"(?i)unsupported (?:global: )?GLOBAL (\S+)", str(error))
        if not found:
            raise _unreadable(file, error) from error
        raise InputError(
            f"{file} can't be read (it needs {found[1]}, and no code is run); {EXPECTED}; save the "
            "network's state_dict() alone, and give that file."
        ) from error


def _state_dict(content: Any, file: Path, notes: list[str]) -> Mapping[str, Any]:
    """Return the state dict of the network that a file is about."""
    entries = content if isinstance(content, dict) else {}
    networks = {key: value for key, value in entries.items() if _is_state_dict(value)}
    within = [key for key in WRAPPERS if isinstance(entries.get(key), dict)]
    if within and not networks:
        return _state_dict(entries[within[0]], file, notes)
    usual = [key for key in WRAPPERS if key in networks]
    if len(networks) > 1 and not usual:
        raise InputError(
            f"{file} holds several networks, {', '.join(map(str, networks))}: save the "
            "state_dict() of one of them, and give that file."
        )
    if networks:
        key = (*usual, *networks)[0]
        others = ", ".join(repr(other) for other in networks if other != key)
        unread = f" and not {others}" if others else ""
        notes.append(f"{file} is a training checkpoint: its {key!r} was read{unread}.")
        return networks[key]
    tensors = {k: v for k, v in entries.items() if isinstance(k, str) and _is_tensor(v)}
    if not tensors:
        kind = type(content).__name__
        raise InputError(f"{file} can't be read (a {kind} without tensors by name); {EXPECTED}.")
    return tensors


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(isinstance(key, str) and _is_tensor(tensor) for key, tensor in value.items())
        and any(tensor.ndim for tensor in value.values())
    )


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _array(tensor: Any) -> np.ndarray:
    numbers = tensor.detach()
    if numbers.is_floating_point():
        numbers = numbers.float()  # NumPy has no bfloat16
    array: np.ndarray = numbers.numpy()
    return array


def _unreadable(file: Path, error: Exception) -> InputError:
    reason = str(error).partition("\n")[0][:100]
    return InputError(
        f"{file} can't be read ({type(error).__name__}: {reason}); {EXPECTED}; download it again."
    )
