"""Vision transformers in Flax NNX: ViT, DeiT, DINOv2, and the image towers of CLIP and SigLIP.

Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021; Touvron et al., "Training
Data-Efficient Image Transformers", ICML 2021; Oquab et al., "DINOv2", TMLR 2024; Darcet et al.,
"Vision Transformers Need Registers", ICLR 2024. Numbers follow Hugging Face transformers.
"""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

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
from jaxdesc.models.tensors import read_tensors, renamed
from jaxdesc.models.transformer import (
    AttentionPool,
    Tokens,
    encoded,
    layer_norm,
    layers,
    linear,
    normal,
)
from jaxdesc.models.vit_config import ViTConfig, from_entries

CUBIC = -0.75  # torch's coefficient of bicubic interpolation without antialiasing


class ViT(nnx.Module):
    """A vision transformer over square patches, with a head or without."""

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs):
        width, patch = config.hidden_size, config.patch_size
        positions = (config.image_size // patch) ** 2 + config.placed

        def learned(std: float, *shape: int) -> nnx.Param[Array]:
            return nnx.Param(normal(std)(rngs.params(), (*shape, width)))

        self.config = config
        self.class_token = learned(width**-0.5) if config.class_tokens else None
        self.distillation_token = learned(0.02) if config.class_tokens > 1 else None
        self.register_tokens = learned(0.02, config.registers) if config.registers else None
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
        self.positions = learned(0.02, positions)
        self.pre_norm = layer_norm(config, rngs) if config.pre_norm else None
        kind = {"scaled": config.scaled, "gated": config.gated}
        self.blocks = nnx.List(layers(config, **kind, rngs=rngs))
        self.norm = layer_norm(config, rngs)
        self.pool = AttentionPool(config, rngs=rngs) if config.attention_pool else None
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

    @float32_products
    def pooled(
        self, pixels: Float[Array, "batch height width 3"], tap: Tap = untouched
    ) -> Float[Array, "batch features"]:
        """Return one vector per normalised image: the attention pool's, or the class token's.

        The tap gets what that of a call does.
        """
        x = encoded(self.blocks, self.embed(pixels), tap)
        if self.pool is not None:
            return self.pool(tap("norm", self.norm(x)).astype(jnp.float32))
        if tap is untouched:  # the other tokens need no norm
            return self.norm(x[:, 0])
        return tap("norm", self.norm(x))[:, 0]

    def embed(self, pixels: Float[Array, "batch height width 3"]) -> Tokens:
        """Return every token before the first block: class tokens, registers, patches."""
        patches = self.patch_embedding(jnp.asarray(pixels, self.patch_embedding.kernel.dtype))
        count, rows, columns, width = patches.shape
        x, placed = patches.reshape(count, rows * columns, width), self.config.placed

        def repeated(tokens: nnx.Param[Array]) -> Tokens:
            shape = count, tokens[...].size // width, width
            return jnp.broadcast_to(tokens[...], shape).astype(x.dtype)

        first = [self.class_token, self.distillation_token]
        prefix = [repeated(token) for token in first if token is not None]
        registers = [repeated(self.register_tokens)] if self.register_tokens is not None else []
        if placed:
            x, prefix = jnp.concatenate([*prefix, x], axis=1), []
        learned = self.positions[...]
        positions = interpolated(learned, placed, rows, columns, self.config.antialias)
        x = x + positions[None].astype(x.dtype)
        if further := [*prefix, *registers]:
            x = jnp.concatenate([x[:, :placed], *further, x[:, placed:]], axis=1)
        return x if self.pre_norm is None else self.pre_norm(x)


def interpolated(
    learned: Float[Array, "positions width"], placed: int, rows: int, columns: int, antialias: bool
) -> Float[Array, "tokens width"]:
    """Return positions of a square grid for one of other sides, by torch's bicubic resizing.

    The first `placed` are those of class tokens and stay. Hugging Face resizes ViT's, DeiT's and
    DINOv2's without antialiasing, with the coefficient -0.75, and those of DINOv2 with registers
    with it, with -0.5.
    """
    side, width = round((len(learned) - placed) ** 0.5), learned.shape[1]
    if (rows, columns) == (side, side):
        return learned
    square = learned[placed:].astype(jnp.float32).reshape(side, side, width)
    if antialias:
        resized = jax.image.resize(square, (rows, columns, width), "cubic")
    else:
        down, across = _bicubic(side, rows), _bicubic(side, columns)
        resized = jnp.einsum("pr,qc,rcd->pqd", down, across, square)
    resized = resized.reshape(rows * columns, width).astype(learned.dtype)
    return jnp.concatenate([learned[:placed], resized])


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
NAMES: dict[str, str | list[str]] = {
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
JOINED: dict[str, str | list[str]] = {
    rf"{_BLOCK}\.attn\.qkv{_LEAF}": [rf"blocks.\1.self_attn.{x}_proj.\2" for x in "qkv"],
    rf"{_BLOCK}\.mlp\.weights_in{_LEAF}": [rf"blocks.\1.{x}.\2" for x in ("gate", "fc1")],
}
WRAPPERS = {r"(?:vit|deit|dinov2|dinov2_with_registers|vision_model)\.(.*)": r"\1"}
# Of pretraining, of other towers, and poolers that nothing here reads.
_IGNORED = (
    r"(embeddings\.)?mask_token|embeddings\.position_ids|logit_(scale|bias)|"
    r"(pooler|visual_projection|text_projection|text_model)\..*"
)


# The image tower's parameters in a converted CLIP or SigLIP, and what else that holds.
_TOWER = {r"vision\.(.*)": r"\1"}
_OTHERS = r"(text|text_head|(visual|text)_projection|pool)\..*|logit_(scale|bias)"


def read_vit(source: Path, notes: list[str]) -> ViT:
    """Read a vision transformer from a folder of Hugging Face's or timm's, in evaluation mode.

    Raises `InputError` for a config that is not understood, or tensors that do not fit.
    """
    config = parsed(from_entries, read_config(source), source)
    shapes = checkpoint.abstract(ViT, config)
    if is_converted(source):
        return checkpoint.read_orbax(shapes, source, _TOWER, _OTHERS)
    ignored = _IGNORED if config.num_classes else rf"{_IGNORED}|head\..*"
    table = checkpoint.pytorch_table({"(.*)": r"\1"}, ignored)
    tensors = renamed(renamed(read_tensors(source, notes), WRAPPERS), NAMES | JOINED)
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
    for name in ("cls_token", "position_embeddings"):  # with an axis of the batch
        tokens = tensors[f"vit.embeddings.{name}"]
        tensors[f"vit.embeddings.{name}"] = tokens.reshape(1, -1, tokens.shape[-1])
    checkpoint.write_folder(folder, model.config.to_huggingface(labels), tensors)
