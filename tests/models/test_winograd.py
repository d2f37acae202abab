import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdesc as jd
from jaxdesc.models.resnet import ConvNorm, ResNet, fold_batch_norm, with_winograd
from jaxdesc.models.resnet_config import ResNetConfig
from jaxdesc.models.winograd import WinogradConvolution, convolve, transformed
from tests.models.torch_checkpoints import save_torch_resnet, torch_resnet, torch_resnet_stages


def slow(x, kernel):
    """The convolution as its definition says, in float64."""
    batch, height, width, _ = x.shape
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    found = np.zeros((batch, height, width, kernel.shape[-1]))
    for i in range(3):
        for j in range(3):
            found += padded[:, i : i + height, j : j + width] @ kernel[i, j].astype(np.float64)
    return found


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (7, 7), (5, 8), (14, 3)])
def test_it_is_the_convolution(size, rng):
    x = rng.normal(size=(2, *size, 5)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 5, 6)).astype(np.float32)
    exact = slow(x, kernel)
    found = convolve(jnp.asarray(x), transformed(kernel))
    assert np.abs(found - exact).max() < 1e-6 * np.abs(exact).max()


def test_it_rounds_no_worse_than_the_convolution_itself(rng):
    x = np.abs(rng.normal(size=(1, 14, 14, 256))).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 256, 64)).astype(np.float32) / 48
    exact = slow(x, kernel)
    plain = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
    )
    error, plain_error = (
        np.abs(found - exact).max() for found in (convolve(x, transformed(kernel)), plain)
    )
    assert error < 3 * plain_error


def test_one_trace_a_shape(rng):
    x = jnp.ones((1, 8, 8, 64))
    kernel = jnp.ones((4, 4, 64, 64))
    traced = str(jax.make_jaxpr(lambda x: convolve(convolve(x, kernel), kernel))(x))
    assert traced.count("dot_general") == 1


def folded(*sizes, **kind):
    """A network of zeros without BatchNorm."""
    config = ResNetConfig(*sizes, stem_width=64, **kind)
    shapes = nnx.eval_shape(lambda: ResNet(config, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(fold_batch_norm(shapes))
    zeros = jax.tree.map(lambda leaf: jnp.asarray(np.zeros(leaf.shape, leaf.dtype)), state)
    return nnx.merge(graph, zeros)


def layers(model):
    """Names of the layers with Winograd's convolution."""
    found = nnx.iter_modules(model)
    return {
        ".".join(map(str, path))
        for path, unit in found
        if isinstance(unit, ConvNorm) and isinstance(unit.conv, WinogradConvolution)
    }


def test_only_wide_layers_without_a_stride_have_it():
    bottlenecks = folded("bottleneck", (2, 1, 2, 1), (32, 64, 64, 96))
    assert layers(with_winograd(bottlenecks)) == {"layer3.1.conv2"}
    assert layers(bottlenecks) == set()
    groups = folded("bottleneck", (2, 1, 1, 1), (64, 64, 64, 64), cardinality=2)
    assert layers(with_winograd(groups)) == set()
    found = {f"layer1.0.conv{n}" for n in (1, 2)} | {f"layer{n}.0.conv2" for n in (2, 3, 4)}
    assert layers(with_winograd(folded("basic", (1, 1, 1, 1), (64, 64, 64, 96)))) == found


@pytest.mark.parametrize(
    ("platform", "precision", "quick"),
    [("cpu", "float32", True), ("cpu", "bfloat16", False), ("gpu", "float32", False)],
)
def test_a_target_has_it_on_a_cpu_in_float32(platform, precision, quick, tmp_path, rng):
    sizes = {"layers": [2, 1, 1, 1], "channels": [64, 64, 64, 64], "stem_width": 8}
    reference = torch_resnet("bottleneck", *sizes.values(), classes=5)
    entries = {"architecture": "resnet50", "num_classes": 5, "model_args": sizes}
    save_torch_resnet(reference, tmp_path, entries)
    pixels = rng.normal(size=(2, 40, 33, 3)).astype(np.float32)
    target = jd.load_target(str(tmp_path), precision=precision, platform=platform)
    sides = [leaf.shape[0] for leaf in jax.tree.leaves(target.params) if leaf.ndim == 4]
    assert (4 in sides) == quick
    if precision == "float32":
        _, plain = torch_resnet_stages(reference, pixels)
        error = np.abs(np.asarray(target.logits(pixels)) - plain).max()
        assert error < 1e-5 * np.abs(plain).max()
