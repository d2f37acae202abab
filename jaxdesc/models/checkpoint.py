"""Checkpoint folders: `config.json` and `model.safetensors`, read into our models and written back.

One table per model says which tensor of the file holds which parameter. It is read from parameter
to tensor in both directions: loading looks up every parameter's tensor, saving names it. A tensor
that no parameter claims, and a parameter without a tensor, are errors: a loader that only warns
would run with a random head.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from jaxdesc.errors import InputError
from jaxdesc.models.clip import CLIP, CLIPConfig
from jaxdesc.models.resnet import ResNet, ResNetConfig

Axes = tuple[int, ...]
Model = TypeVar("Model", bound=nnx.Module)
Config = TypeVar("Config")

DENSE: Axes = (1, 0)  # PyTorch's [outputs, inputs] to [inputs, outputs]
CONVOLUTION: Axes = (2, 3, 1, 0)  # [outputs, inputs, height, width] to [height, width, in, out]


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


def _dense(parameter: str, tensor: str) -> tuple[Row, ...]:
    return (
        Row(rf"{parameter}\.kernel", f"{tensor}.weight", DENSE),
        Row(rf"{parameter}\.bias", f"{tensor}.bias"),
    )


def _layer_norm(parameter: str, tensor: str) -> tuple[Row, ...]:
    return (
        Row(rf"{parameter}\.scale", f"{tensor}.weight"),
        Row(rf"{parameter}\.bias", f"{tensor}.bias"),
    )


def _batch_norm(parameter: str, tensor: str) -> tuple[Row, ...]:
    return (
        *_layer_norm(parameter, tensor),
        Row(rf"{parameter}\.mean", f"{tensor}.running_mean"),
        Row(rf"{parameter}\.var", f"{tensor}.running_var"),
    )


RESNET = Table(
    rows=(
        Row(r"conv1\.conv\.kernel", "conv1.weight", CONVOLUTION),
        *_batch_norm(r"conv1\.norm", "bn1"),
        Row(r"(layer\d)\.(\d+)\.conv(\d)\.conv\.kernel", r"\1.\2.conv\3.weight", CONVOLUTION),
        *_batch_norm(r"(layer\d)\.(\d+)\.conv(\d)\.norm", r"\1.\2.bn\3"),
        Row(r"(layer\d\.\d+)\.downsample\.conv\.kernel", r"\1.downsample.0.weight", CONVOLUTION),
        *_batch_norm(r"(layer\d\.\d+)\.downsample\.norm", r"\1.downsample.1"),
        *_dense("fc", "fc"),
    ),
    ignored=r".*\.num_batches_tracked",
)

CLIP_TABLE = Table(
    rows=(
        Row(r"vision\.class_embedding", "vision_model.embeddings.class_embedding"),
        Row(
            r"vision\.patch_embedding\.kernel",
            "vision_model.embeddings.patch_embedding.weight",
            CONVOLUTION,
        ),
        Row(r"text\.token_embedding\.embedding", "text_model.embeddings.token_embedding.weight"),
        Row(r"(vision|text)\.position_embedding", r"\1_model.embeddings.position_embedding.weight"),
        # Hugging Face's own spelling, which every published checkpoint has.
        *_layer_norm(r"vision\.pre_layernorm", "vision_model.pre_layrnorm"),
        *_layer_norm(r"vision\.post_layernorm", "vision_model.post_layernorm"),
        *_layer_norm(r"text\.final_layer_norm", "text_model.final_layer_norm"),
        *_layer_norm(r"(vision|text)\.(layers\.\d+\.layer_norm[12])", r"\1_model.encoder.\2"),
        *_dense(
            r"(vision|text)\.(layers\.\d+\.self_attn\.(?:q|k|v|out)_proj)", r"\1_model.encoder.\2"
        ),
        *_dense(r"(vision|text)\.(layers\.\d+)\.(fc[12])", r"\1_model.encoder.\2.mlp.\3"),
        Row(r"(visual|text)_projection\.kernel", r"\1_projection.weight", DENSE),
        Row("logit_scale", "logit_scale"),
    ),
    ignored=r"(vision|text)_model\.embeddings\.position_ids",
)


def load_resnet(folder: str | PathLike[str]) -> ResNet:
    """Read a ResNet from a folder with timm's `config.json` and torchvision's tensor names.

    Returns:
        The model in evaluation mode, with its BatchNorm; `fold_batch_norm` makes it faster.

    Raises:
        InputError: a missing, unreadable or unsuitable file, or tensors that do not fit.
    """
    config = _config(ResNetConfig.from_timm, folder)
    shapes = _abstract(ResNet, config)
    model = assign(shapes, read_tensors(folder), RESNET, folder)
    model.eval()
    return model


def save_resnet(
    model: ResNet, folder: str | PathLike[str], config_extra: Mapping[str, Any] | None = None
) -> None:
    """Write a ResNet as `load_resnet` reads it.

    Args:
        model: a model with BatchNorm.
        folder: created where it does not exist.
        config_extra: further entries of `config.json`, such as `pretrained_cfg` and label names.

    Raises:
        InputError: a folded model, which has no BatchNorm to write.
    """
    entries = {**(config_extra or {}), **model.config.to_timm()}
    _write(folder, entries, tensors_of(model, RESNET))


def load_clip_model(folder: str | PathLike[str]) -> CLIP:
    """Read a CLIP from a Hugging Face folder.

    Raises:
        InputError: a missing, unreadable or unsuitable file, or tensors that do not fit.
    """
    config = _config(CLIPConfig.from_huggingface, folder)
    shapes = _abstract(CLIP, config)
    return assign(shapes, read_tensors(folder), CLIP_TABLE, folder)


def save_clip_model(model: CLIP, folder: str | PathLike[str]) -> None:
    """Write a CLIP as `load_clip_model` and Hugging Face's `CLIPModel.from_pretrained` read it."""
    _write(folder, model.config.to_huggingface(), tensors_of(model, CLIP_TABLE))


