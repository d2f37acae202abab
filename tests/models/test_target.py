"""One target from every format that it may come in, and its preprocessing and names."""

import argparse
import json
import pickle
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import torch
import transformers
from flax import nnx
from PIL import Image
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch_file

import jaxdesc as jd
from jaxdesc.images.preprocess import PRESETS
from jaxdesc.models.packaging import target_preprocess
from jaxdesc.models.target import ARCHITECTURES, Architecture
from tests import noun_file, plain_target
from tests.models.torch_checkpoints import save_torch_resnet, torch_resnet, torchvision_state

SIZES = {"layers": [1, 2, 1, 1], "channels": [8, 12, 16, 20], "stem_width": 8}
TIMM = {"architecture": "resnet50", "num_classes": 5, "model_args": SIZES}
LABELS = {0: "tench, Tinca tinca", 1: "cock", 2: "hen", 3: "a,b", 4: "crane, bird"}
NAMES = (("tench", "Tinca tinca"), ("cock",), ("hen",), ("a,b",), ("crane", "bird"))


@pytest.fixture(scope="module")
def reference():
    model = torch_resnet("bottleneck", *SIZES.values(), classes=5)
    model.config.id2label = LABELS
    return model


@pytest.fixture
def timm_folder(reference, tmp_path):
    folder = tmp_path / "timm"
    folder.mkdir()
    save_torch_resnet(reference, folder, TIMM)
    return folder


@pytest.fixture
def hugging_face_folder(reference, tmp_path):
    folder = tmp_path / "hf"
    reference.save_pretrained(folder)
    # As microsoft/resnet-50 has it, from before transformers' image processors.
    write(folder / "preprocessor_config.json", {"crop_pct": 0.875, "resample": 3, "size": 224})
    return folder


@pytest.fixture
def pth(reference, tmp_path):
    file = tmp_path / "resnet50-0676ba61.pth"
    torch.save(torchvision_state(reference), file)
    return file


def write(file, entries):
    file.write_text(json.dumps(entries))


def edit(file, **changes):
    write(file, json.loads(file.read_text()) | changes)


def same(one, other):
    """The same parameters, bit for bit."""
    assert jax.tree.structure(one.params) == jax.tree.structure(other.params)
    pairs = zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def test_every_format_holds_the_same_network(timm_folder, hugging_face_folder, pth):
    timm = jd.load_target(str(timm_folder))
    assert same(timm, jd.load_target(str(hugging_face_folder)))
    assert same(timm, jd.load_target(str(pth)))
    assert timm.name == str(timm_folder)


def test_hugging_face_s_labels_and_preprocessing(hugging_face_folder):
    target = jd.load_target(str(hugging_face_folder))
    assert target.classes == NAMES
    imagenet = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert target.preprocess == jd.Preprocess(224, 224 / 256, "bicubic", *imagenet)


@pytest.mark.parametrize("crop", [0.875, 0.8, 0.79, 1.0])
def test_preprocessing_equals_transformers(hugging_face_folder, rng, crop):
    """Pixel for pixel, where the crop leaves as much on both sides; else they round differently."""
    settings = {"size": {"shortest_edge": 64}, "crop_pct": crop, "resample": 3}
    processor = transformers.ConvNextImageProcessorPil(
        **settings, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4]
    )
    processor.save_pretrained(hugging_face_folder)
    preprocess = jd.load_target(str(hugging_face_folder)).preprocess
    image = Image.fromarray(rng.integers(0, 256, (150, 150, 3), dtype=np.uint8))
    theirs = processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    ours = preprocess.normalise(preprocess.cut(image, (0.5, 0.5))[0][None])[0]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": {"shortest_edge": 384}},
        {"size": {"height": 64, "width": 64}},
        {"do_normalize": False},
        {"crop_pct": "much"},
        {"image_mean": 3},
        {"image_std": [1, 2]},
    ],
)
def test_other_preprocessing_is_refused(hugging_face_folder, changes):
    edit(hugging_face_folder / "preprocessor_config.json", **changes)
    with pytest.raises(
        jd.InputError, match=r"preprocessor_config.json can't be read as a ResNet's"
    ):
        jd.load_target(str(hugging_face_folder))


