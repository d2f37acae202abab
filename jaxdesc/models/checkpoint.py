"""Checkpoints: read into any of our models by a table of names, and written back.

One table per format says which tensor of the file holds which parameter, for loading and for
saving. A tensor that no parameter claims, and a parameter without a tensor, are errors: a loader
that only warns would run with a random head.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array
from safetensors.numpy import save_file

from jaxdesc.errors import InputError
from jaxdesc.models.source import ORBAX, is_converted, weights_file
from jaxdesc.models.tensors import read_tensors, renamed

Axes = tuple[int, ...]
Model = TypeVar("Model", bound=nnx.Module)
Faults = dict[str, list[str]]  # names by kind of fault

NAMED = 20  # names per kind of fault in a message


class Table(NamedTuple):
    r"""Tensors of a checkpoint by the parameters that they hold.

    Attributes:
        rows: names of tensors by patterns of whole dotted paths, with `\1`, `\2` … for a pattern's
            groups. A pattern that matches a module's path names the tensors of all its parameters,
            whose last parts are appended.
        ignored: pattern of tensors that hold nothing a model needs.
        last: last part of a tensor's name by the last part of ours, if they differ.
        axes: a kernel tensor's axes in our order, by their number, if they differ. Ours are
            [inputs, outputs] and [height, width, inputs, outputs].
    """

    rows: Mapping[str, str]
    ignored: str = ""
    last: Mapping[str, str] = {}
    axes: Mapping[int, Axes] = {}


def pytorch_table(rows: Mapping[str, str], ignored: str) -> Table:
    """Return the table of a checkpoint with PyTorch's names and layouts of a layer's tensors."""
    last = dict.fromkeys(("kernel", "scale", "embedding"), "weight")
    last |= {"mean": "running_mean", "var": "running_var"}
    return Table(rows, ignored, last, axes={2: (1, 0), 4: (2, 3, 1, 0)})


class _Claim(NamedTuple):
    """One parameter of a model (its dotted path) and the tensor that its row names."""

    parameter: str
    tensor: str
    axes: Axes


def abstract(module: Callable[..., Model], config: Any) -> Model:
    """Return `module(config)` with shapes in the place of its arrays."""
    return nnx.eval_shape(lambda: module(config, rngs=_OneKey(0)))


class _OneKey(nnx.Rngs):
    """Always the same key. Under a trace, counting keys takes time quadratic in their number."""

    def params(self) -> Array:
        return self["default"].key[...]


def read_model(
    shapes: Model,
    folder: str | PathLike[str],
    table: Callable[[Mapping[str, Any]], Table],
    notes: list[str] | None = None,
    names: Mapping[str, str | list[str]] = {},
) -> Model:
    """Return the `abstract` model with the parameters that a folder holds.

    They are in any format, whose table `table` finds from the tensors by name, or what
    `launch.convert` wrote. Tensors are `tensors.renamed` by `names` first. Notes get a sentence
    about each thing that was left out. Raises `InputError` for missing or unreadable weights, and
    as `assign`.
    """
    if is_converted(folder):
        return read_orbax(shapes, folder, names)
    tensors = renamed(read_tensors(folder, notes), names)
    return assign(shapes, tensors, table(tensors), folder)


def assign(
    shapes: Model, tensors: Mapping[str, np.ndarray], table: Table, folder: str | PathLike[str]
) -> Model:
    """Return the `abstract` model with every parameter read from its tensor, of any float type.

    One `InputError` names all missing, unknown, misshapen and doubly claimed tensors of `folder`.
    """
    parameters = _parameters(shapes)
    claims, faults = _claims(parameters, table)
    wanted, names = {claim.tensor for claim in claims}, set(tensors)
    unclaimed = sorted(names - wanted)
    faults["missing tensors"] = sorted(wanted - names)
    faults["unknown tensors"] = [n for n in unclaimed if not re.fullmatch(table.ignored, n)]
    present = [claim for claim in claims if claim.tensor in names]

    def read(claim: _Claim) -> Array | tuple[str, str]:
        tensor, parameter = tensors[claim.tensor], parameters[claim.parameter]
        shape = [parameter.shape[axis] for axis in np.argsort(claim.axes)]
        # Learned tokens and single numbers have a leading axis of 1 in some files.
        further = tensor.shape[: max(0, tensor.ndim - len(shape))]
        if set(further) == {1}:
            tensor = tensor.reshape(tensor.shape[len(further) :])
        if list(tensor.shape) != shape:
            has = f"{claim.tensor} (has {list(tensor.shape)}, expected {shape})"
            return "misshapen tensors", has
        if not _is_finite(tensor):
            return "tensors with values that are not finite", claim.tensor
        return jnp.asarray(tensor.transpose(claim.axes), parameter.dtype)

    with ThreadPoolExecutor() as threads:  # copying hundreds of megabytes takes a second
        results = list(threads.map(read, present))
    for kind, fault in sorted(result for result in results if isinstance(result, tuple)):
        faults.setdefault(kind, []).append(fault)
    if any(faults.values()):
        file = Path(folder) / ORBAX if is_converted(folder) else weights_file(folder)
        described = "its config.json describes" if file != Path(folder) else "its tensors suggest"
        raise InputError(
            f"{file} does not fit the {type(shapes).__name__} that {described}: "
            f"{_listed(faults)}; use the config.json and the weights of one checkpoint."
        )
    arrays = dict(zip((claim.parameter for claim in present), results, strict=True))
    graph, state = nnx.split(shapes)
    filled = nnx.map_state(lambda p, leaf: leaf.replace(arrays[".".join(map(str, p))]), state)
    return nnx.merge(graph, filled)


def tensors_of(model: nnx.Module, table: Table) -> dict[str, np.ndarray]:
    """Return a model's parameters under their tensors' names and axes: the inverse of `assign`."""
    parameters = _parameters(model)
    claims, faults = _claims(parameters, table)
    if any(faults.values()):
        raise InputError(
            f"This {type(model).__name__} can't be saved as a checkpoint: {_listed(faults)}; "
            "save the model that has not been changed (of a folded ResNet: the one with BatchNorm)."
        )
    return {
        # safetensors writes an array's memory: a transposed view has to be copied.
        tensor: np.array(np.asarray(parameters[name]).transpose(np.argsort(axes)), order="C")
        for name, tensor, axes in claims
    }


def write_folder(
    folder: str | PathLike[str], entries: Mapping[str, Any], tensors: dict[str, np.ndarray]
) -> None:
    """Write a checkpoint's `config.json` and `model.safetensors`."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    # Readers of Hugging Face's 4.x refuse a file that does not say which framework's layout it has.
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})


