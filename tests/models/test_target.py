"""One target from every format that it may come in, and its preprocessing and names."""

import argparse
import json
import re
import sys
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file as save_torch_file

import jaxdesc as jd
from jaxdesc.images.preprocess import PRESETS
from jaxdesc.models.packaging import read_labels, target_preprocess
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


@pytest.fixture(scope="module")
def wanted(reference, tmp_path_factory):
    """The network as it is loaded from timm's folder."""
    folder = tmp_path_factory.mktemp("timm")
    save_torch_resnet(reference, folder, TIMM)
    return jd.load_target(folder)


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
    """Return if two targets have the same parameters, bit for bit."""
    assert jax.tree.structure(one.params) == jax.tree.structure(other.params)
    pairs = zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def test_every_format_holds_the_same_network(wanted, hugging_face_folder, pth):
    target = jd.load_target(str(hugging_face_folder))
    assert same(target, wanted)
    assert same(jd.load_target(str(pth)), wanted)
    assert target.name == str(hugging_face_folder)
    assert target.classes == NAMES
    imagenet = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert target.preprocess == jd.Preprocess(224, 224 / 256, "bicubic", *imagenet)


@pytest.mark.parametrize("crop", [0.875, 0.8, 0.79, 1.0])
def test_preprocessing_equals_transformers(tmp_path, rng, crop):
    """Pixel for pixel, if the crop leaves as much on both sides; else they round differently."""
    settings = {"size": {"shortest_edge": 64}, "crop_pct": crop, "resample": 3}
    processor = transformers.ConvNextImageProcessorPil(
        **settings, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4]
    )
    processor.save_pretrained(tmp_path)
    write(tmp_path / "config.json", {"model_type": "resnet"})
    preprocess = target_preprocess(tmp_path, "", [])
    image = Image.fromarray(rng.integers(0, 256, (150, 150, 3), dtype=np.uint8))
    theirs = processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    ours = preprocess.normalise(preprocess.cut(image, (0.5, 0.5))[0][None])[0]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


WNIDS = ("n01440764", "n01514668", "n01514859", "n02012849", "n03126707")
IDS = {"label_names": list(WNIDS)}
LISTED = {"label_names": list(LABELS.values())}
# As timm writes them, the longer ones with a definition.
DESCRIBED = ("tench, Tinca tinca", "cock", "hen: a female", "a,b", "crane, bird")
DESCRIPTIONS = {"label_descriptions": dict(zip(WNIDS, DESCRIBED, strict=True))}


@pytest.mark.parametrize(
    ("entries", "names", "wnids"),
    [
        (LISTED, NAMES, ()),
        ({"pretrained_cfg": LISTED}, NAMES, ()),
        (LISTED | {"pretrained_cfg": {"label_names": ["x"] * 5}}, NAMES, ()),
        ({"labels": LISTED["label_names"]}, NAMES, ()),
        ({"label_names": {str(index): LABELS[index] for index in LABELS}}, NAMES, ()),
        ({"id2label": {str(index): f"LABEL_{index}" for index in LABELS}}, (), ()),
        (IDS | DESCRIPTIONS, NAMES, WNIDS),
        ({"pretrained_cfg": IDS | DESCRIPTIONS}, NAMES, WNIDS),
        (IDS | {"pretrained_cfg": DESCRIPTIONS}, NAMES, WNIDS),
        ({"label_names": [f"{WNIDS[i]} {LABELS[i]}" for i in LABELS]}, NAMES, WNIDS),
    ],
)
def test_labels(entries, names, wnids, tmp_path):
    """Entries at the top of the config come first; labels are split at a comma and a space."""
    write(tmp_path / "config.json", entries)
    assert read_labels(tmp_path, 5, []) == (names, wnids)


def test_wnids_alone_are_named_by_wordnet(hugging_face_folder, tmp_path, monkeypatch):
    edit(hugging_face_folder / "config.json", id2label=dict(zip("01234", WNIDS, strict=True)))
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    target = jd.load_target(hugging_face_folder)
    assert (target.classes, target.wnids) == ((), WNIDS)
    missing = r"by WordNet's ids alone, .* missing: WordNet's data.noun isn't in the folder "
    assert [note for note in target.notes if re.search(missing, note)]
    synsets = {wnid: (f"word {wnid[-1]}", "other") for wnid in WNIDS}
    noun_file.write(tmp_path / "data.noun", synsets)
    target = jd.load_target(hugging_face_folder)
    cranes = {"n02012849": ("crane", "bird"), "n03126707": ("crane", "machine")}
    assert target.classes == tuple({**synsets, **cranes}[wnid] for wnid in WNIDS)
    assert not any("WordNet" in note for note in target.notes)


