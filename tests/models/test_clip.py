from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax import nnx
from safetensors.numpy import load_file

from jaxdesc.errors import InputError
from jaxdesc.models.checkpoint import abstract, assign, tensors_of
from jaxdesc.models.clip import CLIP, HUGGING_FACE_CLIP, load_clip_model
from jaxdesc.models.clip_config import CLIPConfig, TextConfig
from tests.models.torch_checkpoints import (
    SMALL_TEXT,
    SMALL_VISION,
    channels_first,
    small_torch_clip,
    torch_clip,
    unit,
)

# Two texts: an end-of-text token that the padding repeats, and padding with another id. The
# first text holds a larger id than its end-of-text token if that is 90 or 2.
TEXTS = np.array([[98, 7, 95, 90, 2, 99, 99, 99], [98, 90, 2, 99, 1, 1, 1, 1]])


def ported(reference):
    """Our network with the reference's weights, by the loader's table but without its files."""
    config = CLIPConfig.from_huggingface(reference.config.to_dict())
    tensors = {name: tensor.numpy() for name, tensor in reference.state_dict().items()}
    return assign(abstract(CLIP, config), tensors, HUGGING_FACE_CLIP, "memory")


@nnx.jit
def states(tower, inputs):
    """The tokens before the first layer and after every layer."""
    found = [tower.embed(inputs)]
    for layer in getattr(tower, "blocks", None) or tower.layers:
        found.append(layer(found[-1]))
    return found


@nnx.jit
def encode(model, pixels, ids):
    return model.encode_images(pixels), model.encode_texts(ids)


def layers_agree(model, pixels, ids, vision, text):
    """Tokens before the first layer and after every one, relative to each one's largest value."""
    for ours, theirs in (
        (states(model.vision, jnp.asarray(pixels)), vision),
        (states(model.text, jnp.asarray(ids)), text),
    ):
        assert len(ours) == len(theirs)
        for index, (x, y) in enumerate(zip(ours, theirs, strict=True)):
            assert np.abs(np.asarray(x) - y).max() < 1e-5 * np.abs(y).max(), index


def agree(model, reference, pixels, ids, tolerance=1e-5):
    """Unit features equal PyTorch's, and are far from constant."""
    with torch.inference_mode():
        image = reference.get_image_features(channels_first(pixels)).pooler_output
        text = reference.get_text_features(torch.from_numpy(ids)).pooler_output
    ours = encode(model, jnp.asarray(pixels), jnp.asarray(ids))
    for features, theirs in zip(ours, (unit(image).numpy(), unit(text).numpy()), strict=True):
        np.testing.assert_allclose(features, theirs, rtol=0, atol=tolerance)
        assert np.abs(theirs[0] - theirs[1]).max() > 1e-2


def images(rng, size):
    return rng.normal(size=(2, size, size, 3)).astype(np.float32)


def tower(width, heads, layers, **options):
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
    return sizes | {"num_attention_heads": heads} | options


