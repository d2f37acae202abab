"""Bad weights, in each format that they come in."""

import gzip
import json

import msgpack
import numpy as np
import torch

import jaxdesc as jd
from jaxdesc.models.convert import convert as convert_network
from tests.faults.networks import WEIGHTS, clip, target
from tests.faults.place import Rows, entry, safetensors

case = Rows()

# How several messages end.
TRUNCATED = (
    " can't be read (<said>); expected a complete safetensors file; download the "
    "checkpoint again, or convert it to safetensors."
)
ONE_CHECKPOINT = "; use the config.json and the weights of one checkpoint."
FLAX = (
    " can't be read (<said>); expected the parameters of a Flax model; download the "
    "checkpoint again."
)
EXPECTED = "; expected a state dict, tensors by name, as torchvision publishes them"
STATE_DICT = EXPECTED + "; download it again."
NO_FILES = (
    " names no files next to it in its weight_map; expected a file per tensor; "
    "download the checkpoint again."
)


# Weights.


def edited(change):
    return lambda place: jd.load_target(place.weighted("target", change))


def flax(content):
    def run(place):
        folder = place.network("clip", WEIGHTS)
        place.file("clip/flax_model.msgpack", content)
        jd.load_clip(folder)

    return run


def state_dict(content):
    def run(place):
        file = place.folder / "resnet50.pth"
        file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
        jd.load_target(str(file))

    return run


def renamed(tensors):
    tensors["fc.wight"] = tensors.pop("fc.weight")
    tensors["bn1.running_var"] = tensors["bn1.running_var"][:-1]


def filled(name, value):
    def change(tensors):
        tensors[name].flat[3] = value

    return edited(change)


def complex_bias(tensors):
    tensors["fc.bias"] = tensors["fc.bias"].astype(np.complex64)


def scripted(place):
    torch.jit.script(torch.nn.Linear(2, 2)).save(place.folder / "resnet50.pt")
    jd.load_target(place.folder / "resnet50.pt")


def file(content):
    """A file without a suffix: its content alone says what it is."""
    return lambda place: jd.load_target(place.file("weights", content))


def indexed(places):
    def run(place):
        folder = place.network("target", WEIGHTS)
        place.file("target/model.safetensors.index.json", json.dumps({"weight_map": places}))
        jd.load_target(folder)

    return run


def orbax(place):
    folder = place.network("target", WEIGHTS)
    place.file("target/orbax/_METADATA", "{")
    jd.load_target(folder)


OVERLAP = {"a": entry([2], 0, 8), "b": entry([2], 4, 12)}
BEYOND = {"a": entry([2**40], 0, 2**42)}
OVERFLOW = {"a": entry([2**62, 8], 0, 0)}

