from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax import nnx

from jaxdesc.errors import InputError
from jaxdesc.models.checkpoint import abstract, assign
from jaxdesc.models.resnet import HUGGING_FACE_RESNET, ConvNorm, ResNet, fold_batch_norm
from jaxdesc.models.resnet_config import STAGES, TIMM_SIZES, ResNetConfig
from jaxdesc.models.taps import recorded
from jaxdesc.runtime.compiler import lowered_for
from tests.models.torch_checkpoints import (
    channels_first,
    torch_resnet,
    torch_resnet_stages,
    torchvision_state,
)

# The widths of every stage differ, and the stages' depths too.
LAYERS, WIDTHS = (2, 1, 1, 1), (8, 12, 16, 20)


def relative_error(ours, theirs):
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())


def forward(model, pixels):
    return recorded(lambda model, *given: model(*given), model, pixels, STAGES)


def agree(model, reference, pixels, tolerance, compiled=True):
    """Every stage and the logits agree with PyTorch's, relative to each one's largest value."""
    stages, logits = torch_resnet_stages(reference, pixels)
    run = nnx.jit(forward) if compiled else forward
    ours, values = run(model, jnp.asarray(pixels))
    errors = {
        stage: relative_error(values[stage], s) for stage, s in zip(STAGES, stages, strict=True)
    }
    errors["logits"] = relative_error(ours, logits)
    assert max(errors.values()) < tolerance, errors


def ported(reference):
    """Our network with the reference's weights, by the loader's table but without its files."""
    config = ResNetConfig.from_huggingface(reference.config.to_dict())
    # Copies, as training changes the reference in place.
    tensors = {name: tensor.clone().numpy() for name, tensor in reference.state_dict().items()}
    model = assign(abstract(ResNet, config), tensors, HUGGING_FACE_RESNET, "memory")
    model.eval()
    return model


def small_pair(block="bottleneck", layers=LAYERS):
    """A small ResNet of ten classes, in PyTorch and here."""
    reference = torch_resnet(block, layers, WIDTHS, 8, classes=10)
    return reference, ported(reference)


@pytest.fixture(scope="module")
def resnet50():
    reference = torch_resnet("bottleneck", (3, 4, 6, 3))
    return reference, ported(reference)


@pytest.mark.full
def test_folded_resnet50_equals_torch_at_full_size(resnet50, rng):
    """On two images whose means and contrasts differ, so that their logits do."""
    reference, model = resnet50
    first, second = rng.normal(size=(2, 224, 224, 3)).astype(np.float32)
    pixels = np.stack([first, np.float32(0.3) * second + 1])
    agree(fold_batch_norm(model), reference, pixels, 1e-5)


@pytest.mark.full
def test_resnet50_equals_torch_on_an_oblong_image(resnet50, rng):
    reference, model = resnet50
    agree(model, reference, rng.normal(size=(1, 97, 130, 3)).astype(np.float32), 1e-5)


@pytest.mark.full
@pytest.mark.parametrize(
    ("block", "layers"),
    [
        ("basic", (2, 2, 2, 2)),
        ("basic", (3, 4, 6, 3)),
        ("bottleneck", (3, 4, 23, 3)),
        ("bottleneck", (3, 8, 36, 3)),
    ],
    ids=["resnet18", "resnet34", "resnet101", "resnet152"],
)
def test_other_depths_equal_torch(rng, block, layers):
    """At their real widths, on a small image; layer by layer, as the depths share their shapes."""
    reference = torch_resnet(block, layers)
    model = ported(reference)
    assert model.config in TIMM_SIZES.values()
    pixels = rng.normal(size=(1, 33, 64, 3)).astype(np.float32)
    agree(fold_batch_norm(model), reference, pixels, 1e-5, compiled=False)


def test_other_sizes_than_the_architecture_s_equal_torch(rng):
    reference, model = small_pair()
    agree(model, reference, rng.normal(size=(2, 40, 32, 3)).astype(np.float32), 1e-5)


def test_the_network_goes_on_with_what_a_tap_returns(rng):
    _, model = small_pair()
    pixels = jnp.asarray(rng.normal(size=(1, 40, 32, 3)), "float32")
    scaled = jax.jit(lambda by: model(pixels, lambda name, x: by[name] * x))
    plain = dict.fromkeys(STAGES, jnp.float32(1))
    for layer in STAGES:
        changed = scaled(plain | {layer: jnp.float32(2)})
        assert np.abs(changed - scaled(plain)).max() > 1e-3, layer


@pytest.mark.full
@pytest.mark.parametrize(
    ("block", "count", "shape"), [("bottleneck", 19, (50, 65)), ("basic", 1, (9, 7))]
)
def test_stages_in_pieces_equal_torch(block, count, shape, rng):
    reference, model = small_pair(block)
    pixels = rng.normal(size=(count, *shape, 3)).astype(np.float32)
    with lowered_for("cpu"):
        agree(fold_batch_norm(model), reference, pixels, 1e-5)


