"""open_clip's packaging, written from transformers' CLIPModel by the known names of its tensors."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxdesc as jd
from jaxdesc.models.checkpoint import abstract, assign
from jaxdesc.models.clip import CLIP
from jaxdesc.models.convert import convert
from jaxdesc.models.open_clip import TABLE, from_open_clip, respelled
from jaxdesc.scenes.clip import build_tokenizer
from tests.models.test_clip import encode
from tests.models.torch_checkpoints import channels_first, torch_clip, unit
from tests.models.torch_namers import open_clip_tensors, write_open_clip

TEXTS = ["a star", "A photo of a moth", "red"]


def agree(namer, reference, rng):
    pixels = rng.normal(size=(3, 24, 24, 3)).astype(np.float32)
    ids = build_tokenizer()(TEXTS, padding="max_length", max_length=12)["input_ids"]
    with torch.inference_mode():
        images = reference.get_image_features(channels_first(pixels)).pooler_output
        texts = reference.get_text_features(torch.tensor(ids)).pooler_output
    np.testing.assert_allclose(namer.encode_images(pixels), unit(images), rtol=0, atol=1e-5)
    np.testing.assert_allclose(namer.encode_texts(TEXTS), unit(texts), rtol=0, atol=1e-5)
    assert np.abs(unit(texts)[0] - unit(texts)[1]).max() > 1e-2


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_features_equal_torch(quick_gelu, tmp_path, rng):
    reference = write_open_clip(tmp_path, quick_gelu=quick_gelu)
    namer = jd.load_namer(tmp_path)
    agree(namer, reference, rng)
    assert namer.preprocess == jd.Preprocess(24, 1.0, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert namer.notes == ()
    assert namer.logit_bias is None
    assert namer.logit_scale == pytest.approx(reference.logit_scale.exp().item())


def test_pytorch_s_file_and_timm_s_tower_beside_it(tmp_path, rng):
    """As timm publishes CLIPs: its image tower has its config and weights too."""
    reference = write_open_clip(tmp_path)
    (tmp_path / "open_clip_model.safetensors").unlink()
    torch.save(open_clip_tensors(reference), tmp_path / "open_clip_pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit_base_patch32_clip_224"}))
    (tmp_path / "model.safetensors").write_bytes(b"timm's")
    agree(jd.load_clip(tmp_path), reference, rng)


def test_hugging_face_s_form_is_preferred(networks, tmp_path):
    folder = shutil.copytree(networks.clip, tmp_path / "clip")
    write_open_clip(folder, tokenizer=False)
    assert jd.load_namer(folder).fingerprint == jd.load_namer(networks.clip).fingerprint


def test_a_converted_one_is_the_same(tmp_path):
    write_open_clip(tmp_path / "clip", resize_mode="squash", interpolation="bilinear")
    convert(tmp_path / "clip", tmp_path / "out")
    before, after = (jd.load_namer(tmp_path / name) for name in ("clip", "out"))
    assert before.fingerprint == after.fingerprint
    assert before.preprocess.interpolation == "bilinear"
    assert "squashes images to a square" in before.notes[0]


@pytest.mark.full
def test_full_size_features_equal_torch(rng):
    """ViT-B/32, as laion/CLIP-ViT-B-32-laion2B-s34B-b79K has it."""
    exact = {"hidden_act": "gelu"}
    reference = torch_clip(exact, exact | {"eos_token_id": 2}, projection_dim=512)
    entries = {"embed_dim": 512, "vision_cfg": {"patch_size": 32}, "text_cfg": {}}
    shapes = abstract(CLIP, from_open_clip({"model_cfg": entries}))
    tensors = {name: tensor.numpy() for name, tensor in open_clip_tensors(reference).items()}
    model = assign(shapes, respelled(tensors), TABLE, "memory")
    pixels = rng.normal(size=(2, 224, 224, 3)).astype(np.float32)
    ids = np.array([[49406, 320, 1125, 539, 320, 2368, 49407], [49406, 1929, *[49407] * 5]])
    with torch.inference_mode():
        images = reference.get_image_features(channels_first(pixels)).pooler_output
        texts = reference.get_text_features(torch.from_numpy(ids)).pooler_output
    found = encode(model, jnp.asarray(pixels), jnp.asarray(ids))
    for ours, theirs in zip(found, (unit(images), unit(texts)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
        assert np.abs(theirs[0] - theirs[1]).max() > 1e-2
