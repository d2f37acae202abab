"""Conversion of a checkpoint of any format to one: our own parameters, written with Orbax."""

import json
import shutil
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import jax
from flax import nnx

from jaxdesc.errors import InputError
from jaxdesc.models.architectures import architecture_of
from jaxdesc.models.checkpoint import write_orbax
from jaxdesc.models.namers import load_namer
from jaxdesc.models.source import CLIP, FILES, TARGET, kinds_of, open_network


class Converted(NamedTuple):
    """A converted network: its kind, its source, its number of parameters."""

    kind: str  # "target" or "name encoder"
    name: str
    parameters: int


def convert(
    source: str | PathLike[str], output: str | PathLike[str], *, revision: str | None = None
) -> Converted:
    """Write a folder from which `load_target` or `load_namer` loads the same network.

    It holds the parameters as the network computes with them (of a target, with BatchNorm folded
    in), bit for bit; the source's own configs, tokenizer and preprocessing; and in `converted.json`
    the source, with the commit of a Hugging Face id. It appears whole or not at all.

    The source is as `load_target` or `load_namer` take it, except "scenes", which is several
    networks; its config says which kind it is. Raises `InputError` for a source that can't be read,
    or an output that exists or can't be written.
    """
    path, name, _ = open_network(source, "network", revision)
    folder = Path(output).expanduser()
    if folder.exists():
        raise InputError(f"The output {str(folder)!r} exists: give a folder that does not.")
    kind = next(iter(kinds_of(path)), TARGET)
    written = {"converted.json": {"source": name}}
    if kind == CLIP:
        params = load_namer(path).params
    elif kind == TARGET:
        model = architecture_of(path).read(path, [])
        params = nnx.state(model)
        if path.is_file():  # a state dict has no config: one is written from its sizes
            written["config.json"] = model.config.to_timm()
    else:
        raise InputError(
            f"{path / 'config.json'} is neither a target's nor a name encoder's: expected timm's "
            "architecture, or a target's or name encoder's model_type."
        )
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for file in FILES:
            if (path / file).is_file():
                (unfinished / file).parent.mkdir(exist_ok=True)
                shutil.copyfile(path / file, unfinished / file)
        for file, entries in written.items():
            text = json.dumps(entries, indent=2) + "\n"
            (unfinished / file).write_text(text, encoding="utf-8")
        write_orbax(params, unfinished)
        unfinished.rename(folder)
    except OSError as error:
        raise InputError(
            f"The output {str(folder)!r} can't be written ({error.strerror}): give one that can."
        ) from error
    parameters = sum(array.size for array in jax.tree.leaves(params))
    return Converted("name encoder" if kind == CLIP else kind, name, parameters)
