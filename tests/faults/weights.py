"""Bad weights, in each format that they come in, by the message that each gives."""

import gzip
import json
from functools import partial

import msgpack
import numpy as np
import torch
from safetensors.torch import load_file

import jaxdesc as jd
from jaxdesc.models.convert import convert
from jaxdesc.scenes import NETWORKS
from tests.faults.networks import WEIGHTS, clip, target
from tests.faults.place import entry, rows, safetensors

NO_STATE_DICT = "; expected a state dict, tensors by name"


def edited(change):
    """Load the embedded world's target with other tensors."""
    return lambda place: jd.load_target(place.weighted("target", change))


def renamed(tensors):
    tensors["fc.wight"] = tensors.pop("fc.weight")
    tensors["conv1.weight"] = tensors["conv1.weight"][:-1]


def not_finite(tensors):
    tensors["layer1.0.conv1.weight"].flat[3] = np.nan
    tensors["bn1.running_var"][3] = np.inf
    tensors["fc.bias"] = tensors["fc.bias"].astype(np.complex64)


def replaced(kind, name, content):
    """Load a network with its weights in another file."""

    def run(place):
        folder = place.network(kind, WEIGHTS)
        place.file(f"{kind}/{name}", content)
        {"clip": jd.load_clip, "target": jd.load_target}[kind](folder)

    return run


def flax(content):
    return replaced("clip", "flax_model.msgpack", content)


def indexed(shard):
    content = json.dumps({"weight_map": {"fc.bias": shard}})
    return replaced("target", "model.safetensors.index.json", content)


def file(content):
    """A file without a suffix: its content alone says what it is."""
    return lambda place: jd.load_target(place.file("weights", content))


def state_dict(change):
    """A file of PyTorch's: what a function makes of a network's tensors."""

    def run(place):
        tensors = load_file(NETWORKS / "target" / WEIGHTS)
        torch.save(change(tensors), place.folder / "resnet50.pth")
        jd.load_target(place.folder / "resnet50.pth")

    return run


def scripted(place):
    torch.jit.script(torch.nn.Linear(2, 2)).save(place.folder / "resnet50.pt")
    jd.load_target(place.folder / "resnet50.pt")


def quantised(tensors):
    bias = torch.quantize_per_tensor(tensors["fc.bias"], 0.1, 0, torch.qint8)
    return tensors | {"fc.bias": bias}


def wide(tensors):
    """Each tensor twice as long: no sizes of a ResNet have such shapes."""
    return {name: torch.cat([tensor, tensor]) for name, tensor in tensors.items()}


OBJECTS = msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(((), "O", b"abcdefgh")))})

