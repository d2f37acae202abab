"""PyTorch's networks through torchax: logits and Grad-CAM's gradients, against PyTorch itself."""

import os
import sys

import jax
import numpy as np
import pytest
import torch
import transformers
from torch import nn

import jaxdesc as jd
from jaxdesc.models.taps import class_gradient, recorded
from tests.models.bridges.families import FAMILIES, SIZE, network

PREPROCESS = jd.Preprocess(SIZE, 1.0, "bilinear", (0.5,) * 3, (0.5,) * 3)
QUICK = ("vit", "resnet")


def by_torch(model, layer, pixels):
    """Logits, a layer's value, and the gradient of the largest logit with respect to it."""
    values = []

    def keep(module, inputs, output):
        x = output[0] if isinstance(output, tuple) else output
        x.retain_grad()
        values.append(x)

    with model.get_submodule(layer).register_forward_hook(keep):
        logits = model(torch.tensor(pixels.transpose(0, 3, 1, 2))).logits
    logits.max(dim=1).values.sum().backward()
    found = [values[0].detach().numpy(), values[0].grad.numpy()]
    return logits.detach().numpy(), *(x.transpose(0, 2, 3, 1) if x.ndim == 4 else x for x in found)


def error(found, wanted):
    """Largest difference, relative to the largest value."""
    return np.abs(np.asarray(found) - wanted).max() / np.abs(wanted).max()


def compare(name):
    """Errors of a family's logits, its layer's value and the gradient there."""
    family = FAMILIES[name]
    model = network(family)
    target = jd.from_torch(model, [family.layer], PREPROCESS, prefix=family.prefix)
    pixels = np.random.default_rng(0).normal(size=(2, SIZE, SIZE, 3)).astype("f4")
    logits, value, gradient = by_torch(model, family.layer, pixels)
    shape = target.shapes[family.layer]
    if len(shape) == 2:  # as a grid, without the prefix
        side = int((shape[0] - family.prefix) ** 0.5)
        value, gradient = (
            x[:, family.prefix :].reshape(2, side, side, -1) for x in (value, gradient)
        )
    see = jax.jit(
        lambda params, pixels: class_gradient(
            target.apply, params, pixels, None, family.layer, shape, family.prefix
        )[:4]
    )
    maps, slopes, _, found = see(target.params, pixels)
    assert np.abs(gradient).max() > 0
    return error(found, logits), error(maps, value), error(slopes, gradient)


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.full) for name in FAMILIES],
)
def test_logits_maps_and_gradients_are_torch_s(name):
    assert max(compare(name)) < 1e-5


class Network(nn.Module):
    """Layers in place, called twice, of tuples, of maps whose channels are last; an odd buffer."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(True)
        self.pair, self.last, self.head = Pair(), nn.Linear(6, 6), nn.Linear(6, 5)
        self.unused, self.shift = nn.Linear(2, 2), torch.tensor([0.5])
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        x = self.relu(self.norm(self.conv(x)))
        x, _ = self.pair(x)
        x, _ = self.pair(x)
        x = self.last(x.permute(0, 2, 3, 1))
        return self.head(self.dropout(x).mean((1, 2)) + self.shift)


class Pair(nn.Module):
    def forward(self, x):
        return x * x + 0.1, "more"


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return Network()


@pytest.fixture(scope="module")
def target(module):
    layers = ["norm", "relu", "pair", "last"]
    names = [f"class {index}" for index in range(5)]
    return jd.from_torch(module, layers, PREPROCESS, names, maps_last=["last"])


def test_layers_of_every_form(module, target, rng):
    assert target.shapes == {"fc": (5,)} | dict.fromkeys(
        ("norm", "relu", "pair", "pair:2", "last"), (62, 62, 6)
    )
    pixels = rng.normal(size=(2, SIZE, SIZE, 3)).astype("f4")
    quiet = Network().eval()
    quiet.load_state_dict(module.state_dict())
    images = torch.tensor(pixels.transpose(0, 3, 1, 2))
    with torch.no_grad():
        norm = quiet.norm(quiet.conv(images))
        first = norm.relu() ** 2 + 0.1
        maps = {"norm": norm, "relu": norm.relu(), "pair": first, "pair:2": first**2 + 0.1}
        wanted = {name: x.permute(0, 2, 3, 1).numpy() for name, x in maps.items()}
        wanted["last"] = quiet.last(maps["pair:2"].permute(0, 2, 3, 1)).numpy()
        logits = quiet(images).numpy()
    found, values = recorded(target.apply, target.params, pixels, list(wanted))
    assert error(found, logits) < 1e-5
    for name, value in wanted.items():
        assert error(values[name], value) < 1e-5, name

    def silence(name, x):
        return x * 0 if name == "pair:2" else x

    changed = target.apply(target.params, pixels, silence)
    with torch.no_grad():
        blank = quiet.head(quiet.last(torch.zeros(2, 62, 62, 6)).mean((1, 2)) + quiet.shift)
    assert error(changed, blank.numpy()) < 1e-5


def test_the_module_is_untouched_and_every_array_a_parameter(module, target):
    assert module.training
    assert "ENABLE_RUNTIME_UPTIME_TELEMETRY" not in os.environ  # torchax sets it when imported
    assert module.dropout.training
    assert not any(layer._forward_hooks for layer in module.modules())
    arrays = {name.removeprefix("network.") for name in target.params}
    assert arrays == {*module.state_dict(), "shift"}
    pixels = np.zeros((1, SIZE, SIZE, 3), "f4")
    program = jax.make_jaxpr(lambda p, x: target.apply(p, x, lambda name, x: x))
    assert all(np.size(array) < 5 for array in program(target.params, pixels).consts)


def test_convolutions_have_their_channels_last(module, target, rng):
    """XLA's CPU compiler has only slow code for others within a loop."""
    pixels = rng.normal(size=(2, SIZE, SIZE, 3)).astype("f4")
    lowered = jax.jit(lambda params, pixels: target.apply(params, pixels, lambda _, x: x))
    convolutions = lowered.lower(target.params, pixels).as_text().split("stablehlo.convolution")[1:]
    forms = {text.split("dim_numbers = ")[1][:40] for text in convolutions}
    assert forms == {"[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f],"}


