"""ResNet-C and -D, ResNeXt and Wide ResNet against PyTorch, under timm's names."""

import json
from dataclasses import asdict, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

import jaxdesc as jd
from jaxdesc.errors import InputError
from jaxdesc.models.convert import convert
from jaxdesc.models.resnet import load_resnet, save_resnet
from jaxdesc.models.resnet_config import STAGES, TIMM_SIZES, ResNetConfig
from jaxdesc.models.taps import class_gradient, recorded
from tests.models.torch_checkpoints import (
    channels_first,
    largest_error,
    torch_resnet,
    torchvision_state,
)
from tests.models.torch_resnets import ResNet, relative, values

SMALL = {"layers": (1, 2, 1, 1), "channels": (16, 24, 32, 40), "stem_width": 8}
# Groups as wide as the convolutions that Winograd's replace.
WIDE_GROUPS = {"cardinality": 2, "base_width": 64, "channels": (64, 64, 64, 64)}
RELATIVES = {
    "ResNet-C": ("resnet50c", {}),
    "ResNet-D": ("resnet50d", {}),
    "ResNet-D, basic blocks": ("resnet18d", {}),
    "ResNeXt": ("resnext50_32x4d", WIDE_GROUPS),
    "ResNeXt-D": ("resnext50d_32x4d", {}),
    "Wide ResNet": ("wide_resnet50_2", {}),
}
PREPROCESS = jd.Preprocess(64, 1.0, "bicubic", (0.5,) * 3, (0.5,) * 3)


def write(model, config, folder):
    """Write a folder as timm does."""
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config.to_timm()))


def pair(title, folder):
    """A small relative in PyTorch, and as it is loaded here."""
    name, sizes = RELATIVES[title]
    config = replace(TIMM_SIZES[name], num_classes=7, **SMALL | sizes)
    model = relative(**asdict(config))
    write(model, config, folder)
    assert ResNetConfig.from_entries(json.loads((folder / "config.json").read_text())) == config
    return model, jd.load_target(folder, preprocess=PREPROCESS)


def agree(target, model, pixels):
    """Every tap and the logits agree, relative to each one's largest value."""
    run = jax.jit(lambda params, pixels: recorded(target.apply, params, pixels, STAGES))
    logits, stages = run(target.params, jnp.asarray(pixels))
    return largest_error(stages | {"logits": logits}, values(model, pixels))


@pytest.mark.parametrize("title", RELATIVES)
def test_every_tap_equals_torch(title, tmp_path, rng):
    """On maps of odd sides, at whose ends a shortcut's mean is of fewer pixels."""
    model, target = pair(title, tmp_path)
    agree(target, model, rng.normal(size=(2, 41, 50, 3)).astype(np.float32))


def test_the_reference_is_transformers_resnet(rng):
    sizes = {"block": "bottleneck", **SMALL}
    theirs = torch_resnet("bottleneck", *SMALL.values(), classes=7)
    model = ResNet(**sizes, num_classes=7).eval()
    model.load_state_dict(torchvision_state(theirs))
    pixels = rng.normal(size=(2, 41, 50, 3)).astype(np.float32)
    with torch.inference_mode():
        logits = theirs(channels_first(pixels)).logits.numpy()
    np.testing.assert_allclose(values(model, pixels)["logits"], logits, atol=1e-5)


def test_gradients_equal_torch(tmp_path, rng):
    """Through groups and averaged shortcuts, down to the first stage."""
    model, target = pair("ResNeXt-D", tmp_path)
    pixels = rng.normal(size=(2, 41, 50, 3)).astype(np.float32)
    stages, logits = model(channels_first(pixels))
    (slopes,) = torch.autograd.grad(logits.max(dim=1).values.sum(), stages[0])
    wanted = slopes.permute(0, 2, 3, 1).numpy()
    shape = target.shapes_at(*pixels.shape[1:3])["layer1"]
    see = jax.jit(lambda p, x: class_gradient(target.apply, p, x, None, "layer1", shape).gradient)
    found = see(target.params, jnp.asarray(pixels))
    assert np.abs(np.asarray(found) - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("name", TIMM_SIZES)
def test_sizes_of_a_state_dict_alone(name):
    """Every network of the table is known by the shapes of its tensors."""
    with torch.device("meta"):
        state = ResNet(**asdict(TIMM_SIZES[name])).state_dict()
    assert ResNetConfig.from_shapes({n: (*t.shape,) for n, t in state.items()}) == TIMM_SIZES[name]


@pytest.mark.parametrize("title", ["ResNeXt-D", "Wide ResNet"])
def test_a_state_dict_alone_and_converted(title, tmp_path):
    model, target = pair(title, tmp_path)
    torch.save(model.state_dict(), tmp_path / "network.pth")
    convert(tmp_path / "network.pth", tmp_path / "converted")
    for source in ("network.pth", "converted"):
        found = jd.load_target(tmp_path / source, preprocess=PREPROCESS)
        pairs = zip(jax.tree.leaves(found.params), jax.tree.leaves(target.params), strict=True)
        assert all(np.array_equal(x, y) for x, y in pairs)


def test_saved_again_it_is_bit_identical(tmp_path):
    pair("ResNeXt-D", tmp_path)
    save_resnet(load_resnet(tmp_path), tmp_path / "again")
    before, after = (
        load_file(folder / "model.safetensors") for folder in (tmp_path, tmp_path / "again")
    )
    counters = {name for name in before if name.endswith("num_batches_tracked")}
    assert after.keys() == before.keys() - counters
    assert all(np.array_equal(before[name], after[name]) for name in after)


def test_tensors_of_another_relative_are_refused(tmp_path):
    """A ResNet-50's config with the tensors of its D version."""
    model, _ = pair("ResNet-D", tmp_path)
    write(model, replace(TIMM_SIZES["resnet50"], num_classes=7, **SMALL), tmp_path)
    with pytest.raises(InputError, match=r"missing tensors: .*unknown tensors: conv1\.0\.weight"):
        jd.load_target(tmp_path, preprocess=PREPROCESS)


FULL = ("resnet50", "resnet50d", "resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2")


def at_full_size(name, folder):
    """The largest relative difference of any tap or logit."""
    model = relative(**asdict(TIMM_SIZES[name]))
    write(model, TIMM_SIZES[name], folder)
    target = jd.load_target(folder, preprocess=replace(PREPROCESS, size=224))
    pixels = np.random.default_rng(0).normal(size=(1, 224, 224, 3)).astype(np.float32)
    return agree(target, model, pixels)


@pytest.mark.full
@pytest.mark.parametrize("name", FULL)
def test_every_tap_equals_torch_at_full_size(name, tmp_path):
    at_full_size(name, tmp_path)
