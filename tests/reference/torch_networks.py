"""Rivals of the networks in PyTorch: ResNet, Grad-CAM three ways, and CLIP's image tower.

All read the same checkpoint folders as the library and take what PyTorch takes: pixels [B, 3, H, W]
in float32, normalised. `grad_cam` is the best way that PyTorch has, the head alone differentiated;
`grad_cam_package` is the package pytorch-grad-cam, whose backward pass goes through the whole
network, and `grad_cam_hooks` is what that package does, written out.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from transformers import CLIPModel, ResNetForImageClassification
from transformers import ResNetConfig as TorchConfig

from jaxdesc.models.resnet import EXPANSION, ResNetConfig
from tests.models.torch_checkpoints import torchvision_names

STAGES = ("layer1", "layer2", "layer3", "layer4")


class Block(nn.Module):
    """A basic or a bottleneck block (v1.5) of folded convolutions, named as torchvision does."""

    def __init__(self, tensors, prefix, stride):
        super().__init__()
        self.depth = 3 if f"{prefix}.conv3.weight" in tensors else 2
        for i in range(1, self.depth + 1):
            own = stride if i == self.depth - 1 else 1  # the 3 × 3 that may change the size
            name = f"{prefix}.conv{i}", f"{prefix}.bn{i}"
            setattr(self, f"conv{i}", folded_convolution(tensors, *name, own))
        self.downsample = None
        if f"{prefix}.downsample.0.weight" in tensors:
            name = f"{prefix}.downsample.0", f"{prefix}.downsample.1"
            self.downsample = folded_convolution(tensors, *name, stride)

    def forward(self, x):
        # In place wherever autograd allows it: the backward passes below need no more than this.
        y = functional.relu_(self.conv1(x))
        if self.depth == 3:
            y = functional.relu_(self.conv2(y))
        y = self.last(y)
        return y.add_(x if self.downsample is None else self.downsample(x)).relu_()

    @property
    def last(self):
        return self.conv3 if self.depth == 3 else self.conv2


class ResNet(nn.Module):
    """torchvision's ResNet of the tensors of a state dict, BatchNorm folded, channels last."""

    def __init__(self, tensors):
        super().__init__()
        self.conv1 = folded_convolution(tensors, "conv1", "bn1", 2)
        for stage in STAGES:
            depth = len({name.split(".")[1] for name in tensors if name.startswith(f"{stage}.")})
            strides = [1 if stage == "layer1" else 2] + [1] * (depth - 1)
            blocks = (Block(tensors, f"{stage}.{i}", s) for i, s in enumerate(strides))
            setattr(self, stage, nn.Sequential(*blocks))
        self.fc = nn.Linear(*reversed(tensors["fc.weight"].shape))
        self.fc.weight.data, self.fc.bias.data = tensors["fc.weight"], tensors["fc.bias"]
        self.eval().to(memory_format=torch.channels_last)

    def trunk(self, pixels):
        x = functional.max_pool2d(functional.relu_(self.conv1(pixels)), 3, 2, 1)
        for stage in STAGES:
            x = getattr(self, stage)(x)
        return x

    def head(self, maps):
        return self.fc(maps.mean((2, 3)))

    def forward(self, pixels):
        return self.head(self.trunk(pixels))


