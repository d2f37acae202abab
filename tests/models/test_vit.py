"""Vision transformers against transformers' PyTorch, at every tap; every parameter is random."""

import json
import re
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax import nnx
from PIL import Image
from safetensors.torch import load_file, save_file

import jaxdesc as jd
from jaxdesc.attention import attention_maps
from jaxdesc.errors import InputError
from jaxdesc.models.checkpoint import write_orbax
from jaxdesc.models.convert import convert
from jaxdesc.models.packaging import target_preprocess
from jaxdesc.models.taps import recorded
from jaxdesc.models.vit import interpolated, read_vit, save_vit
from jaxdesc.models.vit_config import from_entries
from jaxdesc.scenes.clip import build_tokenizer
from tests.models.torch_checkpoints import channels_first, largest_error, torch_model
from tests.models.torch_namers import unigrams

SMALL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "image_size": 24, "patch_size": 8,
}  # fmt: skip
SEVEN = {"num_labels": 7}
# Models of transformers by what they are here, with the entries of their configs.
MODELS = {
    "ViT": ("ViTForImageClassification", SEVEN),
    "ViT without a head": ("ViTModel", {}),
    "DeiT, its class token alone": ("DeiTForImageClassification", SEVEN),
    "DeiT, distilled": ("DeiTForImageClassificationWithTeacher", SEVEN),
    "DINOv2": ("Dinov2Model", {"mlp_ratio": 2}),
    "DINOv2 with a head": ("Dinov2ForImageClassification", SEVEN | {"mlp_ratio": 2}),
    "DINOv2, gated": ("Dinov2Model", {"use_swiglu_ffn": True}),
    "DINOv2 with registers": ("Dinov2WithRegistersModel", {"num_register_tokens": 3}),
    "DINOv2 with registers and a head": ("Dinov2WithRegistersForImageClassification", SEVEN),
    "CLIP's tower": ("CLIPVisionModel", {}),
    "SigLIP's tower": ("SiglipVisionModel", {}),
}
PREPROCESS = jd.Preprocess(24, 1.0, "bicubic", (0.5,) * 3, (0.5,) * 3)


def small(title):
    name, entries = MODELS[title]
    return torch_model(name, SMALL | entries)


# Modules of a block whose output we offer, by the end of its path and our name's end.
OFFERED = {
    r"layernorm_before|layer_norm1|norm1": "/norm1",
    r"attention|self_attn": "/attention",
    "": "",
}


def theirs(model, pixels, **options):
    """Every value that we offer to taps, and the logits or None, by forward hooks."""
    found = {}

    def output(name):
        def hook(module, given, out):
            found[name] = (out[0] if isinstance(out, tuple) else out).numpy()

        return hook

    def given_to(name):
        def hook(module, given):
            found[name] = given[0].numpy()

        return hook

    hooks = []
    for path, module in model.named_modules():
        place = re.fullmatch(r"(?:.*\.)?layers?\.(\d+)\.?(.*)", path)
        for pattern, end in OFFERED.items() if place else ():
            if re.fullmatch(pattern, place[2]):
                hooks.append(module.register_forward_hook(output(f"blocks.{place[1]}{end}")))
        if place and place[2] in ("mlp.fc2", "mlp.down_proj"):
            hooks.append(module.register_forward_pre_hook(given_to(f"blocks.{place[1]}/mlp")))
    with torch.inference_mode():
        out = model(channels_first(pixels), **options)
    for hook in hooks:
        hook.remove()
    if "logits" in out:
        return out.logits.numpy(), found
    if "CLIP" not in type(model).__name__:  # whose output has no norm
        found["norm"] = out.last_hidden_state.numpy()
    return None, found


def agree(target, model, pixels, **options):
    logits, values = theirs(model, pixels, **options)
    ours, found = jax.jit(lambda p, x: recorded(target.apply, p, x, target.layers))(
        target.params, pixels
    )
    wanted = set(target.layers) - {"fc"}
    assert wanted - {"norm"} <= set(values)
    assert (ours is None) == (logits is None)
    theirs_too = {name: values[name] for name in wanted & set(values)}
    theirs_too |= {} if logits is None else {"logits": logits}
    return largest_error(found | {"logits": ours}, theirs_too)


