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

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array
from safetensors.numpy import save_file

from jaxdesc.errors import InputError
from jaxdesc.models.files import ORBAX, weights_file

Axes = tuple[int, ...]
Model = TypeVar("Model", bound=nnx.Module)

NAMED = 20  # tensors of a kind that a message names


class Row(NamedTuple):
    r"""A family of parameters and the tensors that hold them.

    Attributes:
        parameter: pattern that a parameter's whole dotted path matches.
        tensor: name of its tensor, with `\1`, `\2` … for the pattern's groups.
        axes: the tensor's axes in the parameter's order; None where they agree.
    """

    parameter: str
    tensor: str
    axes: Axes | None = None


class Table(NamedTuple):
    """All rows of a model, and the pattern of tensors that hold nothing a model needs."""

    rows: tuple[Row, ...]
    ignored: str


class Claim(NamedTuple):
    """One parameter of a model (its dotted path and shape) and the tensor that its row names."""

    parameter: str
    shape: Axes
    tensor: str
    axes: Axes

    def tensor_shape(self) -> Axes:
        """Return the shape that the tensor must have."""
        return tuple(self.shape[axis] for axis in np.argsort(self.axes))


class Framework(NamedTuple):
    """How a framework names and lays out what a layer holds.

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


def assign(
    shapes: Model, tensors: Mapping[str, np.ndarray], table: Table, folder: str | PathLike[str]
) -> Model:
    """Return the model with every parameter read from its tensor.

    Args:
        shapes: the model as `nnx.eval_shape` returns it, so that nothing is allocated twice.
        tensors: by name, of any float type; they take the parameters' types.
        table: which tensor holds which parameter.
        folder: where they were read, for the error.

    Raises:
        InputError: one error for all of missing, unknown, misshapen and doubly claimed tensors.
    """
    graph, state = nnx.split(shapes)
    parameters = _parameters(shapes)
    claims = _claims(parameters, table)
    present = [claim for claim in claims if claim.tensor in tensors]

    def read(claim: Claim) -> Array | tuple[str, str]:
        tensor, shape = tensors[claim.tensor], claim.tensor_shape()
        if tensor.shape != shape:
            has = f"{claim.tensor} (has {list(tensor.shape)}, expected {list(shape)})"
            return "misshapen tensors", has
        if not _is_finite(tensor):
            return "tensors with what is no finite number", claim.tensor
        return jnp.asarray(tensor.transpose(claim.axes), parameters[claim.parameter].dtype)

    with ThreadPoolExecutor() as threads:  # laying hundreds of megabytes out anew takes a second
        results = list(threads.map(read, present))
    problems = _unclear(parameters, claims) | _unfitting(claims, tensors, table)
    for kind, fault in sorted(result for result in results if isinstance(result, tuple)):
        problems.setdefault(kind, []).append(fault)
    if any(problems.values()):
        file = weights_file(folder)
        described = "its config.json describes" if file != Path(folder) else "its tensors suggest"
        raise InputError(
            f"{file} does not fit the {type(shapes).__name__} that {described}: "
            f"{_listed(problems)}; use the config.json and the weights of one checkpoint."
        )
    found = {claim.parameter: array for claim, array in zip(present, results, strict=True)}
    return nnx.merge(
        graph, nnx.map_state(lambda path, leaf: leaf.replace(found[_dotted(path)]), state)
    )


def tensors_of(model: nnx.Module, table: Table) -> dict[str, np.ndarray]:
    """Return a model's parameters under their tensors' names and axes: the inverse of `assign`.

    Raises:
        InputError: the model has parameters with no place in the table.
    """
    parameters = _parameters(model)
    claims = _claims(parameters, table)
    problems = _unclear(parameters, claims)
    if any(problems.values()):
        raise InputError(
            f"This {type(model).__name__} can't be saved as a checkpoint: {_listed(problems)}; "
            "save the model that has not been changed (of a folded ResNet: the one with BatchNorm)."
        )
    return {
        # safetensors writes the memory as it lies: a transposed view has to be laid out anew.
        claim.tensor: np.array(
            np.asarray(parameters[claim.parameter]).transpose(np.argsort(claim.axes)), order="C"
        )
        for claim in claims
    }


def write_folder(
    folder: str | PathLike[str], entries: Mapping[str, Any], tensors: dict[str, np.ndarray]
) -> None:
    """Write a checkpoint's `config.json` and `model.safetensors`."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    # Readers of Hugging Face's 4.x refuse a file that does not say which framework's layout it has.
    save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})


def is_converted(folder: str | PathLike[str]) -> bool:
    """Tell whether a folder's weights are our own parameters, which `launch.convert` wrote."""
    return (Path(folder) / ORBAX).is_dir()


def write_orbax(state: Any, folder: str | PathLike[str]) -> None:
    """Write an NNX state with Orbax, each array under its dotted path."""
    import orbax.checkpoint as ocp

    arrays = {_dotted(path): leaf.get_value() for path, leaf in nnx.to_flat_state(state)}
    # Random bits as weights are do not get smaller: compressed, they would only load slower.
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_compression=False)) as checkpointer:
        checkpointer.save(Path(folder).absolute() / ORBAX, args=ocp.args.PyTreeSave(arrays))