def folded_convolution(tensors, name, norm, stride):
    """A convolution with the BatchNorm behind it in its weights, folded in float64."""
    scale, shift, mean, variance = (
        tensors[f"{norm}.{part}"].double()
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    multiplier = scale / torch.sqrt(variance + 1e-5)
    kernel = tensors[f"{name}.weight"].double() * multiplier[:, None, None, None]
    outputs, inputs, size, _ = kernel.shape
    folded = nn.Conv2d(inputs, outputs, size, stride, size // 2)
    folded.weight.data, folded.bias.data = kernel.float(), (shift - mean * multiplier).float()
    return folded


# ResNet-50, 224 px, two threads of an AMD EPYC with AVX-512, PyTorch 2.13; medians of four rounds
# in which all took turns, on a machine that other work shared; images/s at batch 16 and 64:
#     eager, channels first                          3.1    3.2
#     eager, channels last                           4.5    6.0
#     eager, channels last, in place                 5.1    8.2
#     torch.jit freeze, optimize_for_inference       6.3    9.8
#     torch.compile, inductor freezing               9.2    9.8
#     oneDNN's fused convolutions, weights packed    9.7   10.5
# On idle cores, at batch 16: eager in place 19.5, oneDNN's 22.3, and at 64 in another run 22.0.
# The last are what inductor's freezing calls too; by hand they need no compiler and no 34 seconds.
class FusedTrunk:
    """A ResNet's trunk in oneDNN's convolutions, which add, cut at zero and have packed weights.

    How weights are packed best depends on the size of the input: they are packed for the largest
    batch so far, and serve a smaller one, such as the last, as well.
    """

    def __init__(self, model):
        self.model, self.packed, self.batch, self.size = model, {}, 0, None

    @staticmethod
    def available():
        """Whether this build of PyTorch has these operators."""
        return torch.backends.mkldnn.is_available() and hasattr(
            torch.ops.mkldnn, "_convolution_pointwise_"
        )

    def __call__(self, pixels):
        if len(pixels) > self.batch or pixels.shape[2:] != self.size:
            self._pack(pixels)
        x = functional.max_pool2d(self._convolve(self.model.conv1, pixels, "relu"), 3, 2, 1)
        for stage in STAGES:
            for block in getattr(self.model, stage):
                x = self._block(block, x)
        return x

    def _pack(self, pixels):
        def pack(convolution, inputs):
            self.packed[convolution] = torch.ops.mkldnn._reorder_convolution_weight(
                convolution.weight.detach(),
                convolution.padding,
                convolution.stride,
                convolution.dilation,
                convolution.groups,
                list(inputs[0].shape),
            )

        convolutions = [m for m in self.model.modules() if isinstance(m, nn.Conv2d)]
        hooks = [m.register_forward_pre_hook(pack) for m in convolutions]
        self.model.trunk(pixels)
        for hook in hooks:
            hook.remove()
        self.batch, self.size = len(pixels), pixels.shape[2:]

    def _block(self, block, x):
        shortcut = x if block.downsample is None else self._convolve(block.downsample, x, "none")
        y = self._convolve(block.conv1, x, "relu")
        if block.depth == 3:
            y = self._convolve(block.conv2, y, "relu")
        # Adds to the shortcut where that lies: nothing else reads it any more.
        return torch.ops.mkldnn._convolution_pointwise_.binary(
            shortcut, y, *self._arguments(block.last), "add", 1.0, "relu", [], ""
        )

    def _convolve(self, convolution, x, then):
        return torch.ops.mkldnn._convolution_pointwise(
            x, *self._arguments(convolution), then, [], ""
        )

    def _arguments(self, c):
        return self.packed[c], c.bias, c.padding, c.stride, c.dilation, c.groups


class Target:
    """A ResNet split where Grad-CAM looks, in inference mode.

    Attributes:
        model: the network as a module, for hooks.
    """

    def __init__(self, model, fused=None):
        self.model = model
        usable = FusedTrunk.available() if fused is None else fused
        self._trunk = FusedTrunk(model) if usable else model.trunk

    @torch.inference_mode()
    def trunk(self, pixels):
        """Return the last feature maps [B, C, h, w] of pixels [B, 3, H, W]."""
        return self._trunk(pixels.contiguous(memory_format=torch.channels_last))

    def head(self, maps):
        """Return logits [B, classes] of feature maps."""
        return self.model.head(maps)

    @torch.inference_mode()
    def logits(self, pixels):
        """Return logits [B, classes] of pixels."""
        return self.head(self.trunk(pixels))


def placed(pixels):
    """What the rivals take of pixels [B, H, W, 3], channels last in memory."""
    return torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2)


def load_target(folder, fused=None):
    """Read timm's folder with torchvision's tensors.

    Args:
        folder: with model.safetensors.
        fused: whether to use oneDNN's operators; by default where there are any.
    """
    return Target(ResNet(load_file(Path(folder) / "model.safetensors")), fused)


def grad_cam(target, pixels, classes=None):
    """Grad-CAM maps [B, h, w]: the trunk once, and a gradient of the head alone."""
    maps = target.trunk(pixels).clone().requires_grad_()  # a clone, which autograd may record
    logits = target.head(maps)
    classes = logits.argmax(1) if classes is None else classes
    # No image's logit depends on another's maps, so the gradient of their sum is all of theirs.
    (gradients,) = torch.autograd.grad(_chosen(logits, classes).sum(), maps)
    with torch.inference_mode():
        weights = gradients.mean((2, 3))
        return torch.einsum("bchw,bc->bhw", maps.detach(), weights).relu_()


class Plain(nn.Module):
    """Hugging Face's ResNet of the same weights as it comes: BatchNorm is not folded."""

    def __init__(self, folder):
        super().__init__()
        folder = Path(folder)
        tensors = load_file(folder / "model.safetensors")
        sizes = ResNetConfig.from_timm(json.loads((folder / "config.json").read_text()))
        widths = [width * EXPANSION[sizes.block] for width in sizes.channels]
        self.model = ResNetForImageClassification(
            TorchConfig(
                embedding_size=sizes.stem_width,
                hidden_sizes=widths,
                depths=list(sizes.layers),
                layer_type=sizes.block,
                num_labels=sizes.num_classes,
            )
        ).eval()
        names = torchvision_names(self.model.state_dict())
        # Checkpoints of timm's lack the counters of batches, which nothing reads here.
        known = {name: tensors[other] for name, other in names.items() if other in tensors}
        lacking = self.model.load_state_dict(known, strict=False).missing_keys
        assert all(name.endswith("num_batches_tracked") for name in lacking), lacking
        self.layer4 = self.model.resnet.encoder.stages[3].layers

    def forward(self, pixels):
        return self.model(pixels.contiguous()).logits


def load_plain(folder):
    """A target for `grad_cam_hooks` alone, as a user of PyTorch has it."""
    return SimpleNamespace(model=Plain(folder))


def grad_cam_hooks(target, pixels, classes=None):
    """What pytorch-grad-cam does: hooks on the last stage, and a backward pass through it all."""
    kept = {}

    def keep(module, inputs, output):
        kept["maps"] = output.detach()
        output.register_hook(lambda gradient: kept.update(gradients=gradient.detach()))

    hook = target.model.layer4[-1].register_forward_hook(keep)
    logits = target.model(pixels.contiguous(memory_format=torch.channels_last))
    classes = logits.argmax(1) if classes is None else classes
    target.model.zero_grad()
    _chosen(logits, classes).sum().backward()
    hook.remove()
    maps, gradients = (kept[name].numpy() for name in ("maps", "gradients"))
    weights = gradients.mean(axis=(2, 3))
    return np.maximum((weights[:, :, None, None] * maps).sum(axis=1), 0)


def package_available():
    """Whether pytorch-grad-cam can be imported, with all that it imports."""
    return all(find_spec(name) for name in ("pytorch_grad_cam", "torchvision"))


def grad_cam_package(target, pixels, classes=None, raw=False):
    """Grad-CAM of the package pytorch-grad-cam (the distribution grad-cam), where installed.

    Args:
        target: the network.
        pixels: [B, 3, H, W].
        classes: of each image; the predicted ones by default.
        raw: return the maps [B, h, w] before they are upsampled and normalised, as the others do;
            otherwise the package's own result, [B, H, W] between 0 and 1.
    """
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    wanted = None if classes is None else [ClassifierOutputTarget(int(c)) for c in classes]
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    with GradCAM(model=target.model, target_layers=[target.model.layer4[-1]]) as cam:
        whole = cam(input_tensor=pixels, targets=wanted)
        if not raw:
            return whole
        taken = cam.activations_and_grads
        maps, gradients = taken.activations[0].numpy(), taken.gradients[0].numpy()
        return np.maximum(cam.get_cam_image(pixels, None, None, maps, gradients), 0)


def _chosen(logits, classes):
    return logits[torch.arange(len(logits)), torch.as_tensor(classes)]


class PackedLinear:
    """Linear layers of the same input as one of oneDNN's products, its weights packed."""

    def __init__(self, *layers):
        self.weight = torch.cat([layer.weight.detach() for layer in layers])
        self.bias = torch.cat([layer.bias.detach() for layer in layers])
        self.packed, self.rows = None, 0

    def __call__(self, x):
        return torch.ops.mkldnn._linear_pointwise(x, *self._arguments(x), "none", [], "")

    def added(self, x, other):
        """The product of x, added to another array."""
        return torch.ops.mkldnn._linear_pointwise.binary(x, other, *self._arguments(x), "add")

    def _arguments(self, x):
        rows = x.shape[:-1].numel()
        if rows > self.rows:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight, rows)
            self.rows = rows
        return self.packed, self.bias