def saved(model, folder, size=24):
    model.save_pretrained(folder)
    return jd.load_target(folder, preprocess=replace(PREPROCESS, size=size))


@pytest.mark.parametrize("title", MODELS)
def test_every_tap_equals_torch(title, tmp_path, rng):
    model = small(title)
    target = saved(model, tmp_path)
    agree(target, model, rng.normal(size=(3, 24, 24, 3)).astype(np.float32))
    assert target.attention_layer == "blocks.1/norm1"
    assert target.shapes["blocks.1"] == (9 + target.prefix, 32)


@pytest.mark.parametrize(
    "title", ["ViT", "DeiT, distilled", "DINOv2", "DINOv2 with registers and a head"]
)
def test_positions_of_other_sizes_equal_torch(title, tmp_path, rng):
    """On an oblong image of more rows and fewer columns of patches."""
    model = small(title)
    options = {} if "DINO" in title else {"interpolate_pos_encoding": True}
    pixels = rng.normal(size=(1, 41, 17, 3)).astype(np.float32)
    agree(saved(model, tmp_path), model, pixels, **options)


def test_the_image_tower_of_a_whole_siglip(tmp_path, rng):
    """Its config holds the tower's in an entry, and its tensors are those of both towers."""
    text = {"vocab_size": 20, "max_position_embeddings": 8, "hidden_size": 16}
    text |= {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    model = torch_model("SiglipModel", {"vision_config": SMALL, "text_config": text})
    target = saved(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "siglip"
    agree(target, model.vision_model, rng.normal(size=(2, 24, 24, 3)).astype(np.float32))


def test_positions_of_the_same_grid_stay_as_they_are(rng):
    learned = jnp.asarray(rng.normal(size=(10, 4)), "float32")
    assert interpolated(learned, 1, 3, 3, False) is learned


@pytest.mark.parametrize("title", ["CLIP", "SigLIP"])
def test_the_image_tower_of_a_whole_network(title, tmp_path, rng):
    """Taken out of a CLIP or SigLIP, also of a converted one, it is what it is by itself."""
    tower = {"hidden_act": "quick_gelu" if title == "CLIP" else "gelu_pytorch_tanh"}
    text = {"vocab_size": 900, "max_position_embeddings": 8, "projection_size": 32}
    text |= {key: SMALL[key] for key in SMALL if "size" not in key or key == "intermediate_size"}
    entries = {"vision_config": SMALL | tower, "text_config": text | {"hidden_size": 32}}
    whole = torch_model({"CLIP": "CLIPModel", "SigLIP": "SiglipModel"}[title], entries)
    target = saved(whole, tmp_path / "whole")
    pixels = rng.normal(size=(3, 24, 24, 3)).astype(np.float32)
    agree(target, whole.vision_model, pixels)
    assert target.layers == saved(small(f"{title}'s tower"), tmp_path / "tower").layers
    tokenizer = build_tokenizer() if title == "CLIP" else unigrams()
    tokenizer.save_pretrained(tmp_path / "whole")
    convert(tmp_path / "whole", tmp_path / "out")
    assert same_weights(jd.load_target(tmp_path / "out", preprocess=PREPROCESS), target)


def test_one_that_was_converted_earlier(tmp_path):
    """Its learned tokens had leading axes."""
    target = saved(small("DINOv2 with registers"), tmp_path / "vit")
    convert(tmp_path / "vit", tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "orbax")
    arrays = {".".join(map(str, p)): x.get_value() for p, x in nnx.to_flat_state(target.params)}
    for name in ("class_token", "register_tokens", "positions"):
        arrays[name] = arrays[name].reshape(1, -1, 32)
    write_orbax(nnx.State({n: nnx.Param(x) for n, x in arrays.items()}), tmp_path / "out")
    assert same_weights(jd.load_target(tmp_path / "out", preprocess=PREPROCESS), target)


UNITS = [f"blocks.{block}{end}" for block in range(2) for end in ("", "/mlp", "/attention")]


def pooled(values, prefix, pooling):
    """One number per unit, in float64."""
    values = values.astype(np.float64)
    patches = values[:, prefix:]
    return {"mean": patches.mean(1), "max": patches.max(1), "class": values[:, 0]}[pooling]


@pytest.mark.parametrize("title", ["DINOv2 with registers", "SigLIP's tower"])
def test_units_of_every_block(title, tmp_path, rng):
    """The residual stream, the hidden units and what attention adds, in every pooling."""
    model = small(title)
    target = saved(model, tmp_path)
    low = jd.load_target(tmp_path, precision="bfloat16", preprocess=PREPROCESS)
    assert set(UNITS) < set(target.layers)
    pixels = rng.normal(size=(3, 24, 24, 3)).astype(np.float32)
    _, values = theirs(model, pixels)
    for pooling in ("mean", "max", "class"):
        if pooling == "class" and not target.prefix:
            message = r"^Layer 'blocks.1/mlp' of .* has no class token to read: choose the pooling"
            with pytest.raises(InputError, match=message):
                target.activations(pixels, "blocks.1/mlp", pooling)
            continue
        in_both = pooling == ("class" if target.prefix else "mean")
        for network, tolerance in [(target, 1e-5), (low, 0.04)][: 1 + in_both]:
            found, _ = network.activate(pixels, UNITS, pooling)
            for name in UNITS:
                wanted = pooled(values[name], target.prefix, pooling)
                assert found[name].dtype == np.float32
                error = np.abs(np.asarray(found[name]) - wanted).max() / np.abs(wanted).max()
                assert error < tolerance, (name, pooling, error)


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.full)])
def test_a_layer_is_the_same_among_others(precision, tmp_path, rng):
    """Up to rounding, whichever others are recorded; twenty images take two pieces."""
    small("ViT").save_pretrained(tmp_path)
    target = jd.load_target(tmp_path, precision=precision, preprocess=PREPROCESS)
    pixels = rng.integers(0, 256, (20, 24, 24, 3), dtype=np.uint8)
    layers = ("blocks.0/mlp", "blocks.1/attention", "fc")
    together, _ = target.activate(pixels, layers)
    rounding = {"float32": 1e-6, "bfloat16": 1e-2}[precision]
    for layer in layers:
        slack = rounding * np.abs(together[layer]).max()
        np.testing.assert_allclose(target.activations(pixels, layer), together[layer], 0, slack)


