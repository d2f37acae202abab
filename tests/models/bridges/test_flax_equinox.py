"""Networks of NNX, Linen and Equinox through their bridges, against the networks themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import jaxdesc as jd
from jaxdesc.models.taps import class_gradient, recorded

PREPROCESS = jd.Preprocess(16, 1.0, "bilinear", (0.5,) * 3, (0.5,) * 3)
CLASSES = [f"class {index}" for index in range(5)]


class NNXBlock(nnx.Module):
    def __init__(self, inputs, outputs, rngs):
        self.conv = nnx.Conv(inputs, outputs, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(outputs, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(jax.nn.relu(self.norm(self.conv(x)))), "more"


class NNXNetwork(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.List([NNXBlock(3, 8, rngs), NNXBlock(8, 8, rngs)])
        self.head = nnx.Linear(8, 5, rngs=rngs)
        self.unused = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x):
        x, _ = self.blocks[0](x)
        x, _ = self.blocks[1](x)
        x, _ = self.blocks[1](x)
        return self.head(x.mean((1, 2)))


class LinenBlock(linen.Module):
    @linen.compact
    def __call__(self, x, train):
        x = linen.BatchNorm(use_running_average=not train)(linen.Conv(8, (3, 3))(x))
        return linen.Dropout(0.5, deterministic=not train)(jax.nn.relu(x)), "more"


class LinenNetwork(linen.Module):
    def setup(self):
        self.stem, self.block, self.head = LinenBlock(), LinenBlock(), linen.Dense(5)

    def __call__(self, x, train=True):
        x, _ = self.stem(x, train)
        x, _ = self.block(x, train)
        x, _ = self.block(x, train)
        return self.head(x.mean((1, 2)))


def redrawn(tree):
    """Random numbers instead of the ones and zeros of a fresh BatchNorm."""
    rng = np.random.default_rng(1)

    def draw(leaf):
        if not isinstance(leaf, jax.Array) or not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return jnp.asarray(rng.uniform(0.1, 1, leaf.shape) / max(1, leaf.size / 8), leaf.dtype)

    return jax.tree.map(draw, tree)


def from_nnx():
    network = NNXNetwork(nnx.Rngs(0))
    nnx.update(network, redrawn(nnx.state(network)))
    target = jd.from_nnx(network, ["blocks.1", "blocks.1.norm"], PREPROCESS, CLASSES)
    assert not network.blocks[0].dropout.deterministic
    assert type(network.blocks[1]) is NNXBlock
    network.eval()

    def behind(pixels, change):
        x, _ = network.blocks[0](pixels)
        x, _ = network.blocks[1](x)
        x = change(network.blocks[1](x)[0])
        return network.head(x.mean((1, 2)))

    return target, "blocks.1", "blocks.1.norm", behind


def from_linen():
    network = LinenNetwork()
    variables = redrawn(network.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), False))
    layers, arguments = ["block", "block.BatchNorm_0"], {"train": False}
    target = jd.from_linen(network, variables, layers, PREPROCESS, CLASSES, arguments=arguments)

    def behind(pixels, change):
        bound = network.bind(variables)
        x, _ = bound.stem(pixels, False)
        x, _ = bound.block(x, False)
        x = change(bound.block(x, False)[0])
        return bound.head(x.mean((1, 2)))

    return target, "block", "block.BatchNorm_0", behind


def from_equinox():
    import equinox as eqx

    class Block(eqx.Module):
        conv: eqx.nn.Conv2d
        dropout: eqx.nn.Dropout

        def __call__(self, x, key):
            assert self.conv.out_channels == 8
            return self.dropout(jax.nn.relu(self.conv(x)), key=key), "more"

    class Network(eqx.Module):
        blocks: list
        norm: eqx.nn.BatchNorm
        head: eqx.nn.Linear

        def __init__(self, key):
            first, second, third = jax.random.split(key, 3)
            self.blocks = [
                Block(eqx.nn.Conv2d(inputs, 8, 3, padding=1, key=k), eqx.nn.Dropout(0.5))
                for inputs, k in ((3, first), (8, second))
            ]
            self.norm = eqx.nn.BatchNorm(8, "batch", mode="ema")
            self.head = eqx.nn.Linear(8, 5, key=third)

        def __call__(self, x, state, key):
            x, state = self.norm(self.blocks[0](x, key)[0], state)
            x, _ = self.blocks[1](x, key)
            x, _ = self.blocks[1](x, key)
            return self.head(x.mean((1, 2))), state

    network, state = eqx.nn.make_with_state(Network)(jax.random.key(0))
    network, state = redrawn(network), redrawn(state)
    layers, arguments = ["blocks.1", "blocks.1.conv"], {"key": None}
    target = jd.from_equinox(network, layers, PREPROCESS, CLASSES, state=state, arguments=arguments)
    assert not network.blocks[0].dropout.inference
    quiet = eqx.nn.inference_mode(network)

    def behind(pixels, change):
        def early(image):
            x, _ = quiet.norm(quiet.blocks[0](image, None)[0], state)
            return quiet.blocks[1](quiet.blocks[1](x, None)[0], None)[0]

        maps = jax.vmap(early, axis_name="batch")(jnp.moveaxis(pixels, -1, 1))
        x = change(jnp.moveaxis(maps, 1, -1))
        return jax.vmap(quiet.head)(x.mean((1, 2)))

    return target, "blocks.1", "blocks.1.conv", behind


BRIDGES = [from_nnx, from_linen, from_equinox]


@pytest.mark.parametrize("bridge", BRIDGES)
def test_logits_layers_and_gradients_are_the_network_s(bridge, rng):
    target, layer, inner, behind = bridge()
    pixels = jnp.asarray(rng.normal(size=(3, 16, 16, 3)), jnp.float32)
    second = f"{layer}:2"
    assert set(target.layers) == {"fc", layer, second, inner, f"{inner}:2"}
    assert target.classes[4] == ("class 4",)

    def score(zeros):
        values = {}

        def add(x):
            values["maps"] = x
            return x + zeros

        logits = behind(pixels, add)
        return logits.max(1).sum(), (logits, values["maps"])

    with jax.numpy_rank_promotion("allow"):
        zeros = jnp.zeros((3, *target.shapes[second]))
        gradient, (logits, maps) = jax.jit(jax.grad(score, has_aux=True))(zeros)
    np.testing.assert_allclose(target.logits(pixels), logits, rtol=1e-5, atol=1e-6)
    _, taken = jax.jit(lambda p, x: recorded(target.apply, p, x, [second]))(target.params, pixels)
    np.testing.assert_allclose(taken[second], maps, rtol=1e-5, atol=1e-6)
    seen = class_gradient(target.apply, target.params, pixels, None, second, target.shapes[second])
    assert np.abs(gradient).max() > 0
    np.testing.assert_allclose(seen.gradient, gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bridge", BRIDGES)
def test_every_weight_is_a_parameter(bridge, rng):
    target, _, _, _ = bridge()
    pixels = jnp.asarray(rng.normal(size=(2, 16, 16, 3)), jnp.float32)
    before, fingerprint = target.logits(pixels), target.fingerprint
    program = jax.make_jaxpr(lambda p, x: target.apply(p, x, lambda name, x: x))
    assert all(np.size(array) < 8 for array in program(target.params, pixels).consts)
    halved = jax.tree.map(
        lambda a: a / 2 if jnp.issubdtype(a.dtype, jnp.floating) else a, target.params
    )
    other = jd.Target(halved, target.apply, target.preprocess)
    assert not np.allclose(other.logits(pixels), before)
    assert other.fingerprint != fingerprint


def test_a_layer_that_does_not_exist_is_refused_with_names_near_it():
    network = NNXNetwork(nnx.Rngs(0))
    with pytest.raises(jd.InputError, match=r"no layer 'block.1.norm'.*blocks\.1\.norm"):
        jd.from_nnx(network, ["block.1.norm"], PREPROCESS)
    with pytest.raises(jd.InputError, match="'unused' but does not call it"):
        jd.from_nnx(network, ["unused"], PREPROCESS)
    linen_network = LinenNetwork()
    variables = linen_network.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), False)
    with pytest.raises(jd.InputError, match=r"no layer 'blocks'.*\bblock\b"):
        jd.from_linen(linen_network, variables, ["blocks"], "imagenet", arguments={"train": False})


def test_features_are_no_logits_if_there_are_no_classes(rng):
    target = jd.from_nnx(NNXNetwork(nnx.Rngs(0)), ["blocks.0"], PREPROCESS, None)
    assert (target.logit_count, target.layers, target.classes) == (0, ("blocks.0",), ())
    pixels = jnp.asarray(rng.normal(size=(2, 16, 16, 3)), jnp.float32)
    with pytest.raises(jd.InputError, match="Unknown layer 'fc'"):
        target.logits(pixels)


@pytest.fixture(scope="module")
def equimo():
    """A small vision transformer of a library of such networks: five tokens before the patches."""
    from equimo.models.vit import VisionTransformer

    sizes = {"dim": 32, "patch_size": 8, "num_heads": [2], "depths": [3], "num_classes": 5}
    return VisionTransformer(img_size=32, in_channels=3, **sizes, key=jax.random.key(0))


@pytest.mark.full
def test_a_vision_transformer_of_equimo_s(equimo, rng):
    preprocess = jd.Preprocess(32, 1.0, "bilinear", (0.5,) * 3, (0.5,) * 3)
    target = jd.from_equinox(equimo, ["blocks.0.blocks.1"], preprocess, CLASSES, prefix=5)
    assert target.shapes["blocks.0.blocks.1"] == (21, 32)
    pixels = rng.normal(size=(3, 32, 32, 3)).astype(np.float32)
    with jax.numpy_rank_promotion("allow"):
        behind = jax.jit(jax.vmap(lambda image: equimo(image, inference=True)))
        logits = behind(np.moveaxis(pixels, -1, 1))
    np.testing.assert_allclose(target.logits(pixels), logits, rtol=1e-5, atol=1e-6)
    maps, _ = jd.attention.attention_maps(target, pixels)
    assert maps.shape == (3, 4, 4)
    assert maps.max() > 0


@pytest.mark.full
def test_its_norms_are_hidden_and_its_prefix_is_asked_for(equimo):
    preprocess = jd.Preprocess(32, 1.0, "bilinear", (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(jd.InputError, match=r"'blocks.0.blocks.2.prenorm' within a scan, a vmap"):
        jd.from_equinox(equimo, ["blocks.0.blocks.2.prenorm"], preprocess, CLASSES, prefix=5)
    with pytest.raises(jd.InputError, match=r"21 tokens for 32 × 32 pixels, .* a prefix of 1"):
        jd.from_equinox(equimo, ["blocks.0.blocks.1"], preprocess, CLASSES, prefix=1)


def test_a_layer_within_a_vmap_is_refused():
    class Mapped(nnx.Module):
        def __init__(self, rngs):
            self.inner = nnx.Conv(3, 4, (1, 1), rngs=rngs)

        def __call__(self, x):
            return nnx.vmap(lambda m, x: m(x), in_axes=(None, 0))(self.inner, x).mean((1, 2))

    with pytest.raises(jd.InputError, match="'inner' within a scan, a vmap"):
        jd.from_nnx(Mapped(nnx.Rngs(0)), ["inner"], PREPROCESS)


def test_a_missing_library_is_one_sentence(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "equinox", None)
    with pytest.raises(jd.InputError, match="pip install equinox"):
        jd.from_equinox(None, [], PREPROCESS)


def test_a_network_that_branches_on_values_is_refused():
    class Branches(NNXNetwork):
        def __call__(self, x):
            return super().__call__(x if x.mean() > 0 else -x)

    message = r"^Branches needs the values of an array in Python \("
    with pytest.raises(jd.InputError, match=message):
        jd.from_nnx(Branches(nnx.Rngs(0)), ["blocks.0"], PREPROCESS)
