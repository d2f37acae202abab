"""Full-size checkpoints in their real formats with random weights, made offline.

    python -m tests.random_networks --output=out/random

writes `resnet50` (timm's config.json, torchvision's tensor names), `vit-b16`, `clip-vit-b32` and
`clip-vit-b16` (Hugging Face folders). Networks of this size load, run and write their files;
their words mean nothing.
"""

import argparse
import shutil
from pathlib import Path

import transformers

from jaxdesc.scenes.clip import build_tokenizer
from tests.models.torch_checkpoints import save_torch_resnet, torch_clip, torch_model, torch_resnet

CLIP_TOKENIZER = Path(__file__).parents[2] / "shared/data/clip_tokenizer"


def write_resnet50(folder: Path) -> None:
    """Write a ResNet-50 of 1,000 classes."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"architecture": "resnet50", "num_classes": 1000}
    save_torch_resnet(torch_resnet("bottleneck", (3, 4, 6, 3)), folder, config)


def write_vit(folder: Path) -> None:
    """Write a ViT-B/16 of 1,000 classes."""
    torch_model("ViTForImageClassification", {"num_labels": 1000}).save_pretrained(folder)
    transformers.ViTImageProcessorPil().save_pretrained(folder)


def write_clip(folder: Path, patch: int = 32) -> None:
    """Write a CLIP ViT-B, with CLIP's own tokenizer if it is next to the repository.

    The stand-in is the embedded world's tokenizer, whose end-of-text token the config then names.
    """
    if CLIP_TOKENIZER.is_dir():
        shutil.copytree(CLIP_TOKENIZER, folder, dirs_exist_ok=True)
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    else:
        tokenizer = build_tokenizer()
        tokenizer.save_pretrained(folder)
    torch_clip(
        {"patch_size": patch, "projection_dim": 512},
        {"eos_token_id": tokenizer.eos_token_id, "projection_dim": 512},
    ).save_pretrained(folder)
    transformers.CLIPImageProcessorPil().save_pretrained(folder)


def write_all(folder: Path) -> None:
    """Write all four networks."""
    write_resnet50(folder / "resnet50")
    write_vit(folder / "vit-b16")
    for patch in (32, 16):
        write_clip(folder / f"clip-vit-b{patch}", patch)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    write_all(parser.parse_args().output)