case(
    "weights: missing",
    target(WEIGHTS, None),
    "<here>/target holds no weights: expected model.safetensors, model.safetensors.index.json, "
    "flax_model.msgpack, pytorch_model.bin, pytorch_model.bin.index.json or orbax/; download the "
    "checkpoint again.",
)
case("weights: empty", target(WEIGHTS, b""), "<here>/target/model.safetensors" + TRUNCATED)
case(
    "weights: no safetensors",
    target(WEIGHTS, b"404: Not Found"),
    "<here>/target/model.safetensors" + TRUNCATED,
)
case(
    "weights: a web page",
    target(WEIGHTS, b"\n<!DOCTYPE html><html>404</html>"),
    "<here>/target/model.safetensors is a web page, not weights: download the file itself, logged "
    "in if that is asked.",
)
case(
    "weights: a pointer of Git LFS",
    target(WEIGHTS, b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 46\n"),
    "<here>/target/model.safetensors is a pointer of Git LFS, not the weights: run git lfs pull "
    "in its repository.",
)
for form, content in (
    ("HDF5, as Keras and TensorFlow write it", b"\x89HDF\r\n\x1a\n" + bytes(88)),
    ("GGUF, llama.cpp's format", b"GGUF\x03\0\0\0" + bytes([123]) + bytes(15)),
    ("an ONNX graph", b"\x08\x08\x12\x07pytorch\x1a\x062.13.0"),
):
    case(
        f"weights: {form}",
        file(content),
        f"<here>/weights is {form}, which is not read: save the tensors as safetensors, or as "
        "PyTorch's state dict, with what wrote them.",
    )
case(
    "weights: compressed",
    file(gzip.compress(b"weights")),
    "<here>/weights is an archive or compressed: unpack it, and give what is inside.",
)
case(
    "weights: TorchScript",
    scripted,
    "<here>/resnet50.pt is a TorchScript archive, whose code is not run: save its tensors alone, "
    "torch.save(torch.jit.load(FILE).state_dict(), NEW_FILE), and give the new file.",
)
case(
    "weights: another zip archive",
    file(b"PK\x05\x06" + bytes(18)),
    "<here>/weights is a zip archive that torch.save did not write: unpack it and give what is "
    "inside, or save the network's state_dict().",
)
case(
    "weights: header without end",
    target(WEIGHTS, safetensors(b"{}", length=2**63)),
    "<here>/target/model.safetensors" + TRUNCATED,
)
case(
    "weights: overlapping",
    target(WEIGHTS, safetensors(OVERLAP, bytes(12))),
    "<here>/target/model.safetensors" + TRUNCATED,
)
case(
    "weights: beyond the file",
    target(WEIGHTS, safetensors(BEYOND, bytes(8))),
    "<here>/target/model.safetensors" + TRUNCATED,
)
case(
    "weights: sizes that overflow",
    target(WEIGHTS, safetensors(OVERFLOW)),
    "<here>/target/model.safetensors" + TRUNCATED,
)
case(
    "weights: of 8 bits",
    target(WEIGHTS, safetensors({"fc.bias": entry([2], 0, 2, "F8_E4M3")}, b"xx")),
    "<here>/target/model.safetensors holds numbers of 8 bits or fewer (<said>); expected "
    "16, 32 or 64; use the checkpoint that is not quantised.",
)
case(
    "weights: missing, extra, misshapen",
    edited(renamed),
    (
        "<here>/target/model.safetensors does not fit the ResNet that its config.json "
        "describes: missing tensors: fc.weight; unknown tensors: fc.wight; misshapen "
        "tensors: bn1.running_var (has [15], expected [16])"
    )
    + ONE_CHECKPOINT,
)
case(
    "weights: another network's",
    clip(WEIGHTS, safetensors({"\x1b[2J": entry([1], 0, 4)}, bytes(4))),
    "<here>/clip/model.safetensors does not fit the CLIP that its config.json describes: "
    "missing tensors: logit_scale, <said> and the weights of one checkpoint.",
)
case(
    "weights: NaN",
    filled("layer1.0.conv1.weight", np.nan),
    (
        "<here>/target/model.safetensors does not fit the ResNet that its config.json "
        "describes: tensors with values that are not finite: layer1.0.conv1.weight"
    )
    + ONE_CHECKPOINT,
)
case(
    "weights: infinite",
    filled("bn1.running_var", np.inf),
    (
        "<here>/target/model.safetensors does not fit the ResNet that its config.json "
        "describes: tensors with values that are not finite: bn1.running_var"
    )
    + ONE_CHECKPOINT,
)
case(
    "weights: complex",
    edited(complex_bias),
    (
        "<here>/target/model.safetensors does not fit the ResNet that its config.json "
        "describes: tensors with values that are not finite: fc.bias"
    )
    + ONE_CHECKPOINT,
)
case(
    "weights: shards elsewhere",
    indexed({"fc.bias": "../../etc/passwd"}),
    "<here>/target/model.safetensors.index.json" + NO_FILES,
)
case("weights: no shards", indexed({}), "<here>/target/model.safetensors.index.json" + NO_FILES)
case(
    "weights: a missing shard",
    indexed({"fc.bias": "model-9.safetensors"}),
    "<here>/target/model-9.safetensors can't be read (No such file or directory); download the "
    "checkpoint again, or correct its permissions.",
)
case(
    "weights: an index among the shards",
    indexed({"fc.bias": "model.safetensors.index.json"}),
    "<here>/target/model.safetensors.index.json names another index among its files; expected the "
    "files that hold the tensors; download the checkpoint again.",
)
case(
    "weights: broken Orbax",
    orbax,
    "<here>/target/orbax can't be read (AttributeError: <said>); expected what "
    "convert writes; convert the checkpoint again.",
)
case("msgpack: empty", flax(b""), "<here>/clip/flax_model.msgpack" + FLAX)
case(
    "msgpack: four billion entries",
    flax(b"\xdd\xff\xff\xff\xff"),
    "<here>/clip/flax_model.msgpack" + FLAX,
)
case(
    "msgpack: brackets without end",
    flax(b"\x91" * 200_000),
    "<here>/clip/flax_model.msgpack" + FLAX,
)
case(
    "msgpack: an array of objects",
    flax(msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(((), "O", b"abcdefgh")))})),
    "<here>/clip/flax_model.msgpack" + FLAX,
)
case("msgpack: no tree", flax(msgpack.packb([1, 2])), "<here>/clip/flax_model.msgpack" + FLAX)
case(
    ".pth: empty",
    state_dict(b""),
    "<here>/resnet50.pth can't be read (EOFError: <said>)" + STATE_DICT,
)
case(
    ".pth: no archive",
    state_dict(b"PK\x03\x04 and no more"),
    "<here>/resnet50.pth can't be read (RuntimeError: <said>)" + STATE_DICT,
)
case(
    ".pth: a list",
    state_dict([1, 2]),
    "<here>/resnet50.pth can't be read (a list without tensors by name)" + EXPECTED + ".",
)
case(
    ".pth: a whole module",
    state_dict(torch.nn.Linear(2, 2)),
    "<here>/resnet50.pth can't be read (it needs torch.nn.modules.linear.Linear, and no code is "
    "run)" + EXPECTED + "; save the network's state_dict() alone, and give that file.",
)
case(
    ".pth: several networks",
    state_dict({name: {"fc.weight": torch.zeros(3, 3)} for name in ("student", "teacher")}),
    "<here>/resnet50.pth holds several networks, student, teacher: save the state_dict() of one "
    "of them, and give that file.",
)
case(
    ".pth: another network's",
    state_dict({"blocks.0.attn.qkv.weight": torch.zeros(3)}),
    "<here>/resnet50.pth: the tensors blocks.0.attn.qkv.weight … are not a ResNet's; "
    "expected torchvision's names, conv1.weight to fc.weight; use the state dict of one "
    "of resnet18, resnet34, resnet50, resnet101, resnet152.",
)
case(
    "convert: output exists",
    lambda p: convert_network("/", str(p.folder)),
    "The output '<here>' exists: give a folder that does not.",
)
