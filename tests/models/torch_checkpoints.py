"""PyTorch reference models with every parameter distinct, and their checkpoint folders."""

import json
import re

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from transformers.initialization import no_init_weights

from jaxdesc.benchmark.rivals.resnet import torchvision_names


def torchvision_state(model):
    """The model's tensors under torchvision's names."""
    state = model.state_dict()
    return {other: state[name].contiguous() for name, other in torchvision_names(state).items()}


def torch_resnet(block, depths, channels=(64, 128, 256, 512), stem=64, classes=1000):
    """A ResNet v1.5 in evaluation mode whose BatchNorm vectors all differ.

    Some variances are small, so that a wrong epsilon shows; the scales make up for them.
    """
    expansion = {"basic": 1, "bottleneck": 4}[block]
    torch.manual_seed(0)
    model = transformers.ResNetForImageClassification(
        transformers.ResNetConfig(
            embedding_size=stem,
            hidden_sizes=[width * expansion for width in channels],
            depths=list(depths),
            layer_type=block,
            downsample_in_bottleneck=False,
            num_labels=classes,
        )
    )
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.copy_(torch.logspace(-3, 0, module.num_features))
            deviation = module.running_var.sqrt()
            with torch.no_grad():
                module.weight.uniform_(0.4, 0.9).mul_(deviation)
                module.bias.normal_(std=0.2)
                module.running_mean.normal_(std=0.3).mul_(deviation)
    return model.eval()


def save_torch_resnet(model, folder, config):
    """Write timm's config.json and the weights under torchvision's names."""
    save_file(torchvision_state(model), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))


def torch_resnet_stages(model, pixels):
    """Channels-last outputs of the four stages, and the logits."""
    with torch.inference_mode():
        out = model(channels_first(pixels), output_hidden_states=True)
    stages = [stage.permute(0, 2, 3, 1).numpy() for stage in out.hidden_states[1:]]
    return stages, out.logits.numpy()


def torch_clip(vision=None, text=None, **options):
    """A CLIPModel in evaluation mode whose vectors all differ and whose attention is not flat."""
    torch.manual_seed(0)
    with no_init_weights():
        model = transformers.CLIPModel(
            transformers.CLIPConfig(vision_config=vision, text_config=text, **options)
        )
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            scale = re.search(r"norm\d?\.weight", name)
            torch.nn.init.normal_(parameter, mean=1.0 if scale else 0.0, std=0.2)
        elif parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model.eval()


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
