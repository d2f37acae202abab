"""ConvNeXt, V1 and V2, against transformers' PyTorch at every tap; every parameter is random."""

import re

import jax
import numpy as np
import pytest
import torch

import jaxdesc as jd
from jaxdesc.errors import InputError
from jaxdesc.models.convnext import ConvNextConfig
from jaxdesc.models.taps import recorded
from tests.models.torch_checkpoints import channels_first, largest_error, torch_model

SMALL = {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 2, 1, 1], "num_labels": 7}
MODELS = (
    *("ConvNextForImageClassification", "ConvNextV2ForImageClassification"),
    *("ConvNextModel", "ConvNextV2Model"),
)
PREPROCESS = jd.Preprocess(64, 1.0, "bicubic", (0.5,) * 3, (0.5,) * 3)


def saved(model, folder):
    model.save_pretrained(folder)
    return jd.load_target(folder, preprocess=PREPROCESS)


def theirs(model, pixels):
    found = {}

    def output(name):
        return lambda module, given, out: found.update({name: channels_last(out)})

    def hidden(name):
        return lambda module, given: found.update({f"{name}/mlp": given[0].numpy()})

    for path, module in model.named_modules():
        place = re.fullmatch(r"(?:.*\.)?stages\.(\d+)(?:\.layers\.(\d+)(\.pwconv2)?)?", path)
        if not place:
            continue
        name = f"stages.{place[1]}" + (f".blocks.{place[2]}" if place[2] else "")
        if place[3]:
            module.register_forward_pre_hook(hidden(name))
        else:
            module.register_forward_hook(output(name))
    with torch.inference_mode():
        out = model(channels_first(pixels))
    return out.get("logits"), found


def channels_last(grid):
    return grid.permute(0, 2, 3, 1).numpy()


def agree(target, model, pixels):
    logits, values = theirs(model, pixels)
    ours, found = jax.jit(lambda p, x: recorded(target.apply, p, x, target.layers))(
        target.params, pixels
    )
    assert set(values) == set(found) == set(target.layers) - {"fc"}
    assert (ours is None) == (logits is None)
    values |= {} if logits is None else {"logits": logits.numpy()}
    return largest_error(found | {"logits": ours}, values)


@pytest.mark.parametrize("name", MODELS)
def test_every_tap_equals_torch(name, tmp_path, rng):
    model = torch_model(name, SMALL)
    target = saved(model, tmp_path)
    agree(target, model, rng.normal(size=(2, 64, 96, 3)).astype(np.float32))
    assert target.attention_layer == "stages.3"


FULL = {"ConvNeXt-T": MODELS[0], "ConvNeXt V2-T": MODELS[1]}


def at_full_size(title, folder):
    """The largest relative difference of any tap or logit."""
    model = torch_model(FULL[title], {"num_labels": 1000})
    pixels = np.random.default_rng(0).normal(size=(1, 224, 224, 3)).astype(np.float32)
    return agree(saved(model, folder), model, pixels)


@pytest.mark.full
@pytest.mark.parametrize("title", FULL)
def test_every_tap_equals_torch_at_full_size(title, tmp_path):
    at_full_size(title, tmp_path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"model_type": "convnext", "hidden_act": "relu"}, "hidden_act = 'relu'"),
        ({"model_type": "convnext", "depths": [1, 2]}, "depths = [1, 2]"),
        ({"model_type": "convnext", "architectures": ["ConvNextBackbone"]}, "architectures = "),
        ({"architecture": "convnext_tiny", "model_args": {"ls_init_value": None}}, "model_args = "),
        ({"architecture": "convnext_tiny_hnf"}, "architecture = 'convnext_tiny_hnf'"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(entries, message):
    with pytest.raises(InputError, match=re.escape(message)):
        ConvNextConfig.from_entries(entries)
