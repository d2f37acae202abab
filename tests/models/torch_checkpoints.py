"""Small PyTorch reference models, their results, and what the tests take of the full-size ones."""

import numpy as np
import torch

from jaxdesc.benchmark.rivals.random_networks import (
    save_torch_resnet,
    torch_clip,
    torch_resnet,
    torchvision_state,
)

__all__ = [
    "channels_first",
    "save_torch_resnet",
    "small_torch_clip",
    "torch_clip",
    "torch_resnet",
    "torch_resnet_stages",
    "torchvision_state",
    "unit",
]


def torch_resnet_stages(model, pixels):
    """Channels-last outputs of the four stages, and the logits."""
    with torch.inference_mode():
        out = model(channels_first(pixels), output_hidden_states=True)
    stages = [stage.permute(0, 2, 3, 1).numpy() for stage in out.hidden_states[1:]]
    return stages, out.logits.numpy()


SMALL = {"intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL_VISION = SMALL | {"hidden_size": 32, "image_size": 24, "patch_size": 8}
TOKENS = {"vocab_size": 100, "max_position_embeddings": 12, "eos_token_id": 99, "bos_token_id": 98}
SMALL_TEXT = SMALL | TOKENS | {"hidden_size": 48}


def small_torch_clip(vision=None, text=None, **options):
    """A CLIPModel of two narrow layers a tower, its towers of different widths."""
    return torch_clip(
        SMALL_VISION | (vision or {}),
        SMALL_TEXT | (text or {}),
        **{"projection_dim": 16, **options},
    )


def unit(features):
    return features / features.norm(dim=-1, keepdim=True)


def channels_first(pixels):
    return torch.from_numpy(np.ascontiguousarray(np.transpose(pixels, (0, 3, 1, 2))))