SIZES = {
    "B/32": ({}, {"eos_token_id": 2}, 512),
    # LAION's: the exact GELU, and ids that its configs took from CLIPTextConfig's old defaults.
    "LAION B/16": (
        {"patch_size": 16, "hidden_act": "gelu"},
        {"hidden_act": "gelu", "eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1},
        512,
    ),
    # Real widths and heads; of its 24 and 12 layers only 3 and 2, for time.
    "L/14": (tower(1024, 16, 3, patch_size=14), tower(768, 12, 2), 768),
}


@pytest.mark.full
@pytest.mark.parametrize("size", SIZES)
def test_full_size_features_equal_torch_layer_by_layer(rng, size):
    vision, text, dimension = SIZES[size]
    reference = torch_clip(vision, text, projection_dim=dimension)
    ids = np.array([[49406, 320, 1125, 539, 320, 2368, 49407], [49406, 1929, *[49407] * 5]])
    model, pixels = ported(reference), images(rng, 224)
    agree(model, reference, pixels, ids)
    with torch.inference_mode():
        vision = reference.vision_model(channels_first(pixels), output_hidden_states=True)
        text = reference.text_model(torch.from_numpy(ids), output_hidden_states=True)
    wanted = ([state.numpy() for state in out.hidden_states] for out in (vision, text))
    layers_agree(model, pixels, ids, *wanted)


FLAX = Path(__file__).parent / "data" / "flax_clip"


@pytest.mark.full
def test_hugging_face_s_flax_checkpoint_gives_its_outputs():
    """Files and outputs are those of transformers 4.57.6; see record_flax_clip.py."""
    recorded = load_file(FLAX / "outputs.safetensors")
    pixels, ids = recorded["pixels"], recorded["ids"]
    model = load_clip_model(FLAX)
    assert not (FLAX / "model.safetensors").exists()
    features = encode(model, jnp.asarray(pixels), jnp.asarray(ids))
    for ours, name in zip(features, ("images", "texts"), strict=True):
        np.testing.assert_allclose(ours, recorded[name], rtol=0, atol=1e-5)
        assert np.abs(recorded[name][0] - recorded[name][1]).max() > 1e-2
    vision = [recorded[f"vision.{i}"] for i in range(4)]
    layers_agree(model, pixels, ids, vision, [recorded[f"text.{i}"] for i in range(3)])


@pytest.mark.parametrize(
    ("vision", "text"),
    [
        ({"hidden_act": "gelu", "layer_norm_eps": 1e-2}, {"layer_norm_eps": 3e-2}),
        ({"layer_norm_eps": 0.5}, {"eos_token_id": 90}),
        ({}, {"eos_token_id": 2}),
    ],
    ids=["gelu and epsilons", "new end token", "legacy end token"],
)
def test_small_features_equal_torch(rng, vision, text):
    reference = small_torch_clip(vision, text)
    agree(ported(reference), reference, images(rng, 24), TEXTS)


def test_tokens_far_from_zero_equal_torch(rng):
    """A LayerNorm that computes its variance as E[x²] − E[x]² has no digits left here."""
    reference = small_torch_clip()
    with torch.no_grad():
        reference.vision_model.embeddings.position_embedding.weight += 30
        reference.text_model.embeddings.position_embedding.weight += 30
    # A float32 at 30 is rounded by 1e-6; dividing by the tokens' deviation of 0.2 enlarges that.
    agree(ported(reference), reference, images(rng, 24), TEXTS, tolerance=5e-5)


SMALL = {
    "vision_config": SMALL_VISION,
    "text_config": SMALL_TEXT | {"hidden_size": SMALL_VISION["hidden_size"]},
    "projection_dim": 16,
}


@pytest.fixture(scope="module")
def small_model():
    return nnx.jit(lambda: CLIP(CLIPConfig.from_huggingface(SMALL), rngs=nnx.Rngs(0)))()


@pytest.mark.full
def test_initial_weights_have_hugging_face_s_deviations(small_model):
    """Compared tensor by tensor; a short vector's deviation is itself uncertain."""
    torch.manual_seed(0)
    reference = transformers.CLIPModel(transformers.CLIPConfig(**SMALL))
    ours = tensors_of(small_model, HUGGING_FACE_CLIP)
    for name, tensor in reference.state_dict().items():
        spread = 0.1 if tensor.numel() > 1000 else 0.4
        assert ours[name].std() == pytest.approx(tensor.numpy().std(), rel=spread), name


def test_absent_entries_take_hugging_face_s_defaults():
    written = transformers.CLIPConfig().to_dict()
    assert CLIPConfig.from_huggingface({}) == CLIPConfig.from_huggingface(written) == CLIPConfig()


def test_config_entries_round_trip(small_model):
    entries = small_model.config.to_huggingface()
    assert CLIPConfig.from_huggingface(entries) == small_model.config


def test_old_config_dicts_overrule_as_in_hugging_face():
    entries = {
        "text_config": {"hidden_act": "gelu", "eos_token_id": 2},
        "text_config_dict": {"hidden_size": 768, "num_attention_heads": 12},
        "vision_config": {"patch_size": 14},
        "vision_config_dict": None,
    }
    # Hugging Face writes into the dictionaries that it is given.
    theirs = transformers.CLIPConfig(**deepcopy(entries)).to_dict()
    ours = CLIPConfig.from_huggingface(entries)
    assert ours == CLIPConfig.from_huggingface(theirs)
    assert ours.text == TextConfig(hidden_size=768, num_attention_heads=12)
    assert ours.vision == replace(CLIPConfig().vision, patch_size=14)


def test_other_images_and_too_long_texts_are_refused(small_model):
    with pytest.raises(InputError, match=r"32 × 24 pixels.*image_size 24"):
        small_model.encode_images(jnp.zeros((1, 32, 24, 3)))
    with pytest.raises(InputError, match=r"13 tokens.*max_position_embeddings 12"):
        small_model.encode_texts(jnp.zeros((1, 13), int))
