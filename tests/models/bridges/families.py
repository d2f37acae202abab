"""Small random PyTorch networks of transformers' families, each with a layer to look at."""

from typing import NamedTuple

import torch
import transformers

SIZE, CLASSES = 64, 7
VIT = {
    **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"intermediate_size": 48, "image_size": SIZE, "patch_size": 16},
}
STAGES = {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 2, 1]}


class Family(NamedTuple):
    """A family of networks: the name of its classes, a small config, and a layer of patches."""

    name: str
    config: dict
    layer: str
    prefix: int = 0


FAMILIES = {
    "vit": Family("ViT", VIT, "vit.layers.1.layernorm_before", 1),
    "deit": Family("DeiT", VIT, "deit.layers.1.layernorm_before", 2),
    "beit": Family("Beit", VIT, "beit.layers.1.layernorm_before", 1),
    "dinov2": Family("Dinov2", VIT, "dinov2.encoder.layer.1.norm1", 1),
    "dinov2_registers": Family(
        "Dinov2WithRegisters",
        {**VIT, "num_register_tokens": 4},
        "dinov2_with_registers.encoder.layer.1.norm1",
        5,
    ),
    "data2vec": Family(
        "Data2VecVision", VIT, "data2vec_vision.encoder.layer.1.layernorm_before", 1
    ),
    "vit_msn": Family("ViTMSN", VIT, "vit.layers.1.layernorm_before", 1),
    "swin": Family(
        "Swin",
        {
            **{"image_size": SIZE, "patch_size": 4, "embed_dim": 8, "depths": [1, 2]},
            **{"num_heads": [1, 2], "window_size": 4},
        },
        "swin.encoder.layers.1.blocks.1.layernorm_before",
    ),
    "swinv2": Family(
        "Swinv2",
        {
            **{"image_size": SIZE, "patch_size": 4, "embed_dim": 8, "depths": [1, 2]},
            **{"num_heads": [1, 2], "window_size": 4},
        },
        "swinv2.encoder.layers.1.blocks.0",
    ),
    "convnext": Family("ConvNext", STAGES, "convnext.encoder.stages.2"),
    "convnextv2": Family("ConvNextV2", STAGES, "convnextv2.encoder.stages.2"),
    "resnet": Family("ResNet", {**STAGES, "embedding_size": 8}, "resnet.encoder.stages.2"),
    "regnet": Family(
        "RegNet", {**STAGES, "embedding_size": 8, "groups_width": 4}, "regnet.encoder.stages.2"
    ),
    "bit": Family(
        "Bit",
        {**STAGES, "hidden_sizes": [8, 16, 24, 32], "embedding_size": 8, "num_groups": 4},
        "bit.encoder.stages.2",
    ),
    "mobilenet_v1": Family(
        "MobileNetV1", {"depth_multiplier": 0.25, "min_depth": 8}, "mobilenet_v1.layer.20"
    ),
    "mobilenet_v2": Family("MobileNetV2", {"depth_multiplier": 0.25}, "mobilenet_v2.layer.10"),
    "efficientnet": Family(
        "EfficientNet",
        {
            **{"image_size": SIZE, "width_coefficient": 0.25, "depth_coefficient": 0.5},
            **{"hidden_dim": 320},
        },
        "efficientnet.encoder.blocks.5",
    ),
    "pvt": Family(
        "Pvt",
        {**STAGES, "image_size": SIZE, "num_attention_heads": [1, 2, 2, 2]},
        "pvt.encoder.block.2.0.layer_norm_1",
    ),
    "pvt_v2": Family(
        "PvtV2",
        {
            **{"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "image_size": SIZE},
            "num_attention_heads": [1, 2, 2, 2],
        },
        "pvt_v2.encoder.layers.2.layer_norm",
    ),
    "segformer": Family(
        "Segformer",
        {
            **{"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
            "num_attention_heads": [1, 2, 2, 2],
        },
        "segformer.stages.2.patch_embeddings.proj",
    ),
    "cvt": Family(
        "Cvt",
        {"embed_dim": [8, 16, 24], "num_heads": [1, 2, 2], "depth": [1, 2, 3]},
        "cvt.encoder.stages.1",
    ),
    "poolformer": Family("PoolFormer", {**STAGES}, "poolformer.encoder.block.2.1"),
    "focalnet": Family(
        "FocalNet",
        {
            **{"image_size": SIZE, "embed_dim": 8, "depths": [1, 2], "hidden_sizes": [8, 16]},
            **{"focal_levels": [2, 2], "focal_windows": [3, 3]},
        },
        "focalnet.encoder.stages.1.layers.0",
    ),
    "mobilevit": Family(
        "MobileViT",
        {
            **{"image_size": SIZE, "hidden_sizes": [16, 20, 24], "num_attention_heads": 2},
            "neck_hidden_sizes": [8, 8, 12, 16, 20, 24, 32],
        },
        "mobilevit.encoder.layer.2",
    ),
    "mobilevitv2": Family(
        "MobileViTV2", {"image_size": SIZE, "width_multiplier": 0.25}, "mobilevitv2.encoder.layer.3"
    ),
    "swiftformer": Family(
        "SwiftFormer",
        {"image_size": SIZE, "embed_dims": [8, 12, 16, 20], "depths": [1, 1, 1, 1]},
        "swiftformer.encoder.network.2",
    ),
    "hiera": Family(
        "Hiera",
        {
            **{"image_size": [SIZE, SIZE], "embed_dim": 8, "depths": [1, 1, 1, 1]},
            "num_heads": [1, 1, 2, 2],
        },
        "hiera.encoder.stages.2",
    ),
    "ijepa": Family("IJepa", VIT, "ijepa.layers.1.layernorm_before"),
    "clip": Family("CLIP", {"vision_config": VIT}, "vision_model.encoder.layers.1.layer_norm1", 1),
    "siglip": Family("Siglip", {"vision_config": VIT}, "vision_model.encoder.layers.1.layer_norm1"),
}


def network(family):
    """The network, in evaluation mode, its weights and running statistics random."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{family.name}Config")(**family.config)
    config.num_labels = CLASSES
    model = getattr(transformers, f"{family.name}ForImageClassification")(config).eval()
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if not tensor.is_floating_point() or "relative_coords" in name:
                continue
            if tensor.ndim > 1:
                tensor.normal_(0, tensor[0].numel() ** -0.5)
            elif name.endswith(("running_var", "weight")):
                tensor.uniform_(0.5, 1.5)
            else:
                tensor.normal_(0, 0.2)
    return model
