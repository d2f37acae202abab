import json

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax import nnx
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as torch_tensors
from safetensors.torch import save_file as save_torch_file

from jaxdesc.errors import InputError
from jaxdesc.models.checkpoint import Table, assign
from jaxdesc.models.clip import load_clip_model, save_clip_model
from jaxdesc.models.resnet import fold_batch_norm, load_resnet, save_resnet
from jaxdesc.models.resnet_config import ResNetConfig
from jaxdesc.models.tensors import read_tensors
from tests.models.test_clip import encode
from tests.models.torch_checkpoints import save_torch_resnet, small_torch_clip, torch_resnet

TINY = ResNetConfig("bottleneck", (1, 1, 1, 1), (8, 8, 8, 8), 8, 4)


@pytest.fixture
def resnet_folder(tmp_path):
    reference = torch_resnet("bottleneck", TINY.layers, TINY.channels, TINY.stem_width, 4)
    save_torch_resnet(reference, tmp_path, TINY.to_timm())
    return tmp_path


@pytest.fixture
def clip_folder(tmp_path):
    small_torch_clip().save_pretrained(tmp_path)
    return tmp_path


def test_a_saved_clip_is_hugging_face_s(clip_folder, tmp_path):
    """Trained on a little: what is written is the model in memory, not the file it came from."""
    model = load_clip_model(clip_folder)
    model.logit_scale[...] = jnp.float32(1.5)
    model.text.layers[1].self_attn.q_proj.kernel[...] *= 2
    save_clip_model(model, tmp_path / "new" / "folder")
    reference, report = transformers.CLIPModel.from_pretrained(
        tmp_path / "new" / "folder", output_loading_info=True
    )
    assert not any(report.values())
    pixels, ids = torch.randn(2, 24, 24, 3), torch.tensor([[98, 5, 99], [98, 99, 99]])
    with torch.inference_mode():
        theirs = reference(ids, pixels.permute(0, 3, 1, 2))
    images, texts = encode(model, jnp.asarray(pixels), jnp.asarray(ids))
    np.testing.assert_allclose(images, theirs.image_embeds.numpy(), atol=1e-5)
    np.testing.assert_allclose(texts, theirs.text_embeds.numpy(), atol=1e-5)
    assert reference.logit_scale.item() == 1.5


def test_a_resnet_saved_again_is_bit_identical(resnet_folder, tmp_path):
    before = load_file(resnet_folder / "model.safetensors")
    extra = {"pretrained_cfg": {"mean": [0.5, 0.5, 0.5]}, "num_classes": 7}
    save_resnet(load_resnet(resnet_folder), tmp_path / "again", extra)
    after = load_file(tmp_path / "again" / "model.safetensors")
    counters = {name for name in before if name.endswith("num_batches_tracked")}
    assert after.keys() == before.keys() - counters
    assert all(np.array_equal(before[name], after[name]) for name in after)
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert config["pretrained_cfg"] == extra["pretrained_cfg"]
    assert config["num_classes"] == 4


def test_names_that_a_table_matches_twice_or_not_at_all():
    model = nnx.eval_shape(lambda: nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    table = Table({"kernel": "w", "bias": "w", "k.*": "v"})
    with pytest.raises(InputError, match="doubly matched: kernel, w; missing tensors: v, w"):
        assign(model, {}, table, "folder")
    # Patterns match whole names only.
    table = Table({"kern": "w", "bias": "b"}, ignored="b")
    with pytest.raises(InputError, match="without a tensor: kernel; unknown tensors: bb"):
        assign(model, {"b": np.zeros(3), "bb": np.zeros(3)}, table, "folder")


def test_half_precision_files_become_float32(resnet_folder):
    file = resnet_folder / "model.safetensors"
    state = {name: tensor.bfloat16() for name, tensor in torch_tensors(file).items()}
    save_torch_file(state, file)
    kernel = load_resnet(resnet_folder).fc.kernel[...]
    assert kernel.dtype == jnp.float32
    np.testing.assert_array_equal(kernel, state["fc.weight"].float().numpy().T)


def test_a_folded_resnet_is_not_saved(resnet_folder, tmp_path):
    folded = fold_batch_norm(load_resnet(resnet_folder))
    with pytest.raises(
        InputError, match=r"without a tensor: conv1.conv.bias, .*the one with Batch"
    ):
        save_resnet(folded, tmp_path / "folded")
    assert not (tmp_path / "folded").exists()


def test_a_prefix_is_left_out_if_all_names_have_it(clip_folder):
    tensors = load_file(clip_folder / "model.safetensors")
    prefixed = {f"module.{name}": tensor for name, tensor in tensors.items()}
    save_file(prefixed, clip_folder / "model.safetensors")
    load_clip_model(clip_folder, notes := [])
    assert "The prefix 'module.' of the tensors' names" in notes[0]
    tensors["module.logit_scale"] = tensors.pop("logit_scale")
    save_file(tensors, clip_folder / "model.safetensors")
    with pytest.raises(InputError, match=r"unknown tensors: module\.logit_scale;"):
        load_clip_model(clip_folder)


@pytest.fixture
def shards(tmp_path):
    """A CLIP in several files with an index, as Hugging Face writes large ones."""
    folder = tmp_path / "shards"
    small_torch_clip().save_pretrained(folder, max_shard_size="60kB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    assert not (folder / "model.safetensors").exists()
    return folder


def test_shards_are_one_checkpoint(shards, clip_folder):
    """Each tensor is read when it is asked for, and none is held."""
    whole, parts = read_tensors(clip_folder), read_tensors(shards)
    assert whole.keys() == parts.keys()
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)
    name = next(iter(parts))
    assert parts[name] is not parts[name]
    with pytest.raises(KeyError):
        parts["no such tensor"]
    load_clip_model(shards)


def test_a_tensor_in_two_shards_is_named(shards):
    first, second = sorted(shards.glob("model-*.safetensors"))[:2]
    tensors = load_file(first)
    name = min(tensors)
    save_file(load_file(second) | {name: tensors[name]}, second)
    with pytest.raises(InputError, match=f"several files that hold the same tensors: {name};"):
        load_clip_model(shards)


def test_safetensors_are_read_before_msgpack(clip_folder):
    (clip_folder / "flax_model.msgpack").write_bytes(b"\x81")
    load_clip_model(clip_folder)
