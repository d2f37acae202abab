"""CLIP's image tower in PyTorch, with oneDNN's operators or as Hugging Face has it."""

import torch
from torch.nn import functional
from transformers import CLIPModel


class PackedLinear:
    """Linear layers of the same input as one of oneDNN's products, its weights packed."""

    def __init__(self, *layers):
        self.weight = torch.cat([layer.weight.detach() for layer in layers])
        self.bias = torch.cat([layer.bias.detach() for layer in layers])
        self.packed, self.rows = None, 0

    def __call__(self, x):
        """Return all layers' outputs, one after the other."""
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


class FusedTower:
    """The image tower of a CLIPModel in oneDNN's products, which are faster than PyTorch's own."""

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
        """True if this build of PyTorch has these operators."""
        return torch.backends.mkldnn.is_available() and hasattr(
            torch.ops.mkldnn, "_linear_pointwise"
        )

    def __call__(self, pixels):
        """Return the class token's features [B, d] of pixels."""
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
    """QuickGELU with one temporary array instead of two."""
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
        fused: use oneDNN's operators; by default if there are any.
    """
    model = CLIPModel.from_pretrained(folder, local_files_only=True, attn_implementation="sdpa")
    return Clip(model.eval(), fused)


@torch.inference_mode()
def image_features(clip, pixels):
    """Unit features [B, d] of pixels [B, 3, H, W]."""
    return functional.normalize(clip.projection(clip.tower(pixels)), dim=-1)
