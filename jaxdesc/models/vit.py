"""Vision transformers in Flax NNX: ViT, DeiT, DINOv2, and the image towers of CLIP and SigLIP.

Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021; Touvron et al., "Training
Data-Efficient Image Transformers", ICML 2021; Oquab et al., "DINOv2", TMLR 2024; Darcet et al.,
"Vision Transformers Need Registers", ICLR 2024. Numbers follow Hugging Face transformers.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxdesc.models import checkpoint
from jaxdesc.models.precision import float32_products
from jaxdesc.models.settings import parsed, read_config
from jaxdesc.models.source import is_converted
from jaxdesc.models.taps import Tap, untouched
from jaxdesc.models.tensors import Tensors, read_tensors
from jaxdesc.models.transformer import Tokens, encoded, layer_norm, layers, linear, normal
from jaxdesc.models.vit_config import ViTConfig, from_entries

CUBIC = -0.75  # torch's coefficient of bicubic interpolation without antialiasing


class ViT(nnx.Module):
    """A vision transformer over square patches, with a head or without."""

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs):
        width, patch = config.hidden_size, config.patch_size
        positions = (config.image_size // patch) ** 2 + config.placed

        def tokens(count: int) -> nnx.Param[Array] | None:
            shape = 1, count, width
            return nnx.Param(normal(0.02)(rngs.params(), shape)) if count else None

        self.config = config
        self.class_token = tokens(min(1, config.class_tokens))
        self.distillation_token = tokens(max(0, config.class_tokens - 1))
        self.register_tokens = tokens(config.registers)
        self.positions = nnx.Param(normal(0.02)(rngs.params(), (1, positions, width)))
        self.patch_embedding = nnx.Conv(
            3,
            width,
            (patch, patch),
            strides=(patch, patch),
            padding="VALID",
            use_bias=config.patch_bias,
            kernel_init=normal(0.02),
            rngs=rngs,
        )
        self.pre_norm = layer_norm(config, rngs) if config.pre_norm else None
        kind = {"scaled": config.scaled, "gated": config.gated}
        self.blocks = nnx.List(layers(config, **kind, rngs=rngs))
        self.norm = layer_norm(config, rngs)
        inputs, classes = width * (2 if config.head == "mean" else 1), config.num_classes
        both = classes and config.head == "both"
        self.head = linear(inputs, classes, 0.02, rngs) if classes else None
        self.distilled_head = linear(inputs, classes, 0.02, rngs) if both else None

    @float32_products
    def __call__(
        self, pixels: Float[Array, "batch height width 3"], tap: Tap = untouched
    ) -> Float[Array, "batch classes"] | None:
        """Return the class logits, float32, of normalised images; None without a head.

        The tap gets the parts of each block, as `transformer.Layer` offers them, and all tokens
        after the last norm, as `norm`.
        """
        x = encoded(self.blocks, self.embed(pixels), tap)
        x = tap("norm", self.norm(x)).astype(jnp.float32)
        if self.head is None:
            return None
        if self.config.head == "mean":
            patches = x[:, self.config.prefix :].mean(axis=1)
            return self.head(jnp.concatenate([x[:, 0], patches], axis=1))
        logits = self.head(x[:, 0])
        if self.distilled_head is None:
            return logits
        return (logits + self.distilled_head(x[:, 1])) / 2

    def embed(self, pixels: Float[Array, "batch height width 3"]) -> Tokens:
        """Return every token before the first block: class tokens, registers, patches."""
        patches = self.patch_embedding(jnp.asarray(pixels, self.patch_embedding.kernel.dtype))
        count, rows, columns, width = patches.shape
        placed, learned = self.config.placed, self.positions[...]
        places = interpolated(learned[:, placed:], rows, columns, self.config.antialias)
        x = patches.reshape(count, rows * columns, width) + places.astype(patches.dtype)
        first = [token for token in (self.class_token, self.distillation_token) if token]
        prefix = [token[...] for token in first]
        if placed:
            prefix = [jnp.concatenate(prefix, axis=1) + learned[:, :placed]]
        prefix += [self.register_tokens[...]] if self.register_tokens else []
        x = jnp.concatenate([*(jnp.repeat(p, count, axis=0) for p in prefix), x], axis=1)
        return x if self.pre_norm is None else self.pre_norm(x)


def interpolated(
    learned: Float[Array, "1 positions width"], rows: int, columns: int, antialias: bool
) -> Float[Array, "1 patches width"]:
    """Return positions of a square grid for one of other sides, by torch's bicubic resizing.

    Hugging Face resizes ViT's, DeiT's and DINOv2's without antialiasing, with the coefficient
    -0.75, and those of DINOv2 with registers with it, with -0.5.
    """
    side, width = round(learned.shape[1] ** 0.5), learned.shape[2]
    if (rows, columns) == (side, side):
        return learned
    square = learned.astype(jnp.float32).reshape(side, side, width)
    if antialias:
        resized = jax.image.resize(square, (rows, columns, width), "cubic")
    else:
        down, across = _bicubic(side, rows), _bicubic(side, columns)
        resized = jnp.einsum("pr,qc,rcd->pqd", down, across, square)
    return resized.reshape(1, rows * columns, width)


def _bicubic(inputs: int, outputs: int) -> Float[np.ndarray, "outputs inputs"]:
    """Weights of each input in each output; beyond the border, the border's value counts."""
    matrix = np.zeros((outputs, inputs))
    place = (np.arange(outputs) + 0.5) * inputs / outputs - 0.5
    for offset in (-1, 0, 1, 2):
        source = np.floor(place) + offset
        d = np.abs(place - source)
        near = ((CUBIC + 2) * d - (CUBIC + 3)) * d**2 + 1
        far = ((d - 5) * d + 8) * d * CUBIC - 4 * CUBIC
        column = np.clip(source, 0, inputs - 1).astype(int)
        np.add.at(matrix, (np.arange(outputs), column), np.where(d <= 1, near, far))
    return matrix.astype(np.float32)