@pytest.mark.parametrize(
    ("groups", "options"),
    [
        (1, {"padding": "valid"}),
        (6, {"padding": "valid", "stride": 2}),
        (6, {"padding": "same", "dilation": 2, "bias": False}),
        (6, {"padding": (2, 1), "stride": (1, 2)}),
        (3, {"padding": 1}),
    ],
)
def test_convolutions_of_every_form(groups, options, rng):
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 6, (3, 5), groups=groups, **options)
    network = nn.Sequential(nn.Conv2d(3, 6, 1), layer)
    target = jd.from_torch(network, ["1"], PREPROCESS, classes=None)
    pixels = rng.normal(size=(2, SIZE, SIZE, 3)).astype("f4")
    with torch.no_grad():
        wanted = network(torch.tensor(pixels.transpose(0, 3, 1, 2))).numpy()
    found = target.activations(pixels, "1", "max")
    assert error(found, wanted.max(axis=(2, 3))) < 1e-5


def test_features_are_no_logits(rng):
    class Features(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 8, 8)

        def forward(self, x):
            return self.conv(x)

    target = jd.from_torch(Features(), ["conv"], PREPROCESS)
    assert target.shapes == {"conv": (8, 8, 4)}
    pixels = rng.normal(size=(2, SIZE, SIZE, 3)).astype("f4")
    assert target.activations(pixels, "conv").shape == (2, 4)


def test_a_layer_that_does_not_exist_is_refused_with_names_near_it(module):
    with pytest.raises(jd.InputError, match=r"no layer 'pairs'.*pair"):
        jd.from_torch(module, ["pairs"], PREPROCESS)
    with pytest.raises(jd.InputError, match="'unused' but does not call it"):
        jd.from_torch(module, ["norm", "unused"], PREPROCESS)


def test_without_torchax_the_sentence_says_what_to_install(module, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchax", None)
    with pytest.raises(jd.InputError, match=r"pip install 'jaxdesc\[torch-target\]'"):
        jd.from_torch(module, [], PREPROCESS)


class Remembers(nn.Module):
    """A cache of a layer, as LeViT's attention has one of its biases."""

    def __init__(self):
        super().__init__()
        self.inner, self.head, self.calls = nn.Conv2d(3, 4, 8, 8), nn.Linear(4, 2), 0
        self.inner.cache = {}

    def forward(self, x):
        self.calls += 1  # a number in Python does no harm
        if "weight" not in self.inner.cache:
            self.inner.cache["weight"] = self.head.weight * 2
        return self.inner(x).mean((2, 3)) @ self.inner.cache["weight"].T


class Branches(nn.Module):
    def __init__(self, decide):
        super().__init__()
        self.conv, self.decide = nn.Conv2d(3, 4, 8, 8), decide

    def forward(self, x):
        x = self.conv(x).mean((2, 3))
        return 2 * x if self.decide(x) else x


def test_a_network_that_keeps_tensors_is_refused_and_the_tensor_named():
    with pytest.raises(jd.InputError, match=r"^Remembers keeps a tensor .* in inner\.cache, which"):
        jd.from_torch(Remembers(), ["inner"], PREPROCESS)


@pytest.mark.full
def test_levit_is_refused():
    sizes = {"image_size": SIZE, "hidden_sizes": [16, 24, 32], "key_dim": [8, 8, 8]}
    heads = {"num_attention_heads": [2, 3, 4], "depths": [1, 1, 1]}
    config = transformers.LevitConfig(**sizes, **heads)
    model = transformers.LevitForImageClassification(config)
    with pytest.raises(jd.InputError, match=r"keeps a tensor .* in levit\..*attention_bias_cache,"):
        jd.from_torch(model, ["levit.encoder.stages.0"], PREPROCESS)


@pytest.mark.parametrize(
    "decide", [lambda x: x.sum() > 0, lambda x: x[0, 0].item(), lambda x: x.numpy().any()]
)
def test_a_network_that_branches_on_values_is_refused(decide):
    with pytest.raises(jd.InputError, match=r"^Branches needs the values of an array in Python \("):
        jd.from_torch(Branches(decide), ["conv"], PREPROCESS)
