"""A ResNet in PyTorch, and Grad-CAM in three ways.

All read the same checkpoint folders as the library and take pixels [B, 3, H, W] in float32,
normalised. `grad_cam` is PyTorch's best way, a gradient of the head alone; `grad_cam_package` is
the package pytorch-grad-cam, whose backward pass goes through the whole network, and
`grad_cam_hooks` is that package's method written out.
"""

import json
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from transformers import ResNetConfig as TorchConfig
from transformers import ResNetForImageClassification

from jaxdesc.models.resnet_config import EXPANSION, ResNetConfig

STAGES = ("layer1", "layer2", "layer3", "layer4")

TORCHVISION_NAMES = (
    (r"resnet\.embedder\.embedder\.convolution\.", "conv1."),
    (r"resnet\.embedder\.embedder\.normalization\.", "bn1."),
    (r"resnet\.encoder\.stages\.(\d+)\.layers\.", lambda m: f"layer{int(m[1]) + 1}."),
    (r"(?<=\d\.)layer\.(\d+)\.convolution\.", lambda m: f"conv{int(m[1]) + 1}."),
    (r"(?<=\d\.)layer\.(\d+)\.normalization\.", lambda m: f"bn{int(m[1]) + 1}."),
    (r"shortcut\.convolution\.", "downsample.0."),
    (r"shortcut\.normalization\.", "downsample.1."),
    (r"classifier\.1\.", "fc."),
)


def torchvision_names(names):
    """Map Hugging Face's tensor names to torchvision's."""
    found = {}
    for name in names:
        found[name] = name
        for pattern, replacement in TORCHVISION_NAMES:
            found[name] = re.sub(pattern, replacement, found[name])
    return found


class Block(nn.Module):
    """A basic or a bottleneck block (v1.5) of folded convolutions, named as torchvision does."""

    def __init__(self, tensors, prefix, stride):
        super().__init__()
        self.depth = 3 if f"{prefix}.conv3.weight" in tensors else 2
        for i in range(1, self.depth + 1):
            step = stride if i == self.depth - 1 else 1  # the 3 × 3 may change the size
            name = f"{prefix}.conv{i}", f"{prefix}.bn{i}"
            setattr(self, f"conv{i}", folded_convolution(tensors, *name, step))
        self.downsample = None
        if f"{prefix}.downsample.0.weight" in tensors:
            name = f"{prefix}.downsample.0", f"{prefix}.downsample.1"
            self.downsample = folded_convolution(tensors, *name, stride)

    def forward(self, x):
        """Return the block's output."""
        # In place as far as autograd allows: the backward passes below need no more.
        y = functional.relu_(self.conv1(x))
        if self.depth == 3:
            y = functional.relu_(self.conv2(y))
        y = self.last(y)
        return y.add_(x if self.downsample is None else self.downsample(x)).relu_()

    @property
    def last(self):
        """The convolution before the sum."""
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
        """Return the last feature maps [B, C, h, w]."""
        x = functional.max_pool2d(functional.relu_(self.conv1(pixels)), 3, 2, 1)
        for stage in STAGES:
            x = getattr(self, stage)(x)
        return x

    def head(self, maps):
        """Return logits [B, classes] of feature maps."""
        return self.fc(maps.mean((2, 3)))

    def forward(self, pixels):
        """Return logits [B, classes]."""
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


class FusedTrunk:
    """A ResNet's trunk in oneDNN's convolutions, which add, cut at zero and have packed weights.

    The best packing depends on the size of the input: weights are packed for the largest batch so
    far, and serve a smaller one, such as the last, too. This is what inductor's freezing calls, and
    it needs no compiler.
    """

    def __init__(self, model):
        self.model, self.packed, self.batch, self.size = model, {}, 0, None

    @staticmethod
    def available():
        """True if this build of PyTorch has these operators."""
        return torch.backends.mkldnn.is_available() and hasattr(
            torch.ops.mkldnn, "_convolution_pointwise_"
        )

    def __call__(self, pixels):
        """Return the last feature maps [B, C, h, w]."""
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
        # Adds in place: nothing else reads the shortcut any more.
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

    `wrap` compiles the trunk, as `torch.compile` does, unless oneDNN's operators are used.

    Attributes:
        model: the network as a module, for hooks.
    """

    def __init__(self, model, fused=None, wrap=lambda trunk: trunk):
        self.model = model
        usable = FusedTrunk.available() if fused is None else fused
        self._trunk = FusedTrunk(model) if usable else wrap(model.trunk)

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
    """Pixels [B, H, W, 3] as the rivals take them, channels last in memory."""
    return torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2)


def load_target(folder, fused=None):
    """Read timm's folder with torchvision's tensors.

    Args:
        folder: with model.safetensors.
        fused: use oneDNN's operators; by default if there are any.
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
    """Hugging Face's ResNet with the same weights, BatchNorm not folded."""

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
        """Return logits [B, classes]."""
        return self.model(pixels.contiguous()).logits


def load_plain(folder):
    """Load a target for `grad_cam_hooks` alone, as a user of PyTorch has it."""
    return SimpleNamespace(model=Plain(folder))


def grad_cam_hooks(target, pixels, classes=None):
    """Grad-CAM as pytorch-grad-cam does it: hooks on the last stage, and a whole backward pass."""
    kept = {}

    def keep(_module, _inputs, output):
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
    """True if pytorch-grad-cam can be imported, with all its dependencies."""
    return all(find_spec(name) for name in ("pytorch_grad_cam", "torchvision"))


def grad_cam_package(target, pixels, classes=None, raw=False):
    """Grad-CAM of the package pytorch-grad-cam (the distribution grad-cam), where installed.

    Args:
        target: the network.
        pixels: [B, 3, H, W].
        classes: of each image; the predicted ones by default.
        raw: return the maps [B, h, w] before they are upsampled and normalised, as the others do;
            otherwise the package's result, [B, H, W] between 0 and 1.
    """
    package = import_module("pytorch_grad_cam")  # not a dependency: timed if it is there
    output = import_module("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget
    wanted = None if classes is None else [output(int(c)) for c in classes]
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    with package.GradCAM(model=target.model, target_layers=[target.model.layer4[-1]]) as cam:
        whole = cam(input_tensor=pixels, targets=wanted)
        if not raw:
            return whole
        taken = cam.activations_and_grads
        maps, gradients = taken.activations[0].numpy(), taken.gradients[0].numpy()
        return np.maximum(cam.get_cam_image(pixels, None, None, maps, gradients), 0)


def _chosen(logits, classes):
    rows = torch.arange(len(logits), device=logits.device)
    return logits[rows, torch.as_tensor(classes, device=logits.device)]
