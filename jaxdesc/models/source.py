"""Where a network's files lie: a local path, the embedded world's own, or a Hugging Face id."""

import os
import re
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from jaxdesc.errors import SHOWN, InputError, shown
from jaxdesc.models.files import weights_file
from jaxdesc.scenes import NETWORKS

# owner/name, with an optional @revision as timm writes it; neither can leave its folder.
IDENTIFIER = re.compile(
    r"(?![^@]*(?:\.\.|--))(?P<id>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>.+))?", re.A
)
REVISION = re.compile(r"(?!.*\.\.)\w[\w./-]*", re.A)

# Of a repository only this is downloaded: configs, tokenizers, weights of one format. What other
# tools packaged is known by their configs, and sentence-transformers keeps a network in a folder.
CONFIGS = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "sentence_bert_config.json",
)
FILES = (
    *CONFIGS,
    "modules.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
)
MARKERS = ("adapter_config.json", "open_clip_config.json", "model_index.json")
INNER = "0_*/"  # its folder
# What a local folder holds, by the kind of network.
LAYOUT = {
    "target": "config.json and model.safetensors",
    "clip": "config.json, model.safetensors, tokenizer.json and preprocessor_config.json",
    "sentence encoder": "config.json, model.safetensors and tokenizer.json",
}
# One format is downloaded, the first that there is.
FORMATS = (
    ("model.safetensors", "model.safetensors.index.json", "model-*.safetensors"),
    ("flax_model.msgpack",),
    ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"),
)


class Located(NamedTuple):
    """A network's files on this machine, and the source under which they are found again.

    The name of a Hugging Face id ends in the commit that was read, `owner/name@commit`: whoever
    reads a result can load the same network, even where a branch has moved on.
    """

    path: Path
    name: str


def locate(source: str | PathLike[str], what: str, revision: str | None = None) -> Located:
    """Find a network's files, downloading those of a Hugging Face id that are not cached.

    Args:
        source: an existing local path, in which ~ is the home directory; or "scenes", or
            `scenes:NAME` for another network of the embedded world; or a Hugging Face id,
            `owner/name` or `owner/name@revision`. A path object is a local path.
        what: "target", "clip" …: the embedded world's network that "scenes" alone means, and the
            word in errors.
        revision: branch, tag or commit of a Hugging Face id; its main branch where None or empty.

    Raises:
        InputError: nothing is there, it can't be downloaded, or a revision is given for a local
            path or twice.
    """
    if not isinstance(source, str | PathLike):
        raise InputError(f"The {what} is {shown(source)}: give {_sources(what)}.")
    local, source = not isinstance(source, str), os.fsdecode(source)
    embedded = None if local else re.fullmatch(r"scenes(?::(\w+))?", source)
    path = NETWORKS / (embedded[1] or what) if embedded else Path(os.path.expanduser(source))
    if source and os.path.exists(path):
        if revision:
            raise InputError(
                f"The {what} {source!r} is a local path, which has no revision {revision!r}: leave "
                "the revision out, or give a Hugging Face id."
            )
        return Located(path, source)
    found = None if local else IDENTIFIER.fullmatch(source)
    if embedded and not embedded[1]:
        raise InputError(
            f"{source!r} is several networks: give one of "
            f"{', '.join(sorted(f'scenes:{p.name}' for p in NETWORKS.iterdir()))}."
        )
    if not found:
        raise InputError(
            f"The {what} folder {shown(source)} does not exist: give {_sources(what)}."
        )
    return _downloaded(found["id"], what, _single(source, found["revision"], revision))


def _sources(what: str) -> str:
    return (
        f"{layout(what)}, a Hugging Face id such as owner/name, or 'scenes' or scenes:NAME for a "
        "network of the embedded world, NAME one of "
        f"{', '.join(sorted(p.name for p in NETWORKS.iterdir()))}"
    )


def layout(what: str) -> str:
    """Say what a kind of network looks like on a disk."""
    return f"a local folder with {LAYOUT.get(what, LAYOUT['target'])}"


def _single(source: str, own: str | None, given: str | None) -> str | None:
    if own and given and own != given:
        raise InputError(f"{source!r} names another revision than {given!r}: give one of them.")
    revision = own or given or None
    if revision and not REVISION.fullmatch(revision):
        raise InputError(
            f"The revision {revision!r} of {source!r} can't be one: give a branch, a tag or a "
            "commit."
        )
    return revision


def _downloaded(identifier: str, what: str, revision: str | None) -> Located:
    files = [*FILES, *MARKERS, *(INNER + name for name in CONFIGS)]
    first, *others = ([*names, *(INNER + name for name in names)] for names in FORMATS)
    path = _snapshot(identifier, what, revision, files + first)
    for weights in others:
        if any(weights_file(folder).exists() for folder in (path, *path.glob(INNER))):
            break
        _snapshot(identifier, what, path.name, weights)
    return Located(path, f"{identifier}@{path.name}")


def _snapshot(identifier: str, what: str, revision: str | None, files: list[str]) -> Path:
    """Return the folder of the files' snapshot, whose name is its commit."""
    from huggingface_hub import snapshot_download  # only here: it is slow to import

    try:
        return Path(snapshot_download(identifier, revision=revision, allow_patterns=files))
    except Exception as error:  # of no fixed type: the hub's, its HTTP library's, an OSError
        reason = " ".join(str(error).split())
        raise InputError(
            f"The {what} {identifier!r} is no local folder and can't be had from Hugging Face at "
            f"revision {revision or 'main'!r} ({type(error).__name__}: {reason[:SHOWN]}): correct "
            f"the id, or go online, or give {layout(what)}."
        ) from error