# Published checkpoints' names, which transformers 5 reads and no longer uses inside.
OLDER = {
    r"(?:encoder\.)?layers?\.(\d+)\.": r"encoder.layer.\1.",
    r"attention\.q_proj": "attention.attention.query",
    r"attention\.k_proj": "attention.attention.key",
    r"attention\.v_proj": "attention.attention.value",
    r"attention\.o_proj": "attention.output.dense",
}
OLDER_VIT = OLDER | {r"\.mlp\.fc1": ".intermediate.dense", r"\.mlp\.fc2": ".output.dense"}


def respelled(state, names):
    for pattern, name in names.items():
        state = {re.sub(pattern, name, key): tensor for key, tensor in state.items()}
    return state


def same_weights(one, other):
    pairs = zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


@pytest.mark.parametrize(
    ("title", "names"), [("ViT", OLDER_VIT), ("DeiT, distilled", OLDER_VIT), ("DINOv2", OLDER)]
)
def test_names_of_published_checkpoints(title, names, tmp_path):
    model = small(title)
    target = saved(model, tmp_path)
    for state in (respelled(model.state_dict(), names), model.state_dict()):
        save_file(state, tmp_path / "model.safetensors")
        assert same_weights(jd.load_target(tmp_path, preprocess=PREPROCESS), target)


def test_a_saved_vit_is_read_by_both(tmp_path, rng):
    labels = [f"name {index}" for index in range(7)]
    target = saved(small("ViT"), tmp_path / "theirs")
    save_vit(read_vit(tmp_path / "theirs", []), tmp_path / "ours", labels)
    found = jd.load_target(tmp_path / "ours", preprocess=PREPROCESS)
    assert same_weights(found, target)
    assert found.classes == tuple((label,) for label in labels)
    model = transformers.ViTForImageClassification.from_pretrained(tmp_path / "ours").eval()
    agree(found, model, rng.normal(size=(2, 24, 24, 3)).astype(np.float32))