@pytest.mark.parametrize("where", ["top", "pretrained_cfg", "both"])
def test_timm_s_labels(timm_folder, where):
    """Those at the top of the config are the newer ones; split at a comma and a space."""
    labels = list(LABELS.values())
    other = ["x"] * 5
    changes = {
        "top": {"label_names": labels},
        "pretrained_cfg": {"pretrained_cfg": {"label_names": labels}},
        "both": {"label_names": labels, "pretrained_cfg": {"label_names": other}},
    }
    edit(timm_folder / "config.json", **changes[where])
    assert jd.load_target(str(timm_folder)).classes == NAMES


def test_labels_by_number(timm_folder):
    edit(timm_folder / "config.json", label_names={str(index): LABELS[index] for index in LABELS})
    assert jd.load_target(str(timm_folder)).classes == NAMES


WNIDS = ("n01440764", "n01514668", "n01514859", "n02012849", "n03126707")
# As timm writes them, the longer ones with a definition.
DESCRIBED = ("tench, Tinca tinca", "cock", "hen: a female", "a,b", "crane, bird")
DESCRIPTIONS = dict(zip(WNIDS, DESCRIBED, strict=True))


@pytest.mark.parametrize("where", ["top", "pretrained_cfg", "both"])
def test_names_of_wnids_are_their_descriptions(timm_folder, where):
    names, descriptions = {"label_names": list(WNIDS)}, {"label_descriptions": DESCRIPTIONS}
    changes = {
        "top": names | descriptions,
        "pretrained_cfg": {"pretrained_cfg": names | descriptions},
        "both": names | {"pretrained_cfg": descriptions},
    }
    edit(timm_folder / "config.json", **changes[where])
    target = jd.load_target(str(timm_folder))
    assert (target.classes, target.wnids) == (NAMES, WNIDS)


@pytest.mark.parametrize("form", ["timm_folder", "hugging_face_folder"])
def test_wnids_alone_are_named_by_wordnet(form, request, tmp_path, monkeypatch):
    folder = request.getfixturevalue(form)
    labels = {"label_names": list(WNIDS)} if form == "timm_folder" else {
        "id2label": dict(zip("01234", WNIDS, strict=True))
    }  # fmt: skip
    edit(folder / "config.json", **labels)
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    target = jd.load_target(folder)
    assert (target.classes, target.wnids) == ((), WNIDS)
    missing = r"by WordNet's ids alone, .* missing: WordNet's data.noun isn't in the folder "
    assert [note for note in target.notes if re.search(missing, note)]
    synsets = {wnid: (f"word {wnid[-1]}", "other") for wnid in WNIDS}
    noun_file.write(tmp_path / "data.noun", synsets)
    target = jd.load_target(folder)
    cranes = {"n02012849": ("crane", "bird"), "n03126707": ("crane", "machine")}
    assert target.classes == tuple({**synsets, **cranes}[wnid] for wnid in WNIDS)
    assert not any("WordNet" in note for note in target.notes)


def test_labels_of_wnids_and_words(timm_folder):
    labels = [f"{wnid} {LABELS[index]}" for index, wnid in enumerate(WNIDS)]
    edit(timm_folder / "config.json", label_names=labels)
    target = jd.load_target(timm_folder)
    assert (target.classes, target.wnids) == (NAMES, WNIDS)


@pytest.mark.parametrize("form", ["timm_folder", "hugging_face_folder"])
def test_a_label_too_few_is_refused(form, request):
    """At once, for any layer: explanations name classes too."""
    folder = request.getfixturevalue(form)
    edit(folder / "config.json", label_names=["a"] * 4)
    with pytest.raises(jd.InputError, match=r"names 4 classes, but the network has 5 logits"):
        jd.load_target(folder)


