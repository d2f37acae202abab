"""Checkpoint folders of networks with random weights, every parameter distinct, made offline.

Networks of a real size load, run and write their files; their words mean nothing.
"""

import json
import re

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
    """A ResNet v1.5 in evaluation mode whose BatchNorm vectors all differ."""
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
    vary_norms(model)
    return model.eval()


def vary_norms(model):
    """Make all BatchNorm vectors of a network differ.

    Some variances are small, so that a wrong epsilon shows; the scales make up for them.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.copy_(torch.logspace(-3, 0, module.num_features))
            deviation = module.running_var.sqrt()
            with torch.no_grad():
                module.weight.uniform_(0.4, 0.9).mul_(deviation)
                module.bias.normal_(std=0.2)
                module.running_mean.normal_(std=0.3).mul_(deviation)


def save_torch_resnet(model, folder, config):
    """Write timm's config.json and the weights under torchvision's names."""
    save_file(torchvision_state(model), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))


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


def write_resnet(folder, config, block="bottleneck", depths=(3, 4, 6, 3), **sizes):
    """Write a ResNet's folder, by default a ResNet-50's, with timm's `config`."""
    folder.mkdir(parents=True)
    model = torch_resnet(block, depths, classes=config["num_classes"], **sizes)
    save_torch_resnet(model, folder, config)


def write_clip(folder, tokenizer, vision, text):
    """Write a CLIP's folder: entries of both towers' configs, and a tokenizer whose ids they get.

    The common space has 512 dimensions unless the entries say otherwise.
    """
    width = vision.get("projection_dim", 512)
    ids = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    space = {"projection_dim": width}
    model = torch_clip(space | vision, space | ids | text, projection_dim=width)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = model.config.vision_config.image_size
    transformers.CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    ).save_pretrained(folder)