# Names of tensors in checkpoints of Hugging Face (of transformers 5, and the older ones that are
# published) and of timm, as patterns of whole names, and ours. The first that matches counts.
_BLOCK = r"(?:encoder\.)?(?:layers?|blocks)\.(\d+)"
_LEAF = r"\.(weight|bias)"
NAMES = {
    r"(?:embeddings\.)?(?:cls_token|class_embedding)": "class_token",
    r"(?:embeddings\.)?(?:distillation|dist)_token": "distillation_token",
    r"(?:embeddings\.)?(?:register_tokens|reg_token)": "register_tokens",
    r"(?:embeddings\.)?(?:pos_embed|position_embeddings?)(?:\.weight)?": "positions",
    rf"(?:embeddings\.)?patch_embed(?:ding|dings\.projection|\.proj){_LEAF}": r"patch_embedding.\1",
    rf"(?:pre_layrnorm|norm_pre){_LEAF}": r"pre_norm.\1",
    rf"(?:layernorm|post_layernorm|norm){_LEAF}": r"norm.\1",
    rf"(?:(?:cls_)?classifier|head){_LEAF}": r"head.\1",
    rf"(?:distillation_classifier|head_dist){_LEAF}": r"distilled_head.\1",
    rf"{_BLOCK}\.(?:layernorm_before|layer_norm1|norm1){_LEAF}": r"blocks.\1.layer_norm1.\2",
    rf"{_BLOCK}\.(?:layernorm_after|layer_norm2|norm2){_LEAF}": r"blocks.\1.layer_norm2.\2",
    rf"{_BLOCK}\.(?:attention|self_attn)\.([qkv]_proj){_LEAF}": r"blocks.\1.self_attn.\2.\3",
    rf"{_BLOCK}\.attention\.attention\.([qkv])(?:uery|ey|alue){_LEAF}": (
        r"blocks.\1.self_attn.\2_proj.\3"
    ),
    rf"{_BLOCK}\.(?:attention\.(?:o_proj|output\.dense)|self_attn\.out_proj|attn\.proj){_LEAF}": (
        r"blocks.\1.self_attn.out_proj.\2"
    ),
    rf"{_BLOCK}\.(?:layer_scale|ls)([12])\.(?:lambda1|gamma)": r"blocks.\1.scale\2",
    rf"{_BLOCK}\.(?:mlp\.fc1|mlp\.up_proj|intermediate\.dense){_LEAF}": r"blocks.\1.fc1.\2",
    rf"{_BLOCK}\.(?:mlp\.fc2|mlp\.down_proj|mlp\.weights_out|output\.dense){_LEAF}": (
        r"blocks.\1.fc2.\2"
    ),
    rf"{_BLOCK}\.mlp\.gate_proj{_LEAF}": r"blocks.\1.gate.\2",
}
# Tensors that hold several of ours, one after the other.
JOINED = {
    rf"{_BLOCK}\.attn\.qkv{_LEAF}": [rf"blocks.\1.self_attn.{x}_proj.\2" for x in "qkv"],
    rf"{_BLOCK}\.mlp\.weights_in{_LEAF}": [rf"blocks.\1.{x}.\2" for x in ("gate", "fc1")],
}
WRAPPERS = r"(?:vit|deit|dinov2|dinov2_with_registers|vision_model)\."
# Of pretraining, of other towers, and poolers that nothing here reads.
_IGNORED = (
    r"(embeddings\.)?mask_token|embeddings\.position_ids|logit_(scale|bias)|"
    r"(pooler|visual_projection|text_model)\..*"
)


