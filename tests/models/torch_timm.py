"""timm's vision transformers and ConvNeXt in PyTorch, from their definitions.

Modules and parameters have the names of timm's `vision_transformer.py`, `deit.py` and
`convnext.py`, so that a state dict is one that timm would write. Networks return their logits, or
None, and every value that we offer to taps, channels last.
"""

import torch
from torch import nn
from torch.nn import functional

EPSILON = 1e-6


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.qkv, self.proj = (
            heads,
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )

    def forward(self, x):
        batch, length, width = x.shape
        parts = self.qkv(x).reshape(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(-2, -1) / (width // self.heads) ** 0.5).softmax(dim=-1)
        return self.proj((weights @ value).transpose(1, 2).reshape(x.shape))


class Mlp(nn.Module):
    def __init__(self, width, inner, responses=False):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.grn = Responses(inner) if responses else None

    def hidden(self, x):
        x = functional.gelu(self.fc1(x))
        return x if self.grn is None else self.grn(x)


class Responses(nn.Module):
    """Global response normalisation over rows and columns (ConvNeXt V2)."""

    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.zeros(width)) for _ in range(2))

    def forward(self, x):
        response = x.norm(dim=(1, 2), keepdim=True)
        share = response / (response.mean(dim=-1, keepdim=True) + EPSILON)
        return x + self.weight * (x * share) + self.bias


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * self.gamma


class TransformerBlock(nn.Module):
    def __init__(self, width, heads, inner, scaled):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=EPSILON) for _ in range(2))
        self.attn, self.mlp = Attention(width, heads), Mlp(width, inner)
        self.ls1, self.ls2 = (Scale(width) if scaled else nn.Identity() for _ in range(2))

    def forward(self, x, name, found):
        found[f"{name}/norm1"] = normed = self.norm1(x)
        found[f"{name}/attention"] = mixed = self.attn(normed)
        x = x + self.ls1(mixed)
        found[f"{name}/mlp"] = hidden = self.mlp.hidden(self.norm2(x))
        found[name] = x = x + self.ls2(self.mlp.fc2(hidden))
        return x


class PatchEmbed(nn.Module):
    def __init__(self, width, patch):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)


class VisionTransformer(nn.Module):
    """ViT, DeiT with a distillation token, DINOv2 with registers, whose class has no position."""

    def __init__(
        self, width, depth, heads, inner, side, patch, classes, distilled=False, registers=0,
        scaled=False,
    ):  # fmt: skip
        super().__init__()
        self.patch_embed = PatchEmbed(width, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        placed = 0 if registers else 1 + distilled
        if distilled:
            self.dist_token = nn.Parameter(torch.zeros(1, 1, width))
        if registers:
            self.reg_token = nn.Parameter(torch.zeros(1, registers, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, placed + (side // patch) ** 2, width))
        self.blocks = nn.Sequential(
            *(TransformerBlock(width, heads, inner, scaled) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self.head = nn.Linear(width, classes) if classes else nn.Identity()
        if distilled:
            self.head_dist = nn.Linear(width, classes)

    def forward(self, pixels):
        tokens, found = self.patch_embed.proj(pixels).flatten(2).transpose(1, 2), {}
        first = [getattr(self, f"{name}_token", None) for name in ("cls", "dist", "reg")]
        first = [token.expand(len(pixels), -1, -1) for token in first if token is not None]
        if hasattr(self, "reg_token"):
            x = torch.cat([*first, tokens + self.pos_embed], dim=1)
        else:
            x = torch.cat([*first, tokens], dim=1) + self.pos_embed
        for index, block in enumerate(self.blocks):
            x = block(x, f"blocks.{index}", found)
        found["norm"] = x = self.norm(x)
        if isinstance(self.head, nn.Identity):
            return None, found
        if hasattr(self, "head_dist"):
            return (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2, found
        return self.head(x[:, 0]), found


class ConvNeXtBlock(nn.Module):
    def __init__(self, width, second):
        super().__init__()
        self.conv_dw = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm, self.mlp = nn.LayerNorm(width, eps=EPSILON), Mlp(width, 4 * width, second)
        if not second:
            self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x, name, found):
        found[f"{name}/mlp"] = hidden = self.mlp.hidden(self.norm(turned(self.conv_dw(x))))
        added = self.mlp.fc2(hidden) * getattr(self, "gamma", 1)
        x = x + added.permute(0, 3, 1, 2)
        found[name] = turned(x)
        return x


class Stage(nn.Module):
    def __init__(self, inputs, width, depth, second):
        super().__init__()
        self.downsample = nn.Identity()
        if inputs != width:
            norm = nn.LayerNorm(inputs, eps=EPSILON)
            self.downsample = nn.Sequential(norm, nn.Conv2d(inputs, width, 2, 2))
        self.blocks = nn.Sequential(*(ConvNeXtBlock(width, second) for _ in range(depth)))


class Head(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(width, eps=EPSILON), nn.Linear(width, classes)


class ConvNeXt(nn.Module):
    def __init__(self, widths, depths, classes, second=False):
        super().__init__()
        patches = nn.Conv2d(3, widths[0], 4, 4)
        self.stem = nn.Sequential(patches, nn.LayerNorm(widths[0], eps=EPSILON))
        pairs = zip((widths[0], *widths[:-1]), widths, depths, strict=True)
        self.stages = nn.Sequential(*(Stage(*sizes, second) for sizes in pairs))
        self.head = Head(widths[-1], classes)

    def forward(self, pixels):
        x, found = _patches(self.stem[1], self.stem[0], pixels, norm_first=False), {}
        for index, stage in enumerate(self.stages):
            if not isinstance(stage.downsample, nn.Identity):
                x = _patches(*stage.downsample, x, norm_first=True)
            for block, layer in enumerate(stage.blocks):
                x = layer(x, f"stages.{index}.blocks.{block}", found)
            found[f"stages.{index}"] = turned(x)
        return self.head.fc(self.head.norm(x.mean((2, 3)))), found


def _patches(norm, convolution, x, norm_first):
    """A norm over channels before or after a convolution."""
    if norm_first:
        return convolution(norm(turned(x)).permute(0, 3, 1, 2))
    return norm(turned(convolution(x))).permute(0, 3, 1, 2)


def turned(x):
    """Channels last."""
    return x.permute(0, 2, 3, 1)
