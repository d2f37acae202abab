"""Checkpoints under timm's names, of networks that are written as timm defines them."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import jaxdesc as jd
from jaxdesc.models import convnext, vit_config
from jaxdesc.models.taps import recorded
from tests.models.torch_checkpoints import channels_first, largest_error, randomised
from tests.models.torch_timm import ConvNeXt, VisionTransformer

PREPROCESS = jd.Preprocess(32, 1.0, "bicubic", (0.5,) * 3, (0.5,) * 3)
VIT = {"width": 24, "depth": 2, "heads": 4, "inner": 32, "side": 32, "patch": 8}
SIZES = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip
DINO = {"scaled": True, "classes": 0}
CONVNEXT = {"widths": (8, 12, 16, 20), "depths": (1, 2, 1, 1)}
# By timm's name, the network in PyTorch, and our small sizes in the place of the real ones.
NETWORKS = {
    "vit_base_patch16_224": (VisionTransformer, VIT | {"classes": 7}),
    "deit_base_patch16_224": (VisionTransformer, VIT | {"classes": 7}),
    "deit_base_distilled_patch16_224": (VisionTransformer, VIT | {"classes": 7, "distilled": True}),
    "vit_base_patch14_dinov2": (VisionTransformer, VIT | DINO),
    "vit_base_patch14_reg4_dinov2": (VisionTransformer, VIT | DINO | {"registers": 4}),
    "convnext_tiny": (ConvNeXt, CONVNEXT | {"classes": 7}),
    "convnextv2_tiny": (ConvNeXt, CONVNEXT | {"classes": 7, "second": True}),
}
TABLES = {VisionTransformer: vit_config.TIMM_SIZES, ConvNeXt: convnext.TIMM_SIZES}


def shrunk(name, patch):
    """Put small sizes in the place of a name's; what else the name says stays."""
    kind, _ = NETWORKS[name]
    small = SIZES
    if kind is ConvNeXt:
        small = {"hidden_sizes": CONVNEXT["widths"], "depths": CONVNEXT["depths"]}
    patch.setitem(TABLES[kind], name, replace(TABLES[kind][name], **small))


def written(model, name, classes, folder):
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {"architecture": f"{name}.tag_in1k", "num_classes": classes}
    (folder / "config.json").write_text(json.dumps(config))
    return jd.load_target(folder, preprocess=PREPROCESS)


def agree(target, model, pixels):
    """Every value that is offered and the logits, relative to each one's largest value."""
    with torch.inference_mode():
        logits, values = model(channels_first(pixels))
    ours, found = jax.jit(lambda p, x: recorded(target.apply, p, x, target.layers))(
        target.params, pixels
    )
    assert set(values) == set(found) == set(target.layers) - {"fc"}
    assert (ours is None) == (logits is None)
    wanted = values | ({} if logits is None else {"logits": logits})
    largest_error(found | {"logits": ours}, {name: x.numpy() for name, x in wanted.items()})


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tap_equals_torch(name, tmp_path, rng, monkeypatch):
    shrunk(name, monkeypatch)
    kind, sizes = NETWORKS[name]
    model = randomised(kind(**sizes))
    target = written(model, name, sizes["classes"], tmp_path)
    agree(target, model, rng.normal(size=(2, 32, 32, 3)).astype(np.float32))


REAL = {
    "vit_small_patch16_224": {"width": 384, "heads": 6, "side": 224, "patch": 16, "classes": 1000},
    "vit_small_patch14_reg4_dinov2": DINO
    | {"width": 384, "heads": 6, "side": 518, "patch": 14, "registers": 4},
    "convnext_tiny": {"widths": (96, 192, 384, 768), "depths": (3, 3, 9, 3), "classes": 1000},
    "convnextv2_tiny": {
        **{"widths": (96, 192, 384, 768), "depths": (3, 3, 9, 3), "classes": 1000, "second": True}
    },
}


@pytest.mark.full
@pytest.mark.parametrize("name", REAL)
def test_every_tap_equals_torch_at_full_size(name, tmp_path, rng):
    sizes = REAL[name]
    if "width" in sizes:
        model = VisionTransformer(**sizes, depth=12, inner=4 * sizes["width"])
    else:
        model = ConvNeXt(**sizes)
    side = sizes.get("side", 224)
    target = written(randomised(model), name, sizes["classes"], tmp_path)
    agree(target, model, rng.normal(size=(1, side, side, 3)).astype(np.float32))