ROWS = {
    "<here>/target holds no weights: expected model.safetensors, ... or orbax/; download": target(
        WEIGHTS, None
    ),
    # By their first bytes.
    **rows(
        "<here>/weights is ",
        file,
        {
            "a web page, not weights: download": b"\n<!DOCTYPE html><html>404</html>",
            "a pointer of Git LFS, not the weights: run": b"version https://git-lfs.github.com/v1",
            "HDF5, ... which is not read: save the tensors as": b"\x89HDF\r\n\x1a\n" + bytes(88),
            "GGUF, llama.cpp's format, which is not read:": b"GGUF\x03\0\0\0" + bytes(16),
            "an ONNX graph, which is not read:": b"\x08\x08\x12\x07pytorch\x1a\x062.13.0",
            "an archive or compressed: unpack it": gzip.compress(b"weights"),
            "a zip archive that torch.save did not write: unpack": b"PK\x05\x06" + bytes(18),
        },
    ),
    "<here>/resnet50.pt is a TorchScript archive, whose code is not run: save its": scripted,
    # safetensors.
    **rows(
        "<here>/target/model.safetensors can't be read (... ",
        partial(target, WEIGHTS),
        {
            "too small); expected a complete safetensors file; download": b"",
            "too large); expected": b"404: Not Found",
            "not fully covered": safetensors({"a": entry([2**40], 0, 2**42)}, bytes(8)),
            "overflow": safetensors({"a": entry([2**62, 8], 0, 0)}),
        },
    ),
    "<here>/target/model.safetensors holds numbers of 8 bits or fewer (...); expected 16, 32": (
        target(WEIGHTS, safetensors({"fc.bias": entry([2], 0, 2, "F8_E4M3")}, b"xx"))
    ),
    "<here>/target/model.safetensors does not fit the ResNet that its config.json describes: "
    "missing tensors: fc.weight; unknown tensors: fc.wight; misshapen tensors: conv1.weight (has "
    "[15, 3, 7, 7], expected [16, 3, 7, 7]); use the config.json and the weights of one "
    "checkpoint.": edited(renamed),
    "<here>/target/model.safetensors does not fit the ResNet that its config.json describes: "
    "tensors with values that are not finite: bn1.running_var, fc.bias, layer1.0.conv1.weight; "
    "use": edited(not_finite),
    "<here>/clip/model.safetensors does not fit the CLIP that its config.json describes: missing "
    "tensors: logit_scale, ... and 90 more; unknown tensors: \\x1b[2J; use": clip(
        WEIGHTS, safetensors({"\x1b[2J": entry([1], 0, 4)}, bytes(4))
    ),
    # Shards, Orbax, Flax.
    "<here>/target/model.safetensors.index.json names no files next to it in its weight_map": (
        indexed("../../etc/passwd")
    ),
    "<here>/target/model-9.safetensors can't be read (No such file or directory); download": (
        indexed("model-9.safetensors")
    ),
    "<here>/target/model.safetensors.index.json names another index among its files; expected": (
        indexed("model.safetensors.index.json")
    ),
    "<here>/target/orbax can't be read (AttributeError: ...); expected what convert writes": (
        replaced("target", "orbax/_METADATA", "{")
    ),
    **rows(
        "<here>/clip/flax_model.msgpack can't be read (",
        flax,
        {
            "ValueError('Unpack failed...); expected the parameters of a Flax model": b"",
            "ValueError('4294967295 exceeds": b"\xdd\xff\xff\xff\xff",
            "ValueError('cannot create an OBJECT array": OBJECTS,
            "StackError": b"\x91" * 200_000,
            "AssertionError": msgpack.packb([1, 2]),
        },
    ),
    # PyTorch.
    "<here>/weights can't be read (RuntimeError: ...)" + NO_STATE_DICT: file(b"PK\x03\x04 no more"),
    **rows(
        "<here>/resnet50.pth",
        state_dict,
        {
            " can't be read (a list without tensors by name)" + NO_STATE_DICT: lambda t: [1, 2],
            " can't be read (a dict without tensors by name)": lambda t: {"epoch": 3},
            " can't be read (it needs torch.nn.modules.linear.Linear, and no code is run)"
            f"{NO_STATE_DICT} ...; save the network's state_dict() alone": lambda t: (
                torch.nn.Linear(2, 2)
            ),
            " can't be read (Type...)" + NO_STATE_DICT: quantised,
            " holds several networks, student, teacher: save the": lambda t: {
                "student": {"fc.weight": t["fc.weight"]},
                "teacher": {"fc.weight": t["fc.weight"]},
            },
            ": the tensors blocks.0.qkv.weight … are not a ResNet's; expected torchvision's names, "
            "conv1.weight to fc.weight; use": lambda t: {"blocks.0.qkv.weight": t["fc.weight"]},
        },
    ),
    "<here>/resnet50.pth does not fit the ResNet that its tensors suggest: misshapen": (
        state_dict(wide)
    ),
    # Conversion.
    "The output '<here>' exists: give a folder that does not.": lambda p: convert("/", p.folder),
    "'scenes' is several networks: give one of scenes:attributes, scenes:clip": lambda p: convert(
        "scenes", p.folder / "out"
    ),
    "<here>/net/config.json is neither a target's nor a name encoder's: expected": lambda p: (
        convert(p.file("net/config.json", '{"model_type": "bert"}').parent, p.folder / "out")
    ),
}
