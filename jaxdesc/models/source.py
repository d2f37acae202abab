"""Files of a network by its source: a local path, a packaged network or a Hugging Face id.

Tools other than timm, torchvision and Hugging Face transformers lay networks out in other ways. A
packaging that is not read, or another kind of network than asked for, is refused by name.
"""

import os
import re
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from jaxdesc.errors import SHOWN, InputError, shown
from jaxdesc.models.settings import read_config, read_json

# Folders of packaged networks by name: `name:NETWORK` is a source, and `name` alone is the network
# whose folder is named like the wanted kind ("target", "clip").
PACKAGED: dict[str, Path] = {}

TARGET, CLIP, SENTENCE = "target", "clip", "sentence encoder"


class Kind(NamedTuple):
    """A kind of network: in words, its loader, the files of its folder."""

    words: str
    loader: str
    files: str


KINDS = {
    TARGET: Kind(
        "a target network",
        "load_target or --config.target.source",
        "config.json and model.safetensors",
    ),
    CLIP: Kind(
        "a name encoder",
        "load_namer or --config.clip.source",
        "config.json, model.safetensors, tokenizer.json and preprocessor_config.json",
    ),
    SENTENCE: Kind(
        "a sentence encoder",
        "load_sentence_encoder or --config.evaluation.sentence",
        "config.json, model.safetensors and tokenizer.json",
    ),
}
# Kinds by config.json's model_type, to name the right loader; others are left to their loader.
# The first is what the whole network is.
MODEL_TYPES = {
    "resnet": (TARGET,),
    "clip": (CLIP, TARGET),
    "siglip": (CLIP, TARGET),
    "bert": (SENTENCE,),
    "mpnet": (SENTENCE,),
}
OPEN_CLIP = "open_clip_config.json"

# owner/name, with an optional @revision as timm writes it; neither can leave its folder.
IDENTIFIER = re.compile(
    r"(?![^@]*(?:\.\.|--))(?P<id>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>.+))?", re.A
)
REVISION = re.compile(r"(?!.*\.\.)\w[\w./-]*", re.A)

# Files to download: configs, tokenizers, weights of one format. Other tools' packagings are known
# by their configs, and sentence-transformers keeps a network in an inner folder.
CONFIGS = (
    *("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json"),
    *("tokenizer_config.json", "special_tokens_map.json", "vocab.json", "vocab.txt", "merges.txt"),
    *("sentence_bert_config.json", OPEN_CLIP),
)
FILES = (*CONFIGS, "modules.json", "config_sentence_transformers.json", "1_Pooling/config.json")
MARKERS = ("adapter_config.json", "model_index.json")
INNER = "0_*/"
# Weights by format; the first format that exists is downloaded, the first file that exists is read.
FORMATS = (
    ("model.safetensors", "model.safetensors.index.json", "model-*.safetensors"),
    ("flax_model.msgpack",),
    ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"),
)
OPEN_CLIP_FORMATS = (
    ("open_clip_model.safetensors",),
    ("open_clip_pytorch_model.safetensors",),
    ("open_clip_pytorch_model.bin",),
)
ORBAX = "orbax"  # folder of a converted checkpoint, in place of such a file

_FILE = "give the file itself, in place of its folder"
_SAVE = "give the checkpoint that it was made from, or save it with transformers' save_pretrained"
# Files that show which tool wrote a folder without config.json and weights, and the remedy.
PACKAGINGS = {
    "open_clip_*": (
        "open_clip",
        f"give a name encoder's {OPEN_CLIP} and weights, or a target's config.json and weights",
    ),
    "model_index.json": ("diffusers", "give the folder of a CLIP or a ResNet"),
    "saved_model.pb": ("TensorFlow (SavedModel)", _SAVE),
    "*.h5": ("Keras or TensorFlow (HDF5)", _SAVE),
    "*.keras": ("Keras", _SAVE),
    "*.ckpt.index": ("TensorFlow (checkpoint)", _SAVE),
    **dict.fromkeys(("*.onnx", "onnx/*.onnx"), ("ONNX", _SAVE)),
    "openvino_model.xml": ("OpenVINO", _SAVE),
    "*.distcp": ("PyTorch (distributed checkpoint)", _SAVE),
    "model.*.safetensors": ("transformers' variants", "rename it to model.safetensors"),
    **dict.fromkeys(("*.pt", "*.pth", "*.pth.tar", "*.ckpt"), ("PyTorch", _FILE)),
    "*.gguf": ("llama.cpp (GGUF)", _SAVE),
}