def write_orbax(params: Any, folder: str | PathLike[str]) -> None:
    """Write a model's parameters, an `nnx.State`, with Orbax, each under its dotted path."""
    import orbax.checkpoint as ocp

    # Weights are as good as random bits: compressed, they would only load slower.
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_compression=False)) as checkpointer:
        checkpointer.save(
            Path(folder).absolute() / ORBAX, args=ocp.args.PyTreeSave(_by_path(params))
        )


def read_orbax(
    shapes: Model,
    folder: str | PathLike[str],
    names: Mapping[str, str | list[str]] = {},
    ignored: str = "",
) -> Model:
    """Return the `abstract` model with the parameters that `write_orbax` wrote.

    They are renamed first, as in `read_model`; `ignored` is a pattern of those to leave out.
    """
    import orbax.checkpoint as ocp

    path = Path(folder).absolute() / ORBAX
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            stored = checkpointer.metadata(path).item_metadata.tree
            on_host = dict.fromkeys(stored, ocp.RestoreArgs(restore_type=np.ndarray))
            arrays = checkpointer.restore(path, args=ocp.args.PyTreeRestore(restore_args=on_host))
    except Exception as error:  # of no fixed type: Orbax's, TensorStore's, an OSError
        reason = str(error).partition("\n")[0][:200]
        raise InputError(
            f"{path} can't be read ({type(error).__name__}: {reason}); expected what convert "
            "writes; convert the checkpoint again."
        ) from error
    return assign(shapes, renamed(arrays, names), Table({"(.*)": r"\1"}, ignored), folder)


def _parameters(model: nnx.Module) -> dict[str, Any]:
    """Return the arrays of a model (of an abstract one: their shapes) by dotted path."""
    return _by_path(nnx.state(model))


def _by_path(params: Any) -> dict[str, Any]:
    leaves = nnx.to_flat_state(params)
    return {".".join(map(str, path)): leaf.get_value() for path, leaf in leaves}


def _claims(parameters: Mapping[str, Any], table: Table) -> tuple[list[_Claim], Faults]:
    """Match parameters with the rows of a table; the faults are between these two alone."""
    claims = []
    for name, value in parameters.items():
        module, _, leaf = name.rpartition(".")
        axes = table.axes.get(value.ndim) if leaf == "kernel" else None
        for pattern, row in table.rows.items():
            if match := re.fullmatch(pattern, name) or re.fullmatch(pattern, module):
                tensor = match.expand(row) + ("" if match.string == name else f".{leaf}")
                start, dot, last = tensor.rpartition(".")
                tensor = start + dot + table.last.get(last, last)
                claims.append(_Claim(name, tensor, axes or tuple(range(value.ndim))))
    rows = Counter(claim.parameter for claim in claims)
    owners = Counter(claim.tensor for claim in claims)
    return claims, {
        "parameters without a tensor": [name for name in parameters if not rows[name]],
        "doubly matched": [name for name, n in (rows | owners).items() if n > 1],
    }


def _is_finite(tensor: np.ndarray) -> bool:
    try:
        return tensor.dtype.kind != "c" and bool(np.isfinite(tensor).all())
    except TypeError:  # not numbers
        return False


def _listed(faults: Faults) -> str:
    """Every kind of fault with the first of its names; another network's are hundreds."""
    return "; ".join(
        f"{kind}: {', '.join(names[:NAMED])}"
        f"{f' and {len(names) - NAMED} more' if len(names) > NAMED else ''}"
        for kind, names in faults.items()
        if names
    )
