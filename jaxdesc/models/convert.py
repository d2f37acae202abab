"""Checkpoints of any format to one: our own parameters, written with Orbax."""

import json
import shutil
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from flax import nnx

from jaxdesc.errors import InputError
from jaxdesc.models.checkpoint import write_orbax
from jaxdesc.models.formats import load_clip_model, read_folded_resnet
from jaxdesc.models.packaging import CLIP, TARGET, kind_of, open_network
from jaxdesc.models.source import FILES


class Converted(NamedTuple):
    """What was converted: "target" or "CLIP", its source's name, its number of parameters."""

    kind: str
    name: str
    parameters: int


def convert(
    source: str | PathLike[str], output: str | PathLike[str], *, revision: str | None = None
) -> Converted:
    """Write a folder from which `load_target` or `load_clip` loads the same network.

    It holds the parameters as the network computes with them (of a target, with BatchNorm folded
    in), bit for bit; the source's own configs, tokenizer and preprocessing; and in `converted.json`
    the source, with the commit of a Hugging Face id. It appears whole or not at all.

    Args:
        source: whatever `load_target` or `load_clip` read, but "scenes", which is two networks;
            which of them it is, its config tells.
        output: a folder that does not exist yet.
        revision: branch, tag or commit of a Hugging Face id; its main branch by default.

    Raises:
        InputError: a source that can't be read, or an output that exists or can't be written.
    """
    path, name, _ = open_network(source, "network", revision)
    place = Path(output).expanduser()
    if place.exists():
        raise InputError(f"The output {str(place)!r} exists: give a folder that does not.")
    kind = _kind(path)
    model: Any = load_clip_model(path) if kind == "CLIP" else read_folded_resnet(path)
    state = nnx.state(model)
    unfinished = place.with_name(f".{place.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        _copy_descriptions(path, unfinished, model)
        _write_json(unfinished / "converted.json", {"source": name})
        write_orbax(state, unfinished)
        unfinished.rename(place)
    except OSError as error:
        raise InputError(
            f"The output {str(place)!r} can't be written ({error.strerror}): give one that can."
        ) from error
    return Converted(kind, name, sum(leaf.get_value().size for _, leaf in nnx.to_flat_state(state)))


def _kind(path: Path) -> str:
    kind = {TARGET: "target", CLIP: "CLIP"}.get(kind_of(path) or "")
    if kind is None:
        raise InputError(
            f"{path / 'config.json'} tells neither a target nor a CLIP: expected timm's "
            "architecture, or model_type 'resnet' or 'clip'."
        )
    return kind


def _copy_descriptions(path: Path, folder: Path, model: Any) -> None:
    """Copy all but the weights; a state dict has no config, so its sizes become one."""
    if path.is_file():
        _write_json(folder / "config.json", model.config.to_timm())
    for name in FILES:
        if (path / name).is_file():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path / name, folder / name)


def _write_json(file: Path, entries: dict[str, Any]) -> None:
    file.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