@pytest.mark.parametrize("labels", [{"0": 3}, "a", [1], ["a", None]])
def test_labels_that_are_no_texts_are_refused(timm_folder, labels):
    edit(timm_folder / "config.json", label_names=labels)
    with pytest.raises(
        jd.InputError, match=r"label_names in .*config.json are .*: expected strings"
    ):
        jd.load_target(str(timm_folder))


def test_placeholders_are_no_names(hugging_face_folder):
    labels = {str(i): f"LABEL_{i}" for i in range(5)}
    edit(hugging_face_folder / "config.json", id2label=labels)
    assert jd.load_target(str(hugging_face_folder)).classes == ()


def test_a_class_without_a_label_is_named(hugging_face_folder):
    edit(hugging_face_folder / "config.json", id2label=dict.fromkeys("01235", "a"))
    with pytest.raises(jd.InputError, match=r"id2label in .* has no label for class '4'"):
        jd.load_target(str(hugging_face_folder))


def test_images_are_sized_as_for_evaluation(timm_folder):
    """As timm describes torchvision's V2 weights, trained at 176 and evaluated at 224 pixels."""
    training = {"input_size": [3, 176, 176], "crop_pct": 0.875}
    edit(timm_folder / "config.json", pretrained_cfg=training)
    assert jd.load_target(str(timm_folder)).preprocess.size == 176
    evaluation = {"test_input_size": [3, 224, 224], "test_crop_pct": 0.965}
    edit(timm_folder / "config.json", pretrained_cfg=training | evaluation)
    preprocess = jd.load_target(str(timm_folder)).preprocess
    assert (preprocess.size, preprocess.field) == (224, 224 / 232)


def assumed(target, usual, *entries):
    """Tell if its notes say that a preprocessing, or these entries of it, was assumed."""
    what = f"'s {', '.join(entries)}" if entries else ""
    message = f"does not give its preprocessing{what}: {usual}'s was assumed (224 pixels, "
    stated = f"state it with --config.target.preprocess={usual}, "
    return [note for note in target.notes if message in note and stated in note] != []


def test_a_preprocessing_that_is_assumed_is_told(timm_folder, hugging_face_folder, pth):
    (hugging_face_folder / "preprocessor_config.json").unlink()
    usual = {timm_folder: "imagenet", pth: "imagenet", hugging_face_folder: "imagenet_bicubic"}
    small = replace(PRESETS["imagenet"], size=96)
    for source, preset in usual.items():
        target = jd.load_target(source)
        assert assumed(target, preset)
        assert target.preprocess == PRESETS[preset]
        notes = []
        for name, stated in (*PRESETS.items(), (small, small)):
            assert target_preprocess(source, name, notes) == stated
        assert notes == []
    stated = jd.load_target(pth, preprocess="inception")
    assert (stated.preprocess, stated.notes) == (PRESETS["inception"], ())
    assert stated.fingerprint != jd.load_target(pth).fingerprint