class Located(NamedTuple):
    """A network's folder on this machine, or the file of its weights.

    `name` is the source under which it is found again; of a Hugging Face id it ends in the commit
    that was read, `owner/name@commit`, so that a result names the same network even after a branch
    has moved on. `notes` says what was assumed or left out, a sentence each; loaders append theirs.
    """

    path: Path
    name: str
    notes: list[str]


def open_network(source: str | PathLike[str], kind: str, revision: str | None = None) -> Located:
    """Find a network as `locate` does; `kind` is one of `KINDS`, or "network" for any.

    Raises `InputError` as `locate`, and for another packaging or kind of network, by its name.
    """
    path, name, notes = locate(source, kind, revision)
    if path.is_file():
        if kind in (CLIP, SENTENCE):
            raise InputError(
                f"{path} is a file, but {KINDS[kind].words} is {_layout(kind)}: give that."
            )
        return Located(path, name, notes)
    _refuse_packagings(path)
    if (path / "modules.json").exists():
        inner = _first_module(path, notes, kind)
        if inner != path:
            _refuse_packagings(inner)
        path = path if kind == SENTENCE else inner
    actual = kinds_of(path) if kind in KINDS else ()
    if actual and kind not in actual:
        raise InputError(
            f"{path} is {KINDS[actual[0]].words} and not {KINDS[kind].words}: read it by "
            f"{KINDS[actual[0]].loader}, and give {_layout(kind)} instead."
        )
    return Located(path, name, notes)


def locate(source: str | PathLike[str], kind: str, revision: str | None = None) -> Located:
    """Find a network's files; those of a Hugging Face id are downloaded if they are not cached.

    Args:
        source: an existing local path, in which ~ is the home directory; or a name in `PACKAGED`,
            as `name` or `name:NETWORK`; or a Hugging Face id, `owner/name` or
            `owner/name@revision`. A path object is a local path.
        kind: as of `open_network`.
        revision: branch, tag or commit of a Hugging Face id; its main branch if None or empty.

    Raises:
        InputError: nothing is there, it can't be downloaded, or a revision is given for a local
            path or twice.
    """
    if not isinstance(source, str | PathLike):
        raise InputError(f"The {kind} is {shown(source)}: give {_sources(kind)}.")
    local, source = not isinstance(source, str), os.fsdecode(source)
    package = None if local else re.fullmatch(r"(\w+)(?::(\w+))?", source)
    if package and package[1] in PACKAGED:
        folder = PACKAGED[package[1]]
        path = folder / (package[2] or kind)
        if not package[2] and not path.exists():
            networks = ", ".join(f"{package[1]}:{network}" for network in _networks(folder))
            raise InputError(f"{source!r} is several networks: give one of {networks}.")
    else:
        path = Path(os.path.expanduser(source))
    if source and os.path.exists(path):
        if revision:
            raise InputError(
                f"The {kind} {source!r} is a local path, which has no revision {revision!r}: leave "
                "the revision out, or give a Hugging Face id."
            )
        return Located(path, source, [])
    identifier = None if local else IDENTIFIER.fullmatch(source)
    if not identifier:
        raise InputError(
            f"The {kind} folder {shown(source)} does not exist: give {_sources(kind)}."
        )
    if identifier["revision"] and revision and identifier["revision"] != revision:
        raise InputError(f"{source!r} names another revision than {revision!r}: give one of them.")
    revision = identifier["revision"] or revision or None
    if revision and not REVISION.fullmatch(revision):
        raise InputError(
            f"The revision {revision!r} of {source!r} can't be one: give a branch, a tag or a "
            "commit."
        )
    path = _downloaded(identifier["id"], kind, revision)
    return Located(path, f"{identifier['id']}@{path.name}", [])