def test_a_network_that_is_no_plain_vit_is_not_saved_as_one(tmp_path):
    saved(small("DINOv2 with registers and a head"), tmp_path)
    with pytest.raises(InputError, match="register_tokens"):
        save_vit(read_vit(tmp_path, []), tmp_path / "ours", [])


def test_attention_maps_of_a_vit(tmp_path, rng):
    target = saved(small("ViT"), tmp_path)
    pixels = rng.normal(size=(2, 24, 24, 3)).astype(np.float32)
    maps, _ = attention_maps(target, pixels)
    assert maps.shape == (2, 3, 3)
    with pytest.raises(InputError, match=r"class token of 'blocks.1', .* 'blocks.1/norm1'"):
        attention_maps(target, pixels, layer="blocks.1")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"model_type": "vit", "hidden_act": "relu"}, "hidden_act = 'relu'"),
        ({"model_type": "vit", "qkv_bias": False}, "qkv_bias = False"),
        ({"model_type": "vit", "architectures": ["ViTForMaskedImageModeling"]}, "architectures = "),
        ({"model_type": "vit", "hidden_size": 30, "num_attention_heads": 4}, "hidden_size = 30"),
        ({"model_type": "dinov2", "patch_size": 300}, "patch_size = 300"),
        (
            {"architecture": "vit_small_patch16_224", "model_args": {"qk_norm": True}},
            "args.qk_norm",
        ),
        ({"architecture": "vit_small_patch16_224", "global_pool": "avg"}, "global_pool = 'avg'"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(entries, message):
    with pytest.raises(InputError, match=re.escape(message)):
        from_entries(entries)


def test_a_missing_tensor_is_named(tmp_path):
    saved(small("ViT"), tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state.pop(next(n for n in state if re.search(r"1\.(mlp\.fc1|intermediate\.dense)\.bias", n)))
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"missing tensors: blocks\.1\.fc1\.bias"):
        jd.load_target(tmp_path, preprocess=PREPROCESS)


@pytest.mark.parametrize(
    ("processor", "settings", "shape"),
    [
        ("ViTImageProcessorPil", {"size": {"height": 32, "width": 32}}, (50, 50)),
        ("DeiTImageProcessorPil", {"size": {"height": 36, "width": 36}, "crop_size": 32}, (50, 50)),
        ("BitImageProcessorPil", {"size": {"shortest_edge": 36}, "crop_size": 32}, (50, 62)),
    ],
)
def test_preprocessing_equals_transformers(processor, settings, shape, tmp_path, rng):
    """ViT's and DeiT's squash an oblong image, of which ours takes the central square."""
    statistics = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "resample": 3}
    reference = getattr(transformers, processor)(**settings, **statistics)
    reference.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    preprocess = target_preprocess(tmp_path, "", notes := [])
    assert len(notes) == ("height" in settings["size"])
    image = Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
    theirs = reference(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    ours = preprocess.normalise(preprocess.cut(image, (0.5, 0.5))[0][None])[0]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


FULL = {
    "ViT-B/16": ("ViTForImageClassification", {"num_labels": 1000}),
    "DeiT-B, distilled": ("DeiTForImageClassificationWithTeacher", {"num_labels": 1000}),
    "DINOv2-B": ("Dinov2Model", {"image_size": 518, "patch_size": 14}),
    "DINOv2-B with registers": ("Dinov2WithRegistersModel", {"image_size": 518, "patch_size": 14}),
    "CLIP ViT-B/32": ("CLIPVisionModel", {}),
    "SigLIP B/16": ("SiglipVisionModel", {}),
}


def at_full_size(title, folder):
    """The largest relative difference of any tap or logit."""
    model = torch_model(*FULL[title])
    pixels = np.random.default_rng(0).normal(size=(1, 224, 224, 3)).astype(np.float32)
    return agree(saved(model, folder, size=224), model, pixels)


@pytest.mark.full
@pytest.mark.parametrize("title", FULL)
def test_every_tap_equals_torch_at_full_size(title, tmp_path):
    at_full_size(title, tmp_path)
