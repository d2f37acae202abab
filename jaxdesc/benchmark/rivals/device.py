"""PyTorch's best ways to run the networks and the scoring on a device of its own.

Each function gives ways to compute one stage by name, `torch.compile` first; some may fail, as a
compiler is not everywhere. Products of float32 are float32 ones: TF32 is off. A way returns when
its work is queued; `wait` returns when it is done.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import CLIPModel

from jaxdesc.benchmark.rivals import resnet, scoring

COMPILED, EAGER, ONEDNN = "torch.compile", "eager", "oneDNN's operators"
BLOCKS = {"cpu": 512, "cuda": 4096}  # concepts at a time


def choose(platform):
    """Return the device for a platform of JAX's: "cuda" if that is a GPU and PyTorch has one."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return "cuda" if platform == "gpu" and torch.cuda.is_available() else "cpu"


def wait(device):
    """Wait for all that is queued."""
    if device == "cuda":
        torch.cuda.synchronize()


def release(device):
    """Give back memory and compiled programs that nothing needs any more."""
    torch._dynamo.reset()
    if device == "cuda":
        torch.cuda.empty_cache()


def target_ways(folder, precision, pixels, device, cam):
    """Logits of a batch [B, H, W, 3] of normalised pixels, or Grad-CAM's maps."""
    dtype = getattr(torch, precision)
    model = resnet.ResNet(load_file(Path(folder) / "model.safetensors")).to(device, dtype)
    model = model.to(memory_format=torch.channels_last)
    pixels = resnet.placed(pixels).to(device, dtype)
    compute = resnet.grad_cam if cam else resnet.Target.logits
    ways = {
        COMPILED: resnet.Target(model, False, torch.compile),
        EAGER: resnet.Target(model, False),
    }
    if device == "cpu" and precision == "float32" and resnet.FusedTrunk.available():
        ways[ONEDNN] = resnet.Target(model, True)
    return {name: lambda way=way: compute(way, pixels) for name, way in ways.items()}


def clip_ways(folder, precision, batch, device, texts):
    """Unit features of normalised pixels [B, H, W, 3], or of token ids [B, L], with SDPA."""
    dtype = getattr(torch, precision)
    model = CLIPModel.from_pretrained(folder, local_files_only=True, attn_implementation="sdpa")
    model = model.eval().to(device, dtype)

    def image(pixels):
        pooled = model.vision_model(pixel_values=pixels).pooler_output
        return functional.normalize(model.visual_projection(pooled).float(), dim=-1)

    def text(ids):
        pooled = model.text_model(input_ids=ids).pooler_output
        return functional.normalize(model.text_projection(pooled).float(), dim=-1)

    encode = text if texts else image
    given = torch.tensor(batch).long() if texts else resnet.placed(batch).to(dtype)
    given = given.to(device)
    ways = {COMPILED: torch.compile(encode), EAGER: encode}
    return {name: lambda way=way: _inferred(way, given) for name, way in ways.items()}


@torch.inference_mode()
def _inferred(compute, batch):
    return compute(batch)


def scoring_ways(arrays, kappa, device):
    """S of all neurons and concepts, from arrays of the host; S stays on the device."""

    def way(aggregate, between):
        return lambda: scoring.scores(*arrays, kappa, aggregate, BLOCKS[device], between(), device)

    return {
        f"{COMPILED}, sparse": way("sparse", scoring.fused),
        f"{COMPILED}, bag": way("bag", scoring.fused),
        f"{EAGER}, sparse": way("sparse", lambda: scoring.difference),
        f"{EAGER}, bag": way("bag", lambda: scoring.difference),
    }
