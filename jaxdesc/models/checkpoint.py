"""Checkpoints: read into any of our models by a table of names, and written back.

One table per format says which tensor of the file holds which parameter. It is read from parameter
to tensor in both directions: loading looks up every parameter's tensor, saving names it. A tensor
that no parameter claims, and a parameter without a tensor, are errors: a loader that only warns
would run with a random head.
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
from jaxdesc.models.tensors import read_tensors

Axes = tuple[int, ...]
Model = TypeVar("Model", bound=nnx.Module)
Faults = dict[str, list[str]]  # names by kind of fault

NAMED = 20  # names per kind of fault in a message


class Row(NamedTuple):
    r"""A family of parameters and the tensors that hold them.

    Attributes:
        parameter: pattern that a parameter's whole dotted path matches.
        tensor: name of its tensor, with `\1`, `\2` … for the pattern's groups.
        axes: the tensor's axes in the parameter's order; None if they agree.
    """

    parameter: str
    tensor: str
    axes: Axes | None = None


class Table(NamedTuple):
    """All rows of a model, and the pattern of tensors that hold nothing a model needs."""

    rows: tuple[Row, ...]
    ignored: str


PARAMETERS = Table((Row("(.*)", r"\1"),), ignored="")  # names as a converted checkpoint has them


class Framework(NamedTuple):
    """A framework's names and layouts of a layer's tensors.

    Attributes:
        kernel, scale, embedding: the last part of a tensor's name.
        dense: axes of a dense layer's tensor in our order, [inputs, outputs]; None if as ours.
        convolution: of a convolution's, [height, width, inputs, outputs].
    """

    kernel: str
    scale: str
    embedding: str
    dense: Axes | None
    convolution: Axes | None

    def dense_rows(self, parameter: str, tensor: str) -> tuple[Row, ...]:
        """A dense layer with its bias."""
        kernel = Row(rf"{parameter}\.kernel", f"{tensor}.{self.kernel}", self.dense)
        return kernel, Row(rf"{parameter}\.bias", f"{tensor}.bias")

    def norm_rows(self, parameter: str, tensor: str) -> tuple[Row, ...]:
        """A normalisation's scale and bias."""
        scale = Row(rf"{parameter}\.scale", f"{tensor}.{self.scale}")
        return scale, Row(rf"{parameter}\.bias", f"{tensor}.bias")


PYTORCH = Framework("weight", "weight", "weight", dense=(1, 0), convolution=(2, 3, 1, 0))
FLAX = Framework("kernel", "scale", "embedding", dense=None, convolution=None)


class _Claim(NamedTuple):
    """One parameter of a model (its dotted path and shape) and the tensor that its row names."""

    parameter: str
    shape: Axes
    tensor: str
    axes: Axes

    def tensor_shape(self) -> Axes:
        return tuple(self.shape[axis] for axis in np.argsort(self.axes))


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
) -> Model:
    """Return the model with the parameters that a folder holds.

    Args:
        shapes: the model as `abstract` returns it.
        folder: one that `launch.convert` wrote, or one with weights of any format.
        table: from the tensors by name to the table of their format.
        notes: gets a sentence about each thing around the tensors that was left out.

    Raises:
        InputError: missing or unreadable weights, or weights of another model.
    """
    if is_converted(folder):
        return read_orbax(shapes, folder)
    tensors = read_tensors(folder, notes)
    return assign(shapes, tensors, table(tensors), folder)