def _ours(name: str) -> list[str]:
    """Return our names of what a checkpoint's tensor holds; its own if it is unknown."""
    name = re.sub(rf"^{WRAPPERS}", "", name)
    for pattern, ours in (NAMES | JOINED).items():
        if match := re.fullmatch(pattern, name):
            return [match.expand(part) for part in ([ours] if isinstance(ours, str) else ours)]
    return [name]


def _renamed(tensors: Mapping[str, np.ndarray], width: int) -> Tensors:
    """Return a checkpoint's tensors under our names, with our shapes; each is read on its own."""
    reads: dict[str, Any] = {}

    def read(name: str, index: int, count: int, tokens: bool) -> np.ndarray:
        tensor = np.split(tensors[name], count)[index]
        return tensor.reshape(1, -1, width) if tokens else tensor

    for name in tensors:
        parts = _ours(name)
        for index, ours in enumerate(parts):
            tokens = ours in ("positions", "class_token")  # of CLIP and SigLIP without a batch
            unique = name if ours in reads else ours  # a second one is unknown
            reads[unique] = partial(read, name, index, len(parts), tokens)
    return Tensors(reads)


def read_vit(source: Path, notes: list[str]) -> ViT:
    """Read a vision transformer from a folder of Hugging Face's or timm's, in evaluation mode.

    Raises `InputError` for a config that is not understood, or tensors that do not fit.
    """
    config = parsed(from_entries, read_config(source), source)
    shapes = checkpoint.abstract(ViT, config)
    if is_converted(source):
        return checkpoint.read_orbax(shapes, source)
    ignored = _IGNORED if config.num_classes else rf"{_IGNORED}|head\..*"
    table = checkpoint.pytorch_table({"(.*)": r"\1"}, ignored)
    tensors = _renamed(read_tensors(source, notes), config.hidden_size)
    return checkpoint.assign(shapes, tensors, table, source)


# Names of a plain ViT's tensors, as `ViTForImageClassification` of published checkpoints has them.
HUGGING_FACE_VIT = checkpoint.pytorch_table(
    {
        "class_token": "vit.embeddings.cls_token",
        "positions": "vit.embeddings.position_embeddings",
        "patch_embedding": "vit.embeddings.patch_embeddings.projection",
        r"blocks\.(\d+)\.layer_norm1": r"vit.encoder.layer.\1.layernorm_before",
        r"blocks\.(\d+)\.layer_norm2": r"vit.encoder.layer.\1.layernorm_after",
        **{
            rf"blocks\.(\d+)\.self_attn\.{name[0]}_proj": (
                rf"vit.encoder.layer.\1.attention.attention.{name}"
            )
            for name in ("query", "key", "value")
        },
        r"blocks\.(\d+)\.self_attn\.out_proj": r"vit.encoder.layer.\1.attention.output.dense",
        r"blocks\.(\d+)\.fc1": r"vit.encoder.layer.\1.intermediate.dense",
        r"blocks\.(\d+)\.fc2": r"vit.encoder.layer.\1.output.dense",
        "norm": "vit.layernorm",
        "head": "classifier",
    },
    ignored="",
)


def save_vit(model: ViT, folder: str | PathLike[str], labels: Sequence[str]) -> None:
    """Write a plain ViT and its classes as Hugging Face's `ViTForImageClassification` reads them.

    Raises `InputError` for a network with other parts, such as registers or LayerScale.
    """
    tensors = checkpoint.tensors_of(model, HUGGING_FACE_VIT)
    checkpoint.write_folder(folder, model.config.to_huggingface(labels), tensors)
