"""From a source to the folder or file that a loader reads; other packagings are told by name.

Tools other than timm, torchvision and Hugging Face transformers lay networks out in other ways.
What is not read, or is another kind of network than was asked for, is refused here by its name.
"""

from os import PathLike
from pathlib import Path
from typing import NamedTuple

from jaxdesc.errors import InputError
from jaxdesc.models.checkpoint import is_converted
from jaxdesc.models.files import read_config, read_json, weights_file
from jaxdesc.models.source import layout, locate

TARGET, CLIP, SENTENCE = "target", "clip", "sentence encoder"
# Each kind of network in words, and how one is read.
KINDS = {
    TARGET: ("a target network", "load_target or --config.target.source"),
    CLIP: ("a CLIP", "load_clip or --config.clip.source"),
    SENTENCE: ("a sentence encoder", "load_sentence_encoder or --config.evaluation.sentence"),
}
MODEL_TYPES = {"resnet": TARGET, "clip": CLIP, "bert": SENTENCE, "mpnet": SENTENCE}

# Files that hold no network, but a change to one.
ADAPTERS = ("adapter_config.json", "adapter_model.*")
_CLIPS = "such as laion/CLIP-ViT-B-32-laion2B-s34B-b79K or openai/clip-vit-base-patch32"
_FILE = "give the file itself, in place of its folder"
_SAVE = "give the checkpoint that it was made from, or save it with transformers' save_pretrained"
# Files that show which tool wrote a folder without config.json and weights, and the remedy.
OTHERS = {
    "open_clip_*": ("open_clip", f"give the same CLIP as transformers' CLIPModel, {_CLIPS}"),
    "model_index.json": ("diffusers", "give the folder of a CLIP or a ResNet"),
    "saved_model.pb": ("TensorFlow (SavedModel)", _SAVE),
    "*.h5": ("Keras or TensorFlow (HDF5)", _SAVE),
    "*.keras": ("Keras", _SAVE),
    "*.ckpt.index": ("TensorFlow (checkpoint)", _SAVE),
    "*.onnx": ("ONNX", _SAVE),
    "onnx/*.onnx": ("ONNX", _SAVE),
    "openvino_model.xml": ("OpenVINO", _SAVE),
    "*.distcp": ("PyTorch (distributed checkpoint)", _SAVE),
    "model.*.safetensors": ("transformers' variants", "rename it to model.safetensors"),
    "*.pt": ("PyTorch", _FILE),
    "*.pth": ("PyTorch", _FILE),
    "*.pth.tar": ("PyTorch", _FILE),
    "*.ckpt": ("PyTorch", _FILE),
    "*.gguf": ("llama.cpp (GGUF)", _SAVE),
}


class Opened(NamedTuple):
    """A network's files.

    Attributes:
        path: the folder that holds them, or the file of its weights.
        name: the source under which it is found again.
        notes: a sentence about each thing that was assumed or left out; loaders append theirs.
    """

    path: Path
    name: str
    notes: list[str]


def open_network(source: str | PathLike[str], kind: str, revision: str | None = None) -> Opened:
    """Find a network, and make sure that it is of a kind and a packaging that is read.

    Args:
        source: as `locate` takes it.
        revision: of a Hugging Face id, as `locate` takes it.
        kind: one of `KINDS`, or "network" for any.

    Raises:
        InputError: as `locate`; another packaging or another kind of network, by its name.
    """
    path, name = locate(source, kind, revision)
    notes: list[str] = []
    if path.is_file():
        if kind in (CLIP, SENTENCE):
            raise InputError(
                f"{path} is a file, but {KINDS[kind][0]} is {layout(kind)}: give that."
            )
        return Opened(path, name, notes)
    _refuse_others(path)
    if (path / "modules.json").exists():
        inner = _first_module(path, notes, kind)
        if inner != path:
            _refuse_others(inner)
        path = path if kind == SENTENCE else inner
    described = kind in KINDS and (path / "config.json").exists()
    found = kind_of(path) if described else None
    if found and found != kind:
        is_found, how = KINDS[found]
        raise InputError(
            f"{path} is {is_found} and not {KINDS[kind][0]}: read it by {how}, and give "
            f"{layout(kind)} instead."
        )
    return Opened(path, name, notes)


def kind_of(path: Path) -> str | None:
    """Return which of `KINDS` a folder's config describes; None for any other network.

    Raises:
        InputError: its `config.json` is missing or no JSON object.
    """
    if path.is_file():
        return TARGET
    entries = read_config(path)
    if "architecture" in entries:
        return TARGET
    model_type = entries.get("model_type")
    return MODEL_TYPES.get(model_type) if isinstance(model_type, str) else None


class Module(NamedTuple):
    """A step of sentence-transformers: its class, without the package, and its folder."""

    kind: str
    folder: Path


def read_modules(path: Path) -> list[Module]:
    """Read the `modules.json` of a folder of sentence-transformers.

    Raises:
        InputError: it is not a list of modules, or names a folder outside.
    """
    file = path / "modules.json"
    try:
        return [
            Module(module["type"].split(".")[-1], _inside(path, module["path"]))
            for module in read_json(file)
        ]
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} can't be read as JSON ({error}); download the checkpoint again."
        ) from error
    except (TypeError, LookupError, AttributeError) as error:
        raise InputError(
            f"{file} can't be understood ({error!r}): expected a list of modules, each with its "
            "type and path; download the checkpoint again."
        ) from error


def _inside(folder: Path, name: str) -> Path:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise LookupError(f"{name} lies outside")
    return folder / name


def _first_module(path: Path, notes: list[str], kind: str) -> Path:
    """Return the folder of the network that sentence-transformers starts with."""
    modules = read_modules(path)
    folder = modules[0].folder if modules else path
    if kind == SENTENCE:
        return folder
    if folder != path and kind_of(folder) == CLIP:
        notes.append(f"{path} was packaged by sentence-transformers: its {folder.name} was read.")
    further = [module.kind for module in modules[1:] if module.kind != "Normalize"]
    if further and kind_of(folder) == CLIP:
        raise InputError(
            f"{path / 'modules.json'} lists {', '.join(further)} after its CLIP, which is not "
            "implemented: give a CLIP alone."
        )
    return folder


def _refuse_others(path: Path) -> None:
    for pattern in ADAPTERS:
        for file in path.glob(pattern):
            raise InputError(
                f"{path} holds an adapter of PEFT ({file.name}), which changes a network that it "
                "does not hold: merge both, model.merge_and_unload().save_pretrained(FOLDER), and "
                "give that folder."
            )
    readable = weights_file(path).exists() or is_converted(path)
    if readable and (path / "config.json").exists():
        return
    for pattern, (tool, remedy) in OTHERS.items():
        for file in path.glob(pattern):
            raise InputError(
                f"{path} holds a network in the form of {tool} ({file.name}), which is not read: "
                f"{remedy}."
            )