def test_images_are_sized_as_for_evaluation():
    """timm states both for torchvision's V2 weights: 176 pixels to train, 224 to evaluate."""
    training = {"input_size": [3, 176, 176], "crop_pct": 0.875}
    assert jd.Preprocess.from_timm(training).size == 176
    evaluation = {"test_input_size": [3, 224, 224], "test_crop_pct": 0.965}
    preprocess = jd.Preprocess.from_timm(training | evaluation)
    assert (preprocess.size, preprocess.field) == (224, 224 / 232)


def assumed(notes, usual, *entries):
    """Return if notes say that a preprocessing, or these entries of it, was assumed."""
    what = f"'s {', '.join(entries)}" if entries else ""
    message = f"does not give its preprocessing{what}: {usual}'s was assumed (224 pixels, "
    stated = f"state it with --config.target.preprocess={usual}, "
    return [note for note in notes if message in note and stated in note] != []


def test_a_preprocessing_that_is_assumed_is_told(hugging_face_folder, wanted, pth):
    (hugging_face_folder / "preprocessor_config.json").unlink()
    usual = {pth: "imagenet", hugging_face_folder: "imagenet_bicubic"}
    small = replace(PRESETS["imagenet"], size=96)
    for source, preset in usual.items():
        assert target_preprocess(source, "", notes := []) == PRESETS[preset]
        assert assumed(notes, preset)
        for name, stated in (*PRESETS.items(), (small, small)):
            assert target_preprocess(source, name, notes := []) == stated
            assert notes == []
    assert assumed(wanted.notes, "imagenet")
    stated = jd.load_target(pth, preprocess="inception")
    assert (stated.preprocess, stated.notes) == (PRESETS["inception"], ())
    assert stated.fingerprint != wanted.fingerprint