def test_entries_of_a_preprocessing_that_are_assumed_are_told(timm_folder):
    told = {"input_size": [3, 224, 224], "crop_pct": 0.9, "interpolation": "bicubic"}
    edit(timm_folder / "config.json", pretrained_cfg=told)
    assert assumed(jd.load_target(timm_folder), "imagenet", "mean", "std")
    told |= {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    edit(timm_folder / "config.json", pretrained_cfg=told)
    target = jd.load_target(timm_folder)
    assert target.notes == ()
    # As timm wrote it before it knew pretrained_cfg.
    write(timm_folder / "config.json", TIMM | told | {"labels": list(LABELS.values())})
    older = jd.load_target(timm_folder)
    assert (older.preprocess, older.notes, older.classes) == (target.preprocess, (), NAMES)


def test_another_crop_is_refused(timm_folder):
    edit(timm_folder / "config.json", pretrained_cfg={"crop_mode": "squash"})
    with pytest.raises(jd.InputError, match=r"crop_mode 'squash' is not implemented"):
        jd.load_target(str(timm_folder))


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_a_pth_tells_its_own_architecture(tmp_path, block):
    reference = torch_resnet(block, (2, 1, 3, 1), (8, 12, 16, 20), 6, classes=7)
    torch.save(torchvision_state(reference), tmp_path / "any.pth")
    target = jd.load_target(str(tmp_path / "any.pth"))
    pixels = np.random.default_rng(0).normal(size=(2, 64, 48, 3)).astype(np.float32)
    with torch.inference_mode():
        theirs = reference(torch.from_numpy(pixels.transpose(0, 3, 1, 2))).logits.numpy()
    np.testing.assert_allclose(target.logits(pixels), theirs, rtol=0, atol=1e-5 * theirs.max())
    assert target.classes == ()
    assert target.preprocess == jd.Preprocess.from_timm({})


def ddp(state):
    return {f"module.{name}": tensor for name, tensor in state.items()}


# What `torch.save` is given, under which name, and what the notes say of it.
TRAINED = {
    "a state dict": (lambda s: s, "x.pt", []),
    "no suffix": (lambda s: s, "checkpoint", []),
    "parameters": (
        lambda s: {n: torch.nn.Parameter(t) if "weight" in n else t for n, t in s.items()},
        "x.bin",
        [],
    ),
    "ImageNet's example": (
        lambda s: {
            "epoch": 1, "arch": "resnet50", "state_dict": ddp(s), "best_acc1": torch.tensor(7.0),
            "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": []},
        },
        "model_best.pth.tar",
        ["'state_dict' was read.", "'module.' of the"],
    ),
    "torchvision's references": (
        lambda s: {
            "model": s, "args": argparse.Namespace(lr=0.1), "lr_scheduler": {"last": [0.1]},
            "model_ema": {"n_averaged": torch.tensor(9), **ddp(dict.fromkeys(s, torch.ones(1)))},
        },
        "model_9.pth",
        ["'model' was read and not 'model_ema'."],
    ),
    "an average alone": (
        lambda s: {"model_ema": {"n_averaged": torch.tensor(9), **ddp(s)}},
        "ema.pth",
        ["'model_ema' was read.", "'module.' of the"],
    ),
    "Lightning, compiled": (
        lambda s: {
            "state_dict": {f"model._orig_mod.{name}": tensor for name, tensor in s.items()},
            "hyper_parameters": {"lr": 0.1}, "loops": {"fit_loop": {"state_dict": {}}},
        },
        "last.ckpt",
        ["'state_dict' was read.", "'model.' of the", "'_orig_mod.' of the"],
    ),
    "Lightning, with more than the network": (
        lambda s: {
            "state_dict": {f"model.{name}": tensor for name, tensor in s.items()}
            | {"criterion.weight": torch.ones(9), "accuracy.total": torch.ones(())},
        },
        "last.ckpt",
        ["'state_dict' was read.", "accuracy.total, criterion.weight in", "'model.' of the"],
    ),
    "a head beside a wrapped trunk": (
        lambda s: {n if n.startswith("fc.") else f"backbone.{n}": t for n, t in s.items()},
        "x.pth",
        ["'backbone.' of the"],
    ),
    "wrapped twice, with NumPy's numbers": (
        lambda s: {"model": {"state_dict": s}, "best": np.float64(3), "curve": np.zeros(2)},
        "x.pth",
        ["'state_dict' was read."],
    ),
    "a backbone": (
        lambda s: {f"backbone.{name}": tensor for name, tensor in s.items()},
        "x.pth",
        ["'backbone.' of the"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("form", "zipped"), [*((form, True) for form in TRAINED), ("a state dict", False)]
)
def test_a_training_checkpoint_is_the_same_network(reference, pth, tmp_path, form, zipped):
    wrap, name, notes = TRAINED[form]
    file = tmp_path / name
    torch.save(wrap(torchvision_state(reference)), file, _use_new_zipfile_serialization=zipped)
    target = jd.load_target(file)
    assert same(target, jd.load_target(pth))
    assert len(target.notes) == len(notes) + 1  # its preprocessing is assumed too
    assert all(part in note for part, note in zip(notes, target.notes, strict=False))


def test_content_tells_the_format_and_not_the_suffix(reference, pth, tmp_path):
    wanted = jd.load_target(pth)
    save_torch_file(torchvision_state(reference), tmp_path / "safetensors.pth")
    pth.rename(tmp_path / "pytorch.safetensors")
    for name in ("safetensors.pth", "pytorch.safetensors"):
        assert same(jd.load_target(tmp_path / name), wanted)


def test_pytorch_s_weights_in_a_folder(timm_folder, hugging_face_folder, reference):
    """Alone, and in shards with an index; next to safetensors they are not read."""
    wanted, state = jd.load_target(timm_folder), reference.state_dict()
    (timm_folder / "pytorch_model.bin").write_bytes(b"not read")
    assert same(jd.load_target(timm_folder), wanted)
    (timm_folder / "model.safetensors").unlink()
    torch.save(torchvision_state(reference), timm_folder / "pytorch_model.bin")
    assert same(jd.load_target(timm_folder), wanted)
    (hugging_face_folder / "model.safetensors").unlink()
    places = {}
    for shard in range(2):
        name = f"pytorch_model-0000{shard + 1}-of-00002.bin"
        part = dict(list(state.items())[shard::2])
        torch.save(part, hugging_face_folder / name)
        places |= dict.fromkeys(part, name)
    write(hugging_face_folder / "pytorch_model.bin.index.json", {"weight_map": places})
    assert same(jd.load_target(hugging_face_folder), wanted)


def test_a_folder_of_timm_wrapper(reference, timm_folder):
    """As transformers writes one for timm's network; its labels are placeholders."""
    wanted = jd.load_target(timm_folder)
    entries = {
        "architectures": ["TimmWrapperForImageClassification"], "model_type": "timm_wrapper",
        "do_pooling": True, "initializer_range": 0.02,
        "label_names": [f"LABEL_{index}" for index in range(5)],
    }  # fmt: skip
    edit(timm_folder / "config.json", **entries)
    state = {f"timm_model.{name}": t for name, t in torchvision_state(reference).items()}
    save_torch_file(state, timm_folder / "model.safetensors")
    target = jd.load_target(timm_folder)
    assert same(target, wanted)
    assert target.classes == ()
    assert "'timm_model.' of the tensors' names" in target.notes[0]


def test_a_pth_without_torch_is_a_sentence(pth, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(jd.InputError, match=r"\.pth can be read by PyTorch alone, .* pip install"):
        jd.load_target(str(pth))


class Harmful:
    def __reduce__(self):
        return (print, ("code of the file's own was run",))


def spoiled(state, file):
    state["fc.bias"] = state["fc.bias"][:-1]
    state["layer2.0.bn1.extra"] = state.pop("layer2.0.bn1.bias")
    torch.save(state, file)


def wide(state, file):
    wider = {name: torch.cat([t, t]) if t.ndim else t for name, t in state.items()}
    torch.save(wider, file)


BAD_FILES = {
    "truncated": (
        lambda state, file: file.write_bytes(file.read_bytes()[:-1000]),
        r"\.pth can't be read \(.*\); expected a state dict",
    ),
    "empty": (lambda state, file: file.write_bytes(b""), r"\.pth can't be read"),
    "code": (lambda state, file: torch.save({"fc.weight": Harmful()}, file), "can't be read"),
    "pickle": (lambda state, file: file.write_bytes(pickle.dumps(Harmful())), "can't be read"),
    "a list": (lambda state, file: torch.save([1, 2], file), r"\.pth can't be read \(a list wi"),
    "quantised": (
        lambda state, file: torch.save(
            state | {"fc.bias": torch.quantize_per_tensor(state["fc.bias"], 0.1, 0, torch.qint8)},
            file,
        ),
        r"\.pth can't be read \(",
    ),
    "another network": (
        lambda state, file: torch.save({"blocks.0.attn.qkv.weight": torch.zeros(3)}, file),
        r"pth: the tensors blocks.0.attn.qkv.weight … are not a ResNet's; expected torchvision's",
    ),
    "misfits": (
        spoiled,
        r"\.pth does not fit the ResNet that its tensors suggest: missing tensors: "
        r"layer2.0.bn1.bias; unknown tensors: layer2.0.bn1.extra; misshapen tensors: fc.bias",
    ),
    "scalars": (
        lambda state, file: torch.save(dict.fromkeys(state, torch.ones(())), file),
        "fit|are not",
    ),
    "wide": (wide, r"misshapen tensors: .*layer1.0.conv3.weight"),
}


@pytest.mark.parametrize("spoil", BAD_FILES)
def test_a_bad_pth_is_a_sentence(reference, pth, spoil, capfd):
    change, message = BAD_FILES[spoil]
    change(torchvision_state(reference), pth)
    with pytest.raises(jd.InputError, match=message):
        jd.load_target(str(pth))
    assert "was run" not in "".join(capfd.readouterr())


def test_misfits_of_hugging_face_s_names_are_told(hugging_face_folder):
    file = hugging_face_folder / "model.safetensors"
    tensors = load_file(file)
    tensors["fc.weight"] = tensors.pop("classifier.1.weight")
    name = "resnet.encoder.stages.1.layers.1.layer.2.convolution.weight"
    tensors[name] = tensors[name][:-1]
    save_file(tensors, file)
    message = (
        r"missing tensors: classifier.1.weight; unknown tensors: fc.weight; misshapen tensors: "
        r"resnet.encoder.stages.1.layers.1.layer.2.convolution.weight \(has \[47, 12, 1, 1\], "
    )
    with pytest.raises(jd.InputError, match=message):
        jd.load_target(str(hugging_face_folder))


def test_an_architecture_from_outside(tmp_path, monkeypatch):
    class Colours(nnx.Module):
        config = SimpleNamespace(num_classes=3)

        def __call__(self, pixels, tap):
            return tap("cells", pixels[:, ::8, ::8]).mean(axis=(1, 2))

    entry = Architecture(names=("colours",), read=lambda path, notes: Colours())
    monkeypatch.setitem(ARCHITECTURES, "colours", entry)
    write(tmp_path / "config.json", {"model_type": "colours", "id2label": {0: "r", 1: "g", 2: "b"}})
    target = jd.load_target(tmp_path, preprocess="imagenet")
    assert target.shapes == {"fc": (3,), "cells": (28, 28, 3)}
    assert (target.attention_layer, target.classes) == ("cells", (("r",), ("g",), ("b",)))


def test_several_layers_in_one_pass():
    target, views = plain_target.plain_target(), np.arange(3 * 32 * 32 * 3, dtype=np.uint32) % 251
    views = views.astype(np.uint8).reshape(3, 32, 32, 3)
    pixels = target.preprocess.normalise(views)
    maps, logits = map(np.asarray, plain_target.maps_and_logits(target, pixels))
    for pooling in ("mean", "max"):
        found, classes = target.activate(views, ("fc", "patches"), pooling, classify=True)
        np.testing.assert_allclose(found["fc"], logits, rtol=1e-5, atol=1e-5)
        pooled = getattr(maps, pooling)(axis=(1, 2))
        np.testing.assert_allclose(found["patches"], pooled, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(classes, logits.argmax(axis=1))
        alone = target.activations(pixels, "patches", pooling)
        np.testing.assert_allclose(alone, found["patches"], rtol=1e-4, atol=1e-7)
    with pytest.raises(jd.InputError, match="Unknown pooling 'sum'"):
        target.activations(pixels, "patches", "sum")
    with pytest.raises(jd.InputError, match="Unknown layer 'layer4' of target"):
        target.activate(pixels, ("fc", "layer4"))


def test_a_network_without_classes():
    target = plain_target.plain_target(apply=plain_target.network(head=lambda *given: None))
    views = np.zeros((2, 32, 32, 3), np.uint8)
    assert (target.layers, target.logit_count) == (("patches",), 0)
    assert target.activations(views, "patches").shape == (2, 10)
    assert target.fingerprint
    with pytest.raises(jd.InputError, match="Unknown layer 'fc' of target"):
        target.logits(views)