def _networks(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _layout(kind: str) -> str:
    return f"a local folder with {KINDS.get(kind, KINDS[TARGET]).files}"


def _sources(kind: str) -> str:
    packaged = (
        f", or {name}:NAME with NAME one of {', '.join(_networks(folder))}"
        for name, folder in PACKAGED.items()
    )
    return f"{_layout(kind)}, or a Hugging Face id such as owner/name{''.join(packaged)}"


def _downloaded(identifier: str, kind: str, revision: str | None) -> Path:
    """Return the folder of a repository's files, whose name is their commit."""
    from huggingface_hub import snapshot_download  # only here: it is slow to import

    def download(revision: str | None, files: list[str]) -> Path:
        try:
            return Path(snapshot_download(identifier, revision=revision, allow_patterns=files))
        except Exception as error:  # of no fixed type: the hub's, its HTTP library's, an OSError
            reason = " ".join(str(error).split())
            raise InputError(
                f"The {kind} {identifier!r} is not a local folder and can't be fetched from "
                f"Hugging Face at revision {revision or 'main'!r} "
                f"({type(error).__name__}: {reason[:SHOWN]}): correct the id, or go online, or "
                f"give {_layout(kind)}."
            ) from error

    files = [*FILES, *MARKERS, *(INNER + name for name in CONFIGS)]
    first, *others = ([*names, *(INNER + name for name in names)] for names in FORMATS)
    path = download(revision, files + first)
    if is_open_clip(path):
        others = [list(names) for names in OPEN_CLIP_FORMATS]
    for weights in others:
        if any(weights_file(folder).exists() for folder in (path, *path.glob(INNER))):
            break
        download(path.name, weights)
    return path


def weights_file(source: str | PathLike[str]) -> Path:
    """Return the file with a folder's weights, or the one that is missing; a file is its own."""
    path = Path(source)
    files = [path] if path.is_file() else [path / name for name in weights_names(path)]
    return next((file for file in files if file.exists()), files[0])


def weights_names(folder: Path) -> tuple[str, ...]:
    """Return the names that a folder's weights may have, the preferred ones first."""
    formats = OPEN_CLIP_FORMATS if is_open_clip(folder) else FORMATS
    return tuple(name for names in formats for name in names if "*" not in name)


def is_converted(folder: str | PathLike[str]) -> bool:
    """Return if a folder's weights are our own parameters, which `launch.convert` wrote."""
    return (Path(folder) / ORBAX).is_dir()


def is_open_clip(folder: Path) -> bool:
    """Return if a folder holds open_clip's packaging of a CLIP, and not Hugging Face's too.

    timm's image tower may be next to it.
    """
    if not (folder / OPEN_CLIP).exists():
        return False
    return not (folder / "config.json").exists() or "architecture" in read_config(folder)


def kinds_of(path: Path) -> tuple[str, ...]:
    """Return which of `KINDS` a folder's configs describe, if it is known; a file is a target's."""
    if path.is_file():
        return (TARGET,)
    if is_open_clip(path):
        return (CLIP,)
    entries = read_config(path) if (path / "config.json").exists() else {}
    if "architecture" in entries:
        return (TARGET,)
    model_type = entries.get("model_type")
    return MODEL_TYPES.get(model_type, ()) if isinstance(model_type, str) else ()


def read_modules(path: Path) -> list[tuple[str, Path]]:
    """Read a `modules.json` of sentence-transformers: each step's bare class name and folder.

    Raises `InputError` if it is not a list of modules, or names a folder outside.
    """
    file = path / "modules.json"

    def inside(name: str) -> Path:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise LookupError(f"{name} lies outside")
        return path / name

    try:
        return [(m["type"].split(".")[-1], inside(m["path"])) for m in read_json(file)]
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} can't be read as JSON ({error}); download the checkpoint again."
        ) from error
    except (TypeError, LookupError, AttributeError) as error:
        raise InputError(
            f"{file} can't be understood ({error!r}): expected a list of modules, each with its "
            "type and path; download the checkpoint again."
        ) from error


def _first_module(path: Path, notes: list[str], kind: str) -> Path:
    """Return the folder of the network that sentence-transformers starts with."""
    (_, folder), *others = read_modules(path) or [("", path)]
    if kind == SENTENCE or CLIP not in kinds_of(folder):
        return folder
    if folder != path:
        notes.append(f"{path} was packaged by sentence-transformers: its {folder.name} was read.")
    further = [name for name, _ in others if name != "Normalize"]
    if further:
        raise InputError(
            f"{path / 'modules.json'} lists {', '.join(further)} after its CLIP, which is not "
            "implemented: give a CLIP alone."
        )
    return folder


def _refuse_packagings(path: Path) -> None:
    for pattern in ("adapter_config.json", "adapter_model.*"):
        for file in path.glob(pattern):
            raise InputError(
                f"{path} holds an adapter of PEFT ({file.name}), which changes a network that it "
                "does not hold: merge both, model.merge_and_unload().save_pretrained(FOLDER), and "
                "give that folder."
            )
    readable = weights_file(path).exists() or is_converted(path)
    if is_open_clip(path) or (readable and (path / "config.json").exists()):
        return
    for pattern, (tool, remedy) in PACKAGINGS.items():
        for file in path.glob(pattern):
            raise InputError(
                f"{path} holds a network in the form of {tool} ({file.name}), which is not read: "
                f"{remedy}."
            )
