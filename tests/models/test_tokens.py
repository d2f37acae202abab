"""Layers of tokens: a class token and registers first, then a square of patches."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdesc as jd
from jaxdesc.attention import attention_maps
from tests import plain_target
from tests.plain_target import PREPROCESS

PREFIX, PATCHES, WIDTH, CLASSES = 3, 16, 10, 6


def tokens_of(params, pixels):
    patches = plain_target.patches(params, pixels).reshape(len(pixels), PATCHES, WIDTH)
    first = jnp.broadcast_to(params["prefix"][None], (len(pixels), PREFIX, WIDTH))
    return jnp.concatenate([first, patches], axis=1)


def mixed(params, x):
    """Attention with products of the tokens themselves; gradients reach the class token by it."""
    weights = jax.nn.softmax(x @ x.swapaxes(1, 2), axis=-1)
    return jnp.tanh(weights @ x @ params["value"])


def of_class_token(params, x):
    return x[:, 0] @ params["weight"]


def of_patches(params, x):
    return x[:, PREFIX:].mean(axis=1) @ params["weight"]


def token_target(head=of_class_token, **changes):
    def apply(params, pixels, tap):
        normed = tap("blocks.0/norm1", tokens_of(params, pixels))
        block = tap("blocks.0", normed + tap("blocks.0/attention", mixed(params, normed)))
        return head(params, block)

    rng = np.random.default_rng(0)
    params = {"prefix": rng.normal(size=(PREFIX, WIDTH)), "value": rng.normal(size=(WIDTH, WIDTH))}
    params = {name: value.astype(np.float32) for name, value in params.items()}
    target = jd.Target(plain_target.parameters() | params, apply, PREPROCESS)
    return replace(target, prefix=PREFIX, attention="blocks.0/norm1", **changes)


def images(count=2):
    return np.random.default_rng(5).normal(size=(count, 32, 32, 3)).astype(np.float32)


def test_pooling_leaves_the_prefix_out_and_class_reads_its_first_token():
    target, pixels = token_target(), images()
    tokens = np.asarray(tokens_of(target.params, pixels))
    wanted = {
        "mean": tokens[:, PREFIX:].mean(axis=1),
        "max": tokens[:, PREFIX:].max(axis=1),
        "class": tokens[:, 0],
    }
    for pooling, values in wanted.items():
        found = target.activations(pixels, "blocks.0/norm1", pooling)
        np.testing.assert_allclose(found, values, rtol=1e-5, atol=1e-6)
    assert target.shapes["blocks.0"] == (PREFIX + PATCHES, WIDTH)
    message = "^Layer 'patches' of target has no class token to read: choose the pooling 'mean'"
    with pytest.raises(jd.InputError, match=message):
        plain_target.plain_target().activations(pixels, "patches", "class")


def test_grad_cam_of_tokens_is_that_of_a_grid():
    """The gradient by differences, in float64."""
    target, pixels = token_target(), images(1)
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), target.params)
    tokens = np.asarray(tokens_of(target.params, pixels), np.float64)

    def logit(tokens, label=2):
        products = tokens @ tokens.swapaxes(1, 2)
        weights = np.exp(products - products.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        block = tokens + np.tanh(weights @ tokens @ params["value"])
        return (block[:, 0] @ params["weight"])[0, label]

    gradient = np.zeros_like(tokens[0])
    for place in np.ndindex(gradient.shape):
        step = np.zeros_like(tokens)
        step[(0, *place)] = 1e-5
        gradient[place] = (logit(tokens + step) - logit(tokens - step)) / 2e-5
    weights = gradient[PREFIX:].mean(axis=0)
    wanted = np.maximum(tokens[0, PREFIX:] @ weights, 0).reshape(4, 4)
    assert wanted.max() > 0
    found, _ = attention_maps(target, pixels, np.array([2]), "grad_cam")
    np.testing.assert_allclose(found[0], wanted, rtol=1e-3, atol=1e-4 * wanted.max())


def test_a_layer_after_which_only_the_class_token_is_read_is_refused():
    message = "^The logits of target read only the class token of '{}', .* take the layer '{}'"
    for layer in ("blocks.0", "blocks.0/attention"):
        with pytest.raises(jd.InputError, match=message.format(layer, "blocks.0/norm1")):
            attention_maps(token_target(), images(), layer=layer)
    found, _ = attention_maps(token_target(of_patches), images(), layer="blocks.0")
    assert np.asarray(found).max() > 0


def test_cam_of_tokens_needs_a_mean_over_patches():
    cam, _ = attention_maps(token_target(of_patches), images(), cam="cam", layer="blocks.0")
    target, layer = token_target(of_patches), "blocks.0"
    grad, _ = attention_maps(target, images(), cam="grad_cam", layer=layer)
    np.testing.assert_allclose(cam, np.asarray(grad) * PATCHES, rtol=1e-5, atol=1e-6)
    with pytest.raises(jd.InputError, match="CAM needs logits that are one linear layer"):
        attention_maps(token_target(), images(), cam="cam")


def test_tokens_that_are_no_square_are_refused():
    with pytest.raises(jd.InputError, match=r"gives blocks.0/norm1 19 tokens .* a prefix of 1 are"):
        _ = replace(token_target(), prefix=1).shapes
    flat = jd.Target({}, lambda params, x, tap: tap("flat", x.mean(axis=(1, 2))), PREPROCESS)
    with pytest.raises(jd.InputError, match=r"\(batch, rows, columns, channels\) or \(batch, pre"):
        _ = flat.shapes
