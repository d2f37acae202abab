"""Small PyTorch reference models, their results, and what the tests take of the full-size ones."""

import numpy as np
import torch
import transformers

from jaxdesc.benchmark.rivals.random_networks import (
    save_torch_resnet,
    torch_clip,
    torch_resnet,
    torchvision_state,
)

__all__ = [
    "channels_first",
    "largest_error",
    "randomised",
    "save_torch_resnet",
    "small_torch_clip",
    "torch_clip",
    "torch_model",
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


def torch_model(name, entries):
    """A model of transformers in evaluation mode whose parameters all differ."""
    kind = getattr(transformers, name)
    return randomised(kind(kind.config_class(**entries)))


def randomised(model):
    """The model in evaluation mode with other parameters, norms and layer scales around 1."""
    torch.manual_seed(0)
    modules = dict(model.named_modules())
    for path, parameter in model.named_parameters():
        module, _, leaf = path.rpartition(".")
        is_norm = isinstance(modules[module], torch.nn.LayerNorm) and leaf == "weight"
        around_one = is_norm or leaf in ("lambda1", "gamma", "layer_scale_parameter")
        spread = 0.2 if parameter.ndim < 2 else parameter[0].numel() ** -0.5
        fixed = parameter.ndim == 3 or "grn" in path
        torch.nn.init.normal_(parameter, 1.0 if around_one else 0.0, 0.5 if fixed else spread)
    return model.eval()


def largest_error(found, wanted):
    """Largest difference of any value, relative to that value's largest number; at most 1e-5."""
    errors = {
        name: float(np.abs(np.asarray(found[name]) - np.asarray(x)).max() / np.abs(x).max())
        for name, x in wanted.items()
    }
    assert max(errors.values()) < 1e-5, errors
    return max(errors.values())


def unit(features):
    return features / features.norm(dim=-1, keepdim=True)


def channels_first(pixels):
    return torch.from_numpy(np.ascontiguousarray(np.transpose(pixels, (0, 3, 1, 2))))
