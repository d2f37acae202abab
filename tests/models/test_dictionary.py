"""Dictionaries: files as their libraries write them, and the latents as a layer of a target."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import jaxdesc as jd
from jaxdesc.models.dictionary import ACTIVATIONS, Coding, Dictionary, _among_largest
from jaxdesc.models.taps import Asking, asks, class_gradient, recorded
from tests import plain_target
from tests.reference import dictionaries as originals

WIDTH, LATENTS, K = 24, 96, 5


def save_torch(module, folder, name="weights.pt"):
    torch.save(module.state_dict(), folder / name)


def saev(module, folder):
    with (folder / "sae.pt").open("wb") as file:
        file.write(json.dumps(module.header()).encode() + b"\n")
        torch.save(module.state_dict(), file)


def sae_lens(module, folder):
    kinds = {"standard": {"activation_fn": "relu"}, "topk": {"k": K}, "jumprelu": {}}
    config = {"architecture": module.kind, "apply_b_dec_to_input": module.subtracts}
    config |= {"normalize_activations": "none", **kinds[module.kind]}
    (folder / "cfg.json").write_text(json.dumps(config))
    tensors = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    save_file(tensors, folder / "sae_weights.safetensors")


def prisma(module, folder):
    config = {
        "hook_point_layer": 9,
        "architecture": "standard",
        "normalize_activations": "layer_norm",
    }
    config |= {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": module.k}}
    if not module.k:
        config |= {"activation_fn_str": "relu", "activation_fn_kwargs": {}}
    (folder / "config.json").write_text(json.dumps(config))
    save_torch(module, folder)


def dictionary_learning(module, folder):
    config = {"trainer": {"dict_class": module.kind, "k": K}, "buffer": {}}
    (folder / "config.json").write_text(json.dumps(config))
    save_torch(module, folder, "ae.pt")


# An original, how it is saved, and what has to be stated.
CASES = {
    "saev relu": (originals.Saev(WIDTH, LATENTS, "Relu"), saev, {"subtract_b_dec": False}),
    "saev top-k": (originals.Saev(WIDTH, LATENTS, "TopK", K), saev, {"subtract_b_dec": False}),
    "saev top-k, few": (originals.Saev(WIDTH, 8, "TopK", 7), saev, {"subtract_b_dec": False}),
    "saev batch-top-k": (
        originals.Saev(WIDTH, LATENTS, "BatchTopK", K),
        saev,
        {"subtract_b_dec": False},
    ),
    "saev matryoshka": (
        originals.Saev(WIDTH, LATENTS, "Relu", subtracts=True),
        saev,
        {"subtract_b_dec": True},
    ),
    "prisma relu": (originals.Prisma(WIDTH, LATENTS), prisma, {}),
    "prisma top-k": (originals.Prisma(WIDTH, LATENTS, K), prisma, {}),
    "sae_lens": (originals.SAELens(WIDTH, LATENTS, True), sae_lens, {}),
    "sae_lens, not subtracting": (originals.SAELens(WIDTH, LATENTS, False), sae_lens, {}),
    "sae_lens top-k": (originals.SAELens(WIDTH, LATENTS, True, "topk", K), sae_lens, {}),
    "sae_lens jump-relu": (originals.SAELens(WIDTH, LATENTS, False, "jumprelu"), sae_lens, {}),
    **{
        f"dictionary_learning {kind}": (
            originals.DictionaryLearning(WIDTH, LATENTS, kind, K),
            dictionary_learning,
            {},
        )
        for kind in ("AutoEncoder", "AutoEncoderTopK", "BatchTopKSAE")
    },
    "bare state dict": (
        originals.DictionaryLearning(WIDTH, LATENTS, "AutoEncoder"),
        save_torch,
        {"activation": "relu", "subtract_b_dec": True},
    ),
    "overcomplete": (
        originals.Overcomplete(WIDTH, LATENTS, K),
        save_torch,
        {"activation": "top_k", "k": K},
    ),
    "overcomplete, normalised": (
        originals.Overcomplete(WIDTH, LATENTS, K, normalised=True),
        save_torch,
        {"activation": "top_k", "k": K},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_latents_are_the_original_s(name, tmp_path):
    module, save, stated = CASES[name]
    originals.filled(module)
    if name.endswith("normalised"):
        module.encoder.final_block[1].running_var.abs_().add_(0.1)
    save(module, tmp_path)
    found = jd.load_dictionary(tmp_path, **stated)
    x = 3 * np.random.default_rng(0).normal(size=(40, WIDTH)).astype(np.float32) + 1
    with torch.no_grad():
        expected = module.encode(torch.from_numpy(x)).numpy()
    assert 0 < (expected != 0).mean() < 0.9
    np.testing.assert_allclose(found.encode(x), expected, rtol=1e-5, atol=1e-5)
    assert found.latents == expected.shape[1]
    # Saved as we write it, it says everything.
    found.save(tmp_path / "own.safetensors")
    again = jd.load_dictionary(tmp_path / "own.safetensors")
    assert again.coding == found.coding
    np.testing.assert_array_equal(again.encode(x), found.encode(x))


def test_what_a_file_does_not_say_is_asked_for(tmp_path):
    module = originals.filled(originals.Saev(WIDTH, LATENTS, "TopK", K))
    saev(module, tmp_path)
    with pytest.raises(jd.InputError, match="subtract_b_dec=True"):
        jd.load_dictionary(tmp_path / "sae.pt")
    with torch.no_grad():
        module.b_dec.zero_()  # it makes no difference then
    saev(module, tmp_path)
    jd.load_dictionary(tmp_path / "sae.pt")
    save_torch(module, tmp_path, "bare.pt")
    bare = tmp_path / "bare.pt"
    for stated, asked in (
        ({}, "pass activation="),
        ({"activation": "top_k"}, "pass k="),
        ({"activation": "top_k", "k": 97}, "pass k="),
        ({"activation": "jump_relu"}, "pass threshold="),
        ({"activation": "softmax"}, "expected one of"),
        ({"activation": "relu", "normalise": "l2"}, "normalise is 'l2'"),
    ):
        with pytest.raises(jd.InputError, match=asked):
            jd.load_dictionary(bare, **stated)
    found = jd.load_dictionary(bare, activation="jump_relu", threshold=0.5)
    assert found.coding == Coding("jump_relu")
    assert found.params["threshold"].shape == ()
    with pytest.raises(jd.InputError, match=f"k is 9, but .* says {K}"):
        jd.load_dictionary(tmp_path / "sae.pt", k=9)


def test_a_dictionary_of_class_tokens_says_so(tmp_path):
    module = originals.filled(originals.Prisma(WIDTH, LATENTS))
    prisma(module, tmp_path)
    assert jd.load_dictionary(tmp_path).notes == ()
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"cls_token_only": True}))
    (note,) = jd.load_dictionary(tmp_path).notes
    assert "class tokens alone" in note


def test_files_that_are_not_read(tmp_path):
    module = originals.filled(originals.Saev(WIDTH, LATENTS, "Relu"))
    torch.save(module, tmp_path / "pickled.pt")
    with pytest.raises(jd.InputError, match=r"weights_only=False.*saved.state_dict\(\)"):
        jd.load_dictionary(tmp_path / "pickled.pt")
    # The two lines convert it.
    saved = torch.load(tmp_path / "pickled.pt", weights_only=False)
    torch.save(saved.state_dict(), tmp_path / "NEW.pt")
    jd.load_dictionary(tmp_path / "NEW.pt", activation="relu", subtract_b_dec=False)
    good = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    changes = {
        "gated": ({"r_mag": good["b_enc"]}, "gated"),
        "deep": ({"encoder.mlp_blocks.0.0.weight": good["W_enc"]}, "one linear encoder"),
        "short": ({"b_enc": good["b_enc"][1:]}, "of one dictionary"),
        "twice": ({"encoder.bias": good["b_enc"]}, "two tensors that could be b_enc"),
        "nan": ({"b_enc": good["b_enc"] * np.nan}, "NaN"),
        "layer norm": (
            {f"encoder.final_block.1.{name}": good["b_enc"] for name in ("weight", "bias")},
            "LayerNorm",
        ),
    }
    for name, (tensors, fault) in changes.items():
        state = {key: torch.from_numpy(value) for key, value in (good | tensors).items()}
        torch.save(state, tmp_path / f"{name}.pt")
        with pytest.raises(jd.InputError, match=fault):
            jd.load_dictionary(tmp_path / f"{name}.pt", activation="relu", subtract_b_dec=False)
    torch.save({"b_enc": torch.zeros(3)}, tmp_path / "empty.pt")
    with pytest.raises(jd.InputError, match="has no W_enc"):
        jd.load_dictionary(tmp_path / "empty.pt", activation="relu")
    (tmp_path / "header").write_bytes(b'{"schema": \n')
    with pytest.raises(jd.InputError, match="saev's header"):
        jd.load_dictionary(tmp_path / "header")
    (tmp_path / "kind").write_bytes(b'{"schema": 5, "cfg": {"activation": {"cls": "Tanh"}}}\nPK')
    with pytest.raises(jd.InputError, match="'Tanh'"):
        jd.load_dictionary(tmp_path / "kind")
    with pytest.raises(jd.InputError, match="can't be read"):
        jd.load_dictionary(tmp_path / "absent.pt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(jd.InputError, match="holds no dictionary"):
        jd.load_dictionary(tmp_path / "folder")
    for config, fault in (
        ({"apply_b_dec_to_input": True, "normalize_activations": "l2"}, "normalize_activations"),
        ({"apply_b_dec_to_input": True, "architecture": "gated"}, "'gated' is not implemented"),
        ({"trainer": {"dict_class": "GatedAutoEncoder"}}, "GatedAutoEncoder"),
        ({"apply_b_dec_to_input": True, "activation_fn_kwargs": "k"}, "can't be understood"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(jd.InputError, match=fault):
            jd.load_dictionary(tmp_path / "NEW.pt")


@pytest.mark.parametrize("k", [1, 3, 40, 97])
def test_the_largest_are_those_of_a_sort(k):
    """Of both signs, zeros of both signs, ties, infinities, and the smallest numbers there are."""
    rng = np.random.default_rng(k)
    z = rng.normal(size=(5, 7, 97)).astype(np.float32)
    z[1] = np.round(z[1])
    z[2] = -np.abs(z[2])
    z[3, :, ::3], z[3, :, 1::9] = 0.0, -0.0
    z[4, :, 5], z[4, :, 6], z[4, :, 7:20] = np.inf, -np.inf, 1e-45 * rng.integers(-9, 9, (7, 13))
    found = np.asarray(_among_largest(jnp.asarray(z), k))
    least = np.sort(z, axis=-1)[..., -k][..., None]
    # A zero counts as larger than minus zero, which changes no latent.
    np.testing.assert_array_equal(found | (z == 0), (z >= least) | (z == 0))
    assert (found.sum(axis=-1) >= k).all()


def dictionary(activation="relu", width=10, latents=32, outputs=10, **changes):
    rng = np.random.default_rng(0)
    shapes = {"W_enc": (width, latents), "b_enc": (latents,), "b_pre": (width,)}
    shapes |= {"W_dec": (latents, outputs), "b_dec": (outputs,)}
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return Dictionary(Coding(activation, **changes), params | {"threshold": np.float32(0.5)})


PIXELS = np.random.default_rng(1).normal(size=(3, 32, 32, 3)).astype(np.float32)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_latents_are_a_layer(activation):
    target, sae = plain_target.plain_target(), dictionary(activation, k=4)
    wider = target.with_dictionary("patches", sae)
    assert wider.layers == ("fc", "patches", "patches/sae")
    assert wider.shapes["patches/sae"] == (4, 4, 32)
    assert (wider.sparse, wider.attention_layer) == (("patches/sae",), "patches")
    assert wider.fingerprint != target.fingerprint
    logits, values = recorded(wider.apply, wider.params, PIXELS, ["patches", "patches/sae"])
    latents = sae.encode(values["patches"])
    np.testing.assert_allclose(values["patches/sae"], latents, rtol=1e-5, atol=1e-6)
    plain, _ = recorded(target.apply, target.params, PIXELS, ["patches"])
    np.testing.assert_array_equal(logits, plain)  # it goes on as before
    pooled = wider.activations(PIXELS, "patches/sae", "max")
    np.testing.assert_allclose(pooled, values["patches/sae"].max(axis=(1, 2)), rtol=1e-6)


@pytest.mark.parametrize("normalise", ["", "layer_norm"])
def test_a_change_of_latents_is_decoded(normalise):
    target, sae = plain_target.plain_target(), dictionary(normalise=normalise)
    wider = target.with_dictionary("patches", sae)
    seen = {}

    def ablate(name, x):
        seen[name] = x
        return x.at[..., 7].set(0) if name == "patches/sae" else x

    logits = wider.apply(wider.params, PIXELS, ablate)
    maps, latents = (np.asarray(seen[name]) for name in ("patches", "patches/sae"))
    scale = maps.std(axis=-1, ddof=1, keepdims=True) if normalise else 1
    changed = maps - latents[..., 7:8] * sae.params["W_dec"][7] * scale
    expected = plain_target.logits_behind(target, changed)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(logits - target.logits(PIXELS)).max() > 1e-3
    # The gradient at the latents is that of the layer, through the decoder.
    shape, pixels = wider.shapes["patches/sae"], jnp.asarray(PIXELS)
    found = class_gradient(wider.apply, wider.params, pixels, None, "patches/sae", shape)
    own = class_gradient(target.apply, target.params, pixels, None, "patches", (4, 4, 10))
    through = (np.asarray(own.gradient) * scale) @ sae.params["W_dec"].T
    np.testing.assert_allclose(found.gradient, through, rtol=1e-4, atol=1e-5)


def two_layers(params, pixels, tap):
    maps = tap("patches", plain_target.patches(params, pixels))
    return plain_target.head(params, tap("mixed", maps @ jnp.eye(10) * 2))


def test_a_transcoder_changes_the_layer_that_it_predicts():
    target = plain_target.plain_target(apply=two_layers)
    coder = dictionary()
    wider = target.with_dictionary("patches", coder, output="mixed")

    def shift(name, x):
        return x + 1 if name == "patches/sae" else x

    logits = wider.apply(wider.params, PIXELS, shift)
    _, values = recorded(target.apply, target.params, PIXELS, ["mixed"])
    changed = np.asarray(values["mixed"]) + coder.params["W_dec"].sum(axis=0)
    np.testing.assert_allclose(logits, plain_target.head(target.params, changed), rtol=1e-5)
    with pytest.raises(jd.InputError, match="comes before"):
        target.with_dictionary("mixed", coder, output="patches")


def test_two_dictionaries_and_taps_that_ask():
    target = plain_target.plain_target(apply=two_layers)
    wider = target.with_dictionary("patches", dictionary()).with_dictionary("mixed", dictionary())
    assert wider.layers == ("fc", "patches", "patches/sae", "mixed", "mixed/sae")
    asked = []

    def apply(params, pixels, tap):
        asked.append(asks(tap, "attention_probs"))
        return two_layers(params, pixels, tap)

    target = plain_target.plain_target(apply=apply).with_dictionary("patches", dictionary())
    tap = Asking(lambda name, x: x, ["attention_probs"])
    jax.eval_shape(lambda x: target.apply(target.params, x, tap), PIXELS)
    assert asked[-1]


def test_dictionaries_that_do_not_fit():
    target = plain_target.plain_target()
    for layer, sae, fault in (
        ("absent", dictionary(), "Unknown layer"),
        ("patches", dictionary(width=9), "reads 9 channels"),
        ("fc", dictionary(width=6), "but 'fc'"),
    ):
        with pytest.raises(jd.InputError, match=fault):
            target.with_dictionary(layer, sae)
    wider = target.with_dictionary("patches", dictionary())
    with pytest.raises(jd.InputError, match="already"):
        wider.with_dictionary("patches", dictionary())
    with pytest.raises(jd.InputError, match="decodes to 9"):
        plain_target.plain_target(apply=two_layers).with_dictionary(
            "patches", dictionary(outputs=9), output="mixed"
        )


@pytest.mark.full
@pytest.mark.parametrize("kind", ["TopK", "BatchTopK"])
def test_a_dictionary_of_full_size(kind, tmp_path):
    """49,152 latents of 768 channels, with tokens as a ViT-B's."""
    module = originals.Saev(768, 49_152, kind, 32)
    originals.filled(module)
    with torch.no_grad():
        module.W_enc /= 768**0.5
        if kind == "BatchTopK":
            module.activation.threshold.fill_(1.5)
    saev(module, tmp_path)
    found = jd.load_dictionary(tmp_path, subtract_b_dec=False)
    assert (found.width, found.latents) == (768, 49_152)
    x = np.random.default_rng(0).normal(size=(50, 768)).astype(np.float32)
    with torch.no_grad():
        expected = module.encode(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found.encode(x), expected, rtol=1e-5, atol=1e-5)
    if kind == "TopK":
        assert ((expected != 0).sum(axis=1) == 32).all()
