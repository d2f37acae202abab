"""ResNets and their relatives in PyTorch, from their definitions; tensors have timm's names.

He et al., CVPR 2016, and CVPR 2019 for C and D; Xie et al., CVPR 2017; Zagoruyko and Komodakis,
BMVC 2016. Arguments are those of timm's `ResNet`.
"""

import torch
from torch import nn
from torch.nn import functional

from jaxdesc.benchmark.rivals.random_networks import vary_norms
from tests.models.torch_checkpoints import channels_first


def convolution(inputs, outputs, size, stride=1, groups=1):
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)


class Block(nn.Module):
    def __init__(self, kind, inputs, channels, stride, cardinality, base_width, avg_down):
        super().__init__()
        width = int(channels * base_width / 64) * cardinality
        shapes = {
            "basic": [(inputs, channels, 3, stride), (channels, channels, 3)],
            "bottleneck": [
                (inputs, width, 1), (width, width, 3, stride, cardinality), (width, 4 * channels, 1)
            ],
        }[kind]  # fmt: skip
        self.depth, outputs = len(shapes), shapes[-1][1]
        for number, shape in enumerate(shapes, 1):
            setattr(self, f"conv{number}", convolution(*shape))
            setattr(self, f"bn{number}", nn.BatchNorm2d(shape[1]))
        self.downsample = None
        if stride != 1 or inputs != outputs:
            parts = [convolution(inputs, outputs, 1, stride)]
            if avg_down:
                # A window that sticks out at the end has the mean of the pixels within.
                pool = nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False)
                parts = [pool if stride > 1 else nn.Identity(), convolution(inputs, outputs, 1)]
            self.downsample = nn.Sequential(*parts, nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = x
        for number in range(1, self.depth + 1):
            y = getattr(self, f"conv{number}")(y if number == 1 else y.relu())
            y = getattr(self, f"bn{number}")(y)
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet(nn.Module):
    def __init__(
        self, block, layers, channels=(64, 128, 256, 512), stem_width=64, num_classes=1000,
        cardinality=1, base_width=64, stem_type="", avg_down=False,
    ):  # fmt: skip
        super().__init__()
        self.conv1, inputs = convolution(3, stem_width, 7, 2), stem_width
        if stem_type == "deep":
            inputs = 2 * stem_width
            self.conv1 = nn.Sequential(
                *(convolution(3, stem_width, 3, 2), nn.BatchNorm2d(stem_width), nn.ReLU()),
                *(convolution(stem_width, stem_width, 3), nn.BatchNorm2d(stem_width), nn.ReLU()),
                convolution(stem_width, inputs, 3),
            )
        self.bn1 = nn.BatchNorm2d(inputs)
        for stage, (depth, width) in enumerate(zip(layers, channels, strict=True), 1):
            blocks = []
            for index in range(depth):
                stride = 2 if index == 0 and stage > 1 else 1
                kind = cardinality, base_width, avg_down
                blocks.append(Block(block, inputs, width, stride, *kind))
                inputs = width * (4 if block == "bottleneck" else 1)
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x):
        """The four stages and the logits, channels first."""
        x = functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        stages = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            stages.append(x := stage(x))
        return stages, self.fc(x.mean((2, 3)))


def relative(**sizes):
    """A network in evaluation mode whose BatchNorm vectors all differ."""
    torch.manual_seed(0)
    model = ResNet(**sizes)
    vary_norms(model)
    return model.eval()


def values(model, pixels):
    """Channels-last stages by name, and the logits."""
    with torch.inference_mode():
        stages, logits = model(channels_first(pixels))
    named = {f"layer{i}": x.permute(0, 2, 3, 1).numpy() for i, x in enumerate(stages, 1)}
    return named | {"logits": logits.numpy()}