def assign(
    shapes: Model, tensors: Mapping[str, np.ndarray], table: Table, folder: str | PathLike[str]
) -> Model:
    """Return the model with every parameter read from its tensor.

    Args:
        shapes: the model as `abstract` returns it, so that nothing is allocated twice.
        tensors: by name, of any float type; they take the parameters' types.
        table: which tensor holds which parameter.
        folder: the source of the tensors, for the error.

    Raises:
        InputError: one error for all of missing, unknown, misshapen and doubly claimed tensors.
    """
    parameters = _parameters(shapes)
    claims, faults = _claims(parameters, table)
    wanted, names = {claim.tensor for claim in claims}, set(tensors)
    unclaimed = sorted(names - wanted)
    faults["missing tensors"] = sorted(wanted - names)
    faults["unknown tensors"] = [n for n in unclaimed if not re.fullmatch(table.ignored, n)]
    present = [claim for claim in claims if claim.tensor in names]

    def read(claim: _Claim) -> Array | tuple[str, str]:
        tensor, shape = tensors[claim.tensor], claim.tensor_shape()
        if tensor.shape != shape:
            has = f"{claim.tensor} (has {list(tensor.shape)}, expected {list(shape)})"
            return "misshapen tensors", has
        if not _is_finite(tensor):
            return "tensors with values that are not finite", claim.tensor
        return jnp.asarray(tensor.transpose(claim.axes), parameters[claim.parameter].dtype)

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
    return nnx.merge(
        graph, nnx.map_state(lambda path, leaf: leaf.replace(arrays[_dotted(path)]), state)
    )


def tensors_of(model: nnx.Module, table: Table) -> dict[str, np.ndarray]:
    """Return a model's parameters under their tensors' names and axes: the inverse of `assign`.

    Raises:
        InputError: the model has parameters that the table lacks.
    """
    parameters = _parameters(model)
    claims, faults = _claims(parameters, table)
    if any(faults.values()):
        raise InputError(
            f"This {type(model).__name__} can't be saved as a checkpoint: {_listed(faults)}; "
            "save the model that has not been changed (of a folded ResNet: the one with BatchNorm)."
        )
    return {
        # safetensors writes an array's memory: a transposed view has to be copied.
        claim.tensor: np.array(
            np.asarray(parameters[claim.parameter]).transpose(np.argsort(claim.axes)), order="C"
        )
        for claim in claims
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


def write_orbax(state: Any, folder: str | PathLike[str]) -> None:
    """Write an NNX state with Orbax, each array under its dotted path."""
    import orbax.checkpoint as ocp

    arrays = {_dotted(path): leaf.get_value() for path, leaf in nnx.to_flat_state(state)}
    # Weights are as good as random bits: compressed, they would only load slower.
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_compression=False)) as checkpointer:
        checkpointer.save(Path(folder).absolute() / ORBAX, args=ocp.args.PyTreeSave(arrays))


def read_orbax(shapes: Model, folder: str | PathLike[str]) -> Model:
    """Return the model with the parameters that `write_orbax` wrote.

    Args:
        shapes: the model as `abstract` returns it.
        folder: the one that holds the Orbax folder.

    Raises:
        InputError: unreadable files, or as `assign`.
    """
    import orbax.checkpoint as ocp

    path = Path(folder).absolute() / ORBAX
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            names = checkpointer.metadata(path).item_metadata.tree
            on_host = dict.fromkeys(names, ocp.RestoreArgs(restore_type=np.ndarray))
            arrays = checkpointer.restore(path, args=ocp.args.PyTreeRestore(restore_args=on_host))
    except Exception as error:  # of no fixed type: Orbax's, TensorStore's, an OSError
        reason = str(error).partition("\n")[0][:200]
        raise InputError(
            f"{path} can't be read ({type(error).__name__}: {reason}); expected what convert "
            "writes; convert the checkpoint again."
        ) from error
    return assign(shapes, arrays, PARAMETERS, folder)


def _dotted(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


def _parameters(model: nnx.Module) -> dict[str, Any]:
    """Return the arrays of a model (of an abstract one: their shapes) by dotted path."""
    return {_dotted(path): leaf.get_value() for path, leaf in nnx.to_flat_state(nnx.state(model))}


def _claims(parameters: Mapping[str, Any], table: Table) -> tuple[list[_Claim], Faults]:
    """Match parameters with the rows of a table; the faults are between these two alone."""
    claims = [
        _Claim(name, value.shape, match.expand(row.tensor), row.axes or tuple(range(value.ndim)))
        for name, value in parameters.items()
        for row in table.rows
        if (match := re.fullmatch(row.parameter, name))
    ]
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