def test_entries_of_a_preprocessing_that_are_assumed_are_told(tmp_path):
    told = {"input_size": [3, 224, 224], "crop_pct": 0.9, "interpolation": "bicubic"}
    write(tmp_path / "config.json", TIMM | {"pretrained_cfg": told})
    target_preprocess(tmp_path, "", notes := [])
    assert assumed(notes, "imagenet", "mean", "std")
    told |= {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    # The latter as timm wrote it before it knew pretrained_cfg.
    for entries in ({"pretrained_cfg": told}, told):
        write(tmp_path / "config.json", TIMM | entries)
        found = target_preprocess(tmp_path, "", notes := [])
        assert found == jd.Preprocess(224, 224 / 248, "bicubic", (0.5,) * 3, (0.5,) * 3)
        assert notes == []


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


def prefixed(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


# What `torch.save` is given, and what the notes say of it.
TRAINED = {
    "a state dict": (lambda s: s, []),
    "ImageNet's example": (
        lambda s: {
            "epoch": 1, "state_dict": prefixed("module.", s), "best_acc1": torch.tensor(7.0),
            "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": []},
        },
        ["'state_dict' was read.", "'module.' of the"],
    ),
    "torchvision's references": (
        lambda s: {
            "model": s, "args": argparse.Namespace(lr=0.1), "lr_scheduler": {"last": [0.1]},
            "model_ema": prefixed("module.", dict.fromkeys(s, torch.ones(1))),
        },
        ["'model' was read and not 'model_ema'."],
    ),
    "an average alone": (
        lambda s: {"model_ema": {"n_averaged": torch.tensor(9), **prefixed("module.", s)}},
        ["'model_ema' was read.", "'module.' of the"],
    ),
    "Lightning, compiled": (
        lambda s: {
            "state_dict": prefixed("model._orig_mod.", s),
            "hyper_parameters": {"lr": 0.1}, "loops": {"fit_loop": {"state_dict": {}}},
        },
        ["'state_dict' was read.", "'model.' of the", "'_orig_mod.' of the"],
    ),
    "Lightning, with more than the network": (
        lambda s: {
            "state_dict": prefixed("model.", s)
            | {"criterion.weight": torch.ones(9), "accuracy.total": torch.ones(())},
        },
        ["'state_dict' was read.", "accuracy.total, criterion.weight in", "'model.' of the"],
    ),
    "a head next to a wrapped trunk": (
        lambda s: {n if n.startswith("fc.") else f"backbone.{n}": t for n, t in s.items()},
        ["'backbone.' of the"],
    ),
    "wrapped twice, with NumPy's numbers and parameters": (
        lambda s: {
            "model": {"state_dict": {name: torch.nn.Parameter(t.float()) for name, t in s.items()}},
            "best": np.float64(3), "curve": np.zeros(2),
        },
        ["'state_dict' was read."],
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("form", "zipped"), [*((form, True) for form in TRAINED), ("a state dict", False)]
)
def test_a_training_checkpoint_is_the_same_network(reference, wanted, tmp_path, form, zipped):
    wrap, notes = TRAINED[form]
    file = tmp_path / "last.ckpt"
    torch.save(wrap(torchvision_state(reference)), file, _use_new_zipfile_serialization=zipped)
    target = jd.load_target(file)
    assert same(target, wanted)
    assert len(target.notes) == len(notes) + 1  # its preprocessing is assumed too
    assert all(part in note for part, note in zip(notes, target.notes, strict=False))


def test_content_tells_the_format_and_not_the_suffix(reference, wanted, pth, tmp_path):
    save_torch_file(torchvision_state(reference), tmp_path / "safetensors.pth")
    pth.rename(tmp_path / "pytorch.safetensors")
    for name in ("safetensors.pth", "pytorch.safetensors"):
        assert same(jd.load_target(tmp_path / name), wanted)


def test_pytorch_s_weights_in_a_folder(timm_folder, hugging_face_folder, reference, wanted):
    """Alone, and in shards with an index; next to safetensors they are not read."""
    state = reference.state_dict()
    (timm_folder / "pytorch_model.bin").write_bytes(b"not read")
    assert same(jd.load_target(timm_folder), wanted)
    (timm_folder / "model.safetensors").unlink()
    torch.save(torchvision_state(reference), timm_folder / "pytorch_model.bin")
    assert same(jd.load_target(timm_folder), wanted)
    (hugging_face_folder / "model.safetensors").unlink()
    places = {}
    for shard, name in enumerate(("pytorch_model-1.bin", "pytorch_model-2.bin")):
        part = dict(list(state.items())[shard::2])
        torch.save(part, hugging_face_folder / name)
        places |= dict.fromkeys(part, name)
    write(hugging_face_folder / "pytorch_model.bin.index.json", {"weight_map": places})
    assert same(jd.load_target(hugging_face_folder), wanted)


def test_a_folder_of_timm_wrapper(reference, wanted, timm_folder):
    """The config is what transformers writes for timm's network; its labels are placeholders."""
    entries = {
        "architectures": ["TimmWrapperForImageClassification"], "model_type": "timm_wrapper",
        "do_pooling": True, "initializer_range": 0.02,
        "label_names": [f"LABEL_{index}" for index in range(5)],
    }  # fmt: skip
    edit(timm_folder / "config.json", **entries)
    state = torchvision_state(reference)
    save_torch_file(prefixed("timm_model.", state), timm_folder / "model.safetensors")
    target = jd.load_target(timm_folder)
    assert same(target, wanted)
    assert target.classes == ()
    assert "'timm_model.' of the tensors' names" in target.notes[0]


def test_a_pth_without_torch_is_a_sentence(pth, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(jd.InputError, match=r"\.pth can be read by PyTorch alone, .* pip install"):
        jd.load_target(str(pth))


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


def test_networks_of_one_structure_share_programs(wanted, timm_folder):
    traces = []

    @partial(jax.jit, static_argnames="apply")
    def logits(apply, params, pixels):
        traces.append(apply)
        return apply(params, pixels, lambda name, array: array)

    for target in (wanted, jd.load_target(timm_folder)):
        logits(target.apply, target.params, np.zeros((1, 64, 64, 3), np.float32))
    assert len(traces) == 1