def test_earlier_stages_take_fewer_images_at_a_time():
    model = fold_batch_norm(small_pair()[1])
    with lowered_for("cpu"):
        program = str(jax.make_jaxpr(lambda x: model(x))(jnp.ones((16, 64, 64, 3))))
    for images, side in ((2, 16), (4, 8), (8, 4), (16, 2)):
        assert f"f32[{images},{side},{side}," in program


def test_folding_leaves_no_statistics_and_its_argument_alone():
    _, model = small_pair()
    kernel = model.conv1.conv.kernel[...]
    folded = fold_batch_norm(model)
    assert not jax.tree.leaves(nnx.state(folded, nnx.BatchStat))
    assert jax.tree.leaves(nnx.state(model, nnx.BatchStat))
    assert jnp.array_equal(model.conv1.conv.kernel[...], kernel)
    again = fold_batch_norm(folded)
    assert jnp.array_equal(again.conv1.conv.kernel[...], folded.conv1.conv.kernel[...])


@pytest.mark.full
def test_training_equals_torch(rng):
    """Loss, gradients and the running means that a pass leaves behind; then the loss falls."""
    reference, model = small_pair("basic", (1, 1, 1, 1))
    pixels = rng.normal(size=(4, 64, 64, 3)).astype(np.float32)
    labels = np.array([3, 1, 4, 1])
    reference.train()
    model.train()

    @nnx.jit
    def step(model):
        def loss(model):
            return -jax.nn.log_softmax(model(jnp.asarray(pixels)))[jnp.arange(4), labels].mean()

        value, gradients = nnx.value_and_grad(loss)(model)
        parameters = nnx.state(model, nnx.Param)
        nnx.update(model, jax.tree.map(lambda p, g: p - 0.01 * g, parameters, gradients))
        return value, gradients

    value, gradients = step(model)
    theirs = reference(channels_first(pixels), labels=torch.from_numpy(labels)).loss
    theirs.backward()
    assert float(value) == pytest.approx(theirs.item(), rel=1e-5)
    kernel = reference.resnet.embedder.embedder.convolution.weight.grad.permute(2, 3, 1, 0)
    assert relative_error(gradients["conv1"]["conv"]["kernel"][...], kernel.numpy()) < 1e-5
    state = torchvision_state(reference)
    for ours, name in (
        (model.conv1.norm, "bn1"),
        (model.layer4[0].downsample.norm, "layer4.0.downsample.1"),
    ):
        assert relative_error(ours.mean[...], state[f"{name}.running_mean"].numpy()) < 1e-5
    assert float(step(model)[0]) < float(value)


@pytest.mark.full
def test_convolutions_start_as_kaiming_fan_out():
    kernel = ConvNorm(64, 512, 3, rngs=nnx.Rngs(0)).conv.kernel[...]
    assert float(kernel.std()) == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.02)


def test_timm_entries_round_trip():
    for name, config in TIMM_SIZES.items():
        assert config.to_timm() == {"architecture": name, "num_classes": 1000}
        assert ResNetConfig.from_timm(config.to_timm()) == config
    config = ResNetConfig("basic", (1, 2, 1, 1), (8, 16, 32, 64), stem_width=8, num_classes=12)
    assert ResNetConfig.from_timm(config.to_timm()) == config
    with pytest.raises(InputError, match=r"'seresnext50_32x4d'.*resnet18, resnet26, resnet34"):
        ResNetConfig.from_timm({"architecture": "seresnext50_32x4d"})


# All arguments of timm's ResNet, at their defaults or of no effect in evaluation mode.
DEFAULTS = {
    "block": "basic", "layers": [2, 2, 2, 2], "num_classes": 7, "in_chans": 3, "output_stride": 32,
    "global_pool": "avg", "cardinality": 1, "base_width": 64, "stem_width": 64, "stem_type": "",
    "replace_stem_pool": False, "block_reduce_first": 1, "down_kernel_size": 1, "avg_down": False,
    "channels": [64, 128, 256, 512], "act_layer": "relu", "norm_layer": "BatchNorm2d",
    "aa_layer": None, "block_args": None, "drop_rate": 0.1, "drop_path_rate": 0.05,
    "drop_block_rate": 0.2, "zero_init_last": False,
}  # fmt: skip


@pytest.mark.parametrize(
    "entries",
    [
        {"num_classes": 7, "model_args": DEFAULTS},
        {"num_classes": 7, "num_features": 512, "global_pool": "avg", "in_chans": 3},
        {"model_args": {"num_classes": 7}},
        {"pretrained_cfg": {"num_classes": 7, "global_pool": "avg"}},
        {"num_classes": 7, "model_args": None, "model_type": "timm_wrapper", "do_pooling": True},
        {"num_classes": 7, "architecture": "resnet18.a1_in1k"},
    ],
)
def test_configs_that_state_defaults_are_read(entries):
    wanted = replace(TIMM_SIZES["resnet18"], num_classes=7)
    assert ResNetConfig.from_entries({"architecture": "resnet18"} | entries) == wanted


def test_absent_hugging_face_entries_take_its_defaults():
    written = transformers.ResNetConfig().to_dict()
    ours = ResNetConfig.from_huggingface(written)
    assert ours == replace(TIMM_SIZES["resnet50"], num_classes=2)
    assert ResNetConfig.from_huggingface({}) == ours