def read_config(folder: str | PathLike[str]) -> dict[str, Any]:
    """Return the entries of a folder's `config.json`.

    Raises:
        InputError: the file is missing, is not JSON, or holds no JSON object.
    """
    file = Path(folder) / "config.json"
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} can't be read as JSON ({error}); expected the config of a checkpoint; "
            "download the checkpoint again, or correct its path."
        ) from error
    if not isinstance(entries, dict):
        raise InputError(
            f"{file} holds a JSON {type(entries).__name__}, expected an object of settings; "
            "download the checkpoint again."
        )
    return entries


def read_tensors(folder: str | PathLike[str]) -> dict[str, np.ndarray]:
    """Return the tensors of a folder's `model.safetensors` by name.

    Raises:
        InputError: the file is missing, truncated or not a safetensors file.
    """
    file = Path(folder) / "model.safetensors"
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{file} can't be read ({error}); expected a complete safetensors file; download the "
            "checkpoint again, or convert it to safetensors."
        ) from error


def assign(
    shapes: Model, tensors: Mapping[str, np.ndarray], table: Table, folder: str | PathLike[str]
) -> Model:
    """Return the model with every parameter read from its tensor.

    Args:
        shapes: the model as `nnx.eval_shape` returns it, so that nothing is allocated twice.
        tensors: by name, of any float type; they take the parameters' types.
        table: which tensor holds which parameter.
        folder: named in the error.

    Raises:
        InputError: one error for all of missing, unknown, misshapen and doubly claimed tensors.
    """
    graph, state = nnx.split(shapes)
    parameters = _parameters(shapes)
    claims = _claims(parameters, table)
    problems = _unclear(parameters, claims) | _unfitting(claims, tensors, table)
    if any(problems.values()):
        raise InputError(
            f"{Path(folder) / 'model.safetensors'} does not fit the {type(shapes).__name__} that "
            f"its config.json describes: {_listed(problems)}; use the config.json and the weights "
            "of one checkpoint."
        )
    found = {claim.parameter: tensors[claim.tensor].transpose(claim.axes) for claim in claims}

    def read(path: tuple[Any, ...], variable: nnx.Variable) -> nnx.Variable:
        return variable.replace(jnp.asarray(found[_dotted(path)], variable.dtype))

    return nnx.merge(graph, nnx.map_state(read, state))


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
    """Return the faults between a table and a file."""
    wanted = {claim.tensor: claim.tensor_shape() for claim in claims}
    return {
        "missing tensors": sorted(set(wanted) - set(tensors)),
        "unknown tensors": sorted(
            name for name in set(tensors) - set(wanted) if not re.fullmatch(table.ignored, name)
        ),
        "misshapen tensors": [
            f"{name} (has {list(tensors[name].shape)}, expected {list(shape)})"
            for name, shape in sorted(wanted.items())
            if name in tensors and tensors[name].shape != shape
        ],
    }


def _listed(problems: Mapping[str, list[str]]) -> str:
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in problems.items() if names)


def _config(read: Callable[[dict[str, Any]], Config], folder: str | PathLike[str]) -> Config:
    entries = read_config(folder)
    try:
        return read(entries)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error


def _write(
    folder: str | PathLike[str], entries: Mapping[str, Any], tensors: dict[str, np.ndarray]
) -> None:
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    # Readers of Hugging Face's 4.x refuse a file that does not say which framework's layout it has.
    save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})