# CLIP ViT-B/32's image tower on the same machine, batch 32, images/s, medians of four rounds:
#     eager, sdpa                                               15.5
#     oneDNN's products, weights packed, quick_gelu in place    19.2
#     also queries, keys, values as one, and sums in products   20.9
# and at batch 64 in other rounds, as processor seconds an image:
#     eager 0.152, torch.compile with inductor freezing 0.139 (minutes to compile); here 0.112
# PyTorch's own products are MKL's, which are slower than oneDNN's on this processor.
class FusedTower:
    """The image tower of a CLIPModel in oneDNN's products."""

    def __init__(self, model):
        self.vision = model.vision_model
        self.heads = model.config.vision_config.num_attention_heads
        self.layers = [
            (
                layer,
                PackedLinear(*(getattr(layer.self_attn, f"{name}_proj") for name in "qkv")),
                PackedLinear(layer.self_attn.out_proj),
                PackedLinear(layer.mlp.fc1),
                PackedLinear(layer.mlp.fc2),
            )
            for layer in self.vision.encoder.layers
        ]
        quick = model.config.vision_config.hidden_act == "quick_gelu"
        self.activation = quick_gelu if quick else self.layers[0][0].mlp.activation_fn

    @staticmethod
    def available():
        """Whether this build of PyTorch has these operators."""
        return torch.backends.mkldnn.is_available() and hasattr(
            torch.ops.mkldnn, "_linear_pointwise"
        )

    def __call__(self, pixels):
        x = self.vision.pre_layrnorm(self.vision.embeddings(pixels))
        for layer, attended, out, first, second in self.layers:
            x = out.added(self._attend(attended(layer.layer_norm1(x))), x)
            x = second.added(self.activation(first(layer.layer_norm2(x))), x)
        return self.vision.post_layernorm(x[:, 0])

    def _attend(self, attended):
        batch, length, _ = attended.shape
        parts = attended.view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(*parts)
        return seen.transpose(1, 2).reshape(batch, length, -1)


def quick_gelu(x):
    """In one array more, not two."""
    return torch.mul(x, 1.702).sigmoid_().mul_(x)


class Clip:
    """CLIP's image tower and projection."""

    def __init__(self, model, fused=None):
        usable = FusedTower.available() if fused is None else fused
        self.tower = FusedTower(model) if usable else _eager_tower(model)
        self.projection = model.visual_projection


def _eager_tower(model):
    return lambda pixels: model.vision_model(pixel_values=pixels).pooler_output


def load_clip(folder, fused=None):
    """Read Hugging Face's CLIP.

    Args:
        folder: as `CLIPModel.from_pretrained` takes it.
        fused: whether to use oneDNN's operators; by default where there are any.
    """
    model = CLIPModel.from_pretrained(folder, local_files_only=True, attn_implementation="sdpa")
    return Clip(model.eval(), fused)


@torch.inference_mode()
def image_features(clip, pixels):
    """Unit features [B, d] of pixels [B, 3, H, W]."""
    return functional.normalize(clip.projection(clip.tower(pixels)), dim=-1)
