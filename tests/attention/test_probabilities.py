"""Maps of attention probabilities: float64 oracles, PyTorch's autograd, and what is refused."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxdesc as jd
from jaxdesc.attention import attention_maps
from jaxdesc.attention.cams import check_cam
from jaxdesc.models import transformer
from jaxdesc.models.taps import ATTENTION_PROBS, Asking
from tests import plain_target
from tests.models.torch_checkpoints import channels_first, torch_model
from tests.reference import vit as reference

SMALL = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24,
    "image_size": 12, "patch_size": 4, "num_labels": 5, "attn_implementation": "eager",
}  # fmt: skip
PREPROCESS = jd.Preprocess(12, 1.0, "bicubic", (0.5,) * 3, (0.5,) * 3)
CLASSES = np.array([3, 1])
# By the title of a network: its class of transformers, and its number of tokens before the patches.
NETWORKS = {
    "ViT": ("ViTForImageClassification", 1),
    "DINOv2 with registers": ("Dinov2WithRegistersForImageClassification", 5),
}
MAPS = ("legrad", "class_attention")


@pytest.fixture(scope="module", params=NETWORKS)
def network(request, tmp_path_factory):
    """A network of transformers, the same as a target, and its prefix."""
    name, prefix = NETWORKS[request.param]
    folder, model = tmp_path_factory.mktemp("network"), torch_model(name, SMALL)
    model.save_pretrained(folder)
    return model, jd.load_target(folder, preprocess=PREPROCESS), prefix


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(1).normal(size=(2, 12, 12, 3)).astype(np.float32)


def theirs(model, pixels, lens=None):
    """Logits and each block's probabilities, with their graph.

    `lens` is a block; the mean of its tokens takes the place of the last block's.
    """
    layers = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList))
    means = []

    def keep(module, given, out):
        means.append((out[0] if isinstance(out, tuple) else out).mean(dim=1, keepdim=True))

    def replace(module, given, out):
        tokens = out[0] if isinstance(out, tuple) else out
        replaced = means[0].expand(tokens.shape)
        return (replaced, *out[1:]) if isinstance(out, tuple) else replaced

    hooks = []
    if lens is not None:
        hooks = [
            layers[lens].register_forward_hook(keep),
            layers[-1].register_forward_hook(replace),
        ]
    out = model(channels_first(pixels), output_attentions=True)
    for hook in hooks:
        hook.remove()
    return out.logits, out.attentions


def test_probabilities_equal_torch(network, pixels):
    model, target, _ = network
    with torch.inference_mode():
        logits, probs = theirs(model, pixels)
    values = {}

    def run(params, pixels):
        def tap(name, x):
            if name.endswith(ATTENTION_PROBS):
                values[name] = x
            return x

        return target.apply(params, pixels, Asking(tap, (ATTENTION_PROBS,))), dict(values)

    ours, found = jax.jit(run)(target.params, pixels)
    np.testing.assert_allclose(ours, logits, rtol=1e-4, atol=1e-5)
    assert list(found) == [f"blocks.{block}/{ATTENTION_PROBS}" for block in range(3)]
    for mine, wanted in zip(found.values(), probs, strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-6)


def test_maps_equal_torch_s_autograd(network, pixels):
    model, target, prefix = network
    _, probs = theirs(model, pixels)
    attended = probs[-1][:, :, 0, prefix:].mean(dim=1).reshape(2, 3, 3).detach()
    found, _ = attention_maps(target, pixels, CLASSES, "class_attention")
    np.testing.assert_allclose(found, attended, rtol=1e-4, atol=1e-6)
    keys = 0
    for block in (1, 2):
        logits, probs = theirs(model, pixels, lens=block)
        score = logits[np.arange(2), CLASSES].sum()
        gradient = torch.autograd.grad(score, probs[block])[0]
        keys = keys + gradient.clamp(min=0).mean(dim=(1, 2))[:, prefix:] / 2
    found, _ = attention_maps(target, pixels, CLASSES, "legrad")
    np.testing.assert_allclose(found, keys.reshape(2, 3, 3), rtol=1e-3, atol=1e-6)
    assert np.ptp(np.asarray(found), axis=(1, 2)).min() > 0


@pytest.mark.parametrize("network", ["ViT"], indirect=True)
def test_maps_equal_their_definitions(network, pixels):
    model, target, _ = network
    weights = {name: w.numpy() for name, w in model.state_dict().items()}
    oracle = reference.ViT(weights, heads=2, patch=4)
    legrads, classes = attention_maps(target, pixels, None, "legrad")
    attended, _ = attention_maps(target, pixels, None, "class_attention")
    logits = np.asarray(target.logits(pixels))
    np.testing.assert_array_equal(classes, logits.argmax(axis=1))
    for index, image in enumerate(pixels):
        last = oracle.before(image, oracle.depth)
        np.testing.assert_allclose(logits[index], oracle.head(last[0]), rtol=1e-4, atol=1e-5)
        wanted = reference.legrad(oracle, image, classes[index])
        np.testing.assert_allclose(legrads[index], wanted, rtol=1e-3, atol=1e-6)
        wanted = reference.class_attention(oracle, image)
        np.testing.assert_allclose(attended[index], wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("network", ["ViT"], indirect=True)
def test_attention_stays_fused_unless_probabilities_are_asked_for(network, pixels, monkeypatch):
    _, target, _ = network
    fused, calls = jax.nn.dot_product_attention, itertools.count()

    def counted(*args, **kwargs):
        next(calls)
        return fused(*args, **kwargs)

    monkeypatch.setattr(transformer.jax.nn, "dot_product_attention", counted)

    def offered(asking):
        names = []

        def tap(name, x):
            names.append(name)
            return x

        tap = Asking(tap, (ATTENTION_PROBS,)) if asking else tap
        jax.eval_shape(lambda p, x: target.apply(p, x, tap), target.params, jnp.asarray(pixels))
        return names

    plain = offered(asking=False)
    assert next(calls) == 3
    assert plain == [name for name in target.layers if name != "fc"]
    extra = [f"blocks.{block}/{ATTENTION_PROBS}" for block in range(3)]
    assert sorted(offered(asking=True)) == sorted(plain + extra)
    assert next(calls) == 4


@pytest.mark.parametrize("network", ["ViT"], indirect=True)
def test_in_bfloat16_the_maps_are_nearly_the_same(network, pixels, tmp_path):
    model, target, _ = network
    model.save_pretrained(tmp_path)
    half = jd.load_target(tmp_path, preprocess=PREPROCESS, precision="bfloat16")
    for name in MAPS:
        exact = np.asarray(attention_maps(target, pixels, CLASSES, name)[0])
        found, _ = attention_maps(half, pixels, CLASSES, name)
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, exact, atol=0.1 * exact.max())


def tokens_only(prefix):
    """A network of one block without a class token, whose head is a mean."""

    def apply(params, pixels, tap):
        x = plain_target.patches(params, pixels).reshape(len(pixels), 16, 10)
        x = tap("tokens", jnp.concatenate([jnp.ones((len(x), prefix, 10)), x], axis=1))
        probs = jax.nn.softmax(x @ x.swapaxes(1, 2), axis=-1)[:, None]
        if ATTENTION_PROBS in getattr(tap, "names", ()):
            probs = tap("block/attention_probs", probs)
        x = tap("block", (probs @ x[:, None])[:, 0])
        return x.mean(axis=1) @ params["weight"]

    return plain_target.plain_target(apply=apply, prefix=prefix)


REFUSED = {
    "^target has no class token, whose attention .* take 'legrad' or 'grad_cam'": (
        lambda: tokens_only(0), "class_attention", "",
    ),
    "^target offers no attention probabilities, .* take 'grad_cam', or a vision trans": (
        plain_target.plain_target, "legrad", "",
    ),
    "^target offers no attention probabilities, which": (
        plain_target.plain_target, "class_attention", "",
    ),
    "^A map of attention probabilities .* not of the layer 'tokens'": (
        lambda: tokens_only(1), "legrad", "tokens",
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused(message):
    build, cam, layer = REFUSED[message]
    pixels = np.zeros((1, 32, 32, 3), np.float32)
    with pytest.raises(jd.InputError, match=message):
        attention_maps(build(), pixels, None, cam, layer)


def test_a_network_of_one_s_own_offers_probabilities_too():
    target = tokens_only(0)
    assert target.attention_blocks == ("block",)
    pixels = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    maps, _ = attention_maps(target, pixels, None, "legrad")
    assert maps.shape == (2, 4, 4)
    assert np.asarray(maps).max() > 0


def test_the_class_token_s_attention_needs_no_classes(pixels, tmp_path):
    torch_model("ViTModel", SMALL).save_pretrained(tmp_path)
    headless = jd.load_target(tmp_path, preprocess=PREPROCESS)
    assert headless.logit_count == 0
    maps, _ = attention_maps(headless, pixels, None, "class_attention")
    assert maps.shape == (2, 3, 3)
    assert np.ptp(np.asarray(maps), axis=(1, 2)).min() > 0
    with pytest.raises(jd.InputError, match=r"has no classes, .* take 'class_attention', which"):
        attention_maps(headless, pixels, None, "legrad")


def test_the_look_for_patches_that_are_read_happens_once(monkeypatch):
    target, calls = tokens_only(2), itertools.count()
    monkeypatch.setattr(jd.models.target, "_read_at_patches", lambda *a: next(calls) or {})
    for _ in range(3):
        check_cam(target, "grad_cam")
    assert next(calls) == 1