def read_orbax(shapes: Model, folder: str | PathLike[str]) -> Model:
    """Return the model with the parameters that `write_orbax` wrote.

    Args:
        shapes: the model as `nnx.eval_shape` returns it.
        folder: that holds the Orbax folder.

    Raises:
        InputError: unreadable files, or parameters that are not the model's, all of them by name.
    """
    import orbax.checkpoint as ocp

    place = Path(folder).absolute() / ORBAX
    wanted = _parameters(shapes)
    here = ocp.ArrayRestoreArgs(sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    restore = ocp.args.PyTreeRestore(item=wanted, restore_args=dict.fromkeys(wanted, here))
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        try:
            arrays = checkpointer.restore(place, args=restore)
            _refuse_other(arrays, wanted, place, type(shapes).__name__)
        except InputError:
            raise
        except Exception as error:  # of no fixed type: Orbax's, TensorStore's, an OSError
            _refuse_other(_found(checkpointer, place), wanted, place, type(shapes).__name__)
            raise InputError(_unreadable(place, error)) from error
    graph, state = nnx.split(shapes)
    return nnx.merge(
        graph, nnx.map_state(lambda path, leaf: leaf.replace(arrays[_dotted(path)]), state)
    )


def _found(checkpointer: Any, place: Path) -> Mapping[str, Any]:
    """Return what an Orbax folder says that it holds."""
    try:
        found: Mapping[str, Any] = checkpointer.metadata(place).item_metadata.tree
        return found
    except Exception as error:
        raise InputError(_unreadable(place, error)) from error


def _unreadable(place: Path, error: Exception) -> str:
    reason = str(error).partition("\n")[0][:200]
    return (
        f"{place} can't be read ({type(error).__name__}: {reason}); expected what convert writes; "
        "convert the checkpoint again."
    )


def _refuse_other(
    found: Mapping[str, Any], wanted: Mapping[str, Any], place: Path, model: str
) -> None:
    problems = {
        "missing parameters": sorted(set(wanted) - set(found)),
        "unknown parameters": sorted(set(found) - set(wanted)),
        "misshapen parameters": [
            f"{name} (has {list(found[name].shape)}, expected {list(wanted[name].shape)})"
            for name in sorted(wanted.keys() & found.keys())
            if tuple(found[name].shape) != wanted[name].shape
        ],
    }
    if any(problems.values()):
        raise InputError(
            f"{place} does not fit the {model} that the config.json beside it describes: "
            f"{_listed(problems)}; convert the checkpoint again."
        )


class _OneKey(nnx.Rngs):
    """Always the same key. Under a trace, counting keys takes time quadratic in their number."""

    def params(self) -> Array:
        return self["default"].key[...]


def _abstract(model: Callable[..., Model], config: Any) -> Model:
    """Return the model with shapes in the place of its arrays."""
    return nnx.eval_shape(lambda: model(config, rngs=_OneKey(0)))


def _dotted(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


def _parameters(model: nnx.Module) -> dict[str, Any]:
    """Return the arrays of a model (of an abstract one: their shapes) by dotted path."""
    return {_dotted(path): leaf.get_value() for path, leaf in nnx.to_flat_state(nnx.state(model))}


def _claims(parameters: Mapping[str, Any], table: Table) -> list[Claim]:
    return [
        Claim(name, value.shape, match.expand(row.tensor), row.axes or tuple(range(value.ndim)))
        for name, value in parameters.items()
        for row in table.rows
        if (match := re.fullmatch(row.parameter, name))
    ]


def _unclear(parameters: Mapping[str, Any], claims: list[Claim]) -> dict[str, list[str]]:
    """Return the faults between a model and its table."""
    rows = Counter(claim.parameter for claim in claims)
    owners = Counter(claim.tensor for claim in claims)
    return {
        "parameters without a tensor": [name for name in parameters if not rows[name]],
        "doubly matched": [name for name, n in (rows | owners).items() if n > 1],
    }


def _unfitting(
    claims: list[Claim], tensors: Mapping[str, np.ndarray], table: Table
) -> dict[str, list[str]]:
    """Return the faults between the names of a table and those in a file."""
    wanted, names = {claim.tensor for claim in claims}, set(tensors)
    return {
        "missing tensors": sorted(wanted - names),
        "unknown tensors": sorted(n for n in names - wanted if not re.fullmatch(table.ignored, n)),
    }


def _is_finite(tensor: np.ndarray) -> bool:
    try:
        return tensor.dtype.kind != "c" and bool(np.isfinite(tensor).all())
    except TypeError:  # no numbers at all
        return False


def _listed(problems: Mapping[str, list[str]]) -> str:
    """Every kind of fault, with the first of its names: another network's are hundreds."""
    return "; ".join(
        f"{kind}: {', '.join(names[:NAMED])}"
        f"{f' and {len(names) - NAMED} more' if len(names) > NAMED else ''}"
        for kind, names in problems.items()
        if names
    )
