"""SigLIP and SigLIP 2 of fixed resolution in Flax NNX, for any Hugging Face SigLIP checkpoint.

Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023; Tschannen et al.,
"SigLIP 2", arXiv:2502.14786. Names and numbers follow `SiglipModel` of Hugging Face transformers.
"""

import json
import re
import string
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import nnx
from tokenizers import Regex, normalizers

from jaxdesc.errors import InputError
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.models import checkpoint
from jaxdesc.models.clip import (
    IGNORED,
    ROWS,
    Features,
    Ids,
    Pixels,
    TextTower,
    namer_of,
    pooled_images,
    unit,
)
from jaxdesc.models.clip_config import SigLIPConfig
from jaxdesc.models.encoder import Namer
from jaxdesc.models.packaging import namer_preprocess
from jaxdesc.models.precision import float32_products
from jaxdesc.models.settings import parsed, read_config
from jaxdesc.models.taps import Tap
from jaxdesc.models.texts import load_tokenizer
from jaxdesc.models.transformer import linear
from jaxdesc.models.vit import ViT

HUGGING_FACE_SIGLIP = checkpoint.pytorch_table(ROWS, IGNORED)
# PyTorch's attention holds three projections in one tensor.
JOINED: dict[str, str | list[str]] = {
    r"(.*\.head\.attention)\.in_proj_(weight|bias)": [rf"\1.{x}_proj.\2" for x in "qkv"]
}


class SigLIP(nnx.Module):
    """An image tower with an attention pool, and a text tower read at its last position."""

    def __init__(self, config: SigLIPConfig, *, rngs: nnx.Rngs):
        width = config.text.hidden_size
        self.config = config
        self.vision = ViT(config.vision, rngs=rngs)
        self.text = TextTower(config.text, causal=False, rngs=rngs)
        self.text_head = linear(width, config.vision.hidden_size, width**-0.5, rngs)
        self.logit_scale = nnx.Param(jnp.log(jnp.float32(10)))
        self.logit_bias = nnx.Param(jnp.float32(-10))

    @float32_products
    def encode_images(self, pixels: Pixels) -> Features:
        """Return one unit vector per image, of float32 for weights of any type.

        Raises `InputError` if the images have another size than the config's.
        """
        return unit(pooled_images(self.vision, pixels))

    @float32_products
    def tapped_images(self, pixels: Pixels, tap: Tap) -> Features:
        """Return `encode_images` of images of any size; the tap gets the image tower's layers."""
        return unit(self.vision.pooled(pixels, tap))

    @float32_products
    def encode_texts(self, ids: Ids) -> Features:
        """Return one unit vector per text, of float32 for weights of any type.

        A text is read at its last position, and every token sees every other: it has to be padded
        to the config's `max_position_embeddings`, as in training.
        """
        return unit(self.text_head(self.text(ids)[:, -1].astype(jnp.float32)))


def load_siglip_model(folder: Path, notes: list[str]) -> SigLIP:
    """Read a SigLIP from a Hugging Face folder, or from one that `launch.convert` wrote.

    Raises `InputError` for a config that is not understood, or tensors that do not fit.
    """
    config = parsed(SigLIPConfig.from_huggingface, read_config(folder), folder)
    shapes = checkpoint.abstract(SigLIP, config)
    return checkpoint.read_model(shapes, folder, lambda _: HUGGING_FACE_SIGLIP, notes, JOINED)


def canonical(tokenizer: Any) -> Any:
    """Let a tokenizer read texts as in training: SigLIP's without case and punctuation.

    SigLIP's (SentencePiece's unigrams) gets what `SiglipTokenizer.canonicalize_text` of
    transformers does, SigLIP 2's (Gemma's byte pairs) lower case, as in `Siglip2Tokenizer`. The
    `tokenizer.json` of some checkpoints leaves these to their Python classes; doing them twice
    changes nothing.
    """
    backend = tokenizer.backend_tokenizer
    model = json.loads(backend.to_str())["model"]["type"]
    steps: list[Any] = []
    if tokenizer.init_kwargs.get("do_lower_case", True):
        steps.append(normalizers.Lowercase())
    if model == "Unigram":
        punctuation, blanks = Regex(f"[{re.escape(string.punctuation)}]"), Regex(r"\s+")
        steps += [normalizers.Replace(punctuation, ""), normalizers.Replace(blanks, " ")]
        steps.append(normalizers.Strip())
    backend.normalizer = normalizers.Sequence([*steps, *filter(None, [backend.normalizer])])
    return tokenizer


def load(folder: Path, preprocess: str | Preprocess, notes: list[str]) -> Namer:
    """Load a folder's SigLIP as a name encoder: the entry "siglip" of `NAMERS`."""
    model = load_siglip_model(folder, notes)
    text, image_size = model.config.text, model.config.vision.image_size
    where = folder, "SigLIP", "tokenizer.json"
    tokenizer = canonical(load_tokenizer("PreTrainedTokenizerFast", *where, text.vocab_size))
    ends = tokenizer(["a"])["input_ids"][0][-1:] == [tokenizer.eos_token_id]
    if tokenizer.pad_token_id is None or not ends:
        raise InputError(
            f"The tokenizer of the SigLIP folder {str(folder)!r} has no padding token, or puts no "
            "end-of-text token behind a text, as SigLIP's does: download tokenizer.json and "
            "tokenizer_config.json, again."
        )
    return namer_of(
        model,
        tokenizer,
        namer_preprocess(folder, image_size, preprocess, notes, "siglip"),
        padding=tokenizer.pad_token_id,
        reads_padding=True,
        logit_bias=float(model.logit_bias[...]),
    )
