"""NAMERS: the kinds of name encoders, and how one is loaded."""

from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from pathlib import Path

from jaxdesc.errors import InputError, shown
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.models import clip
from jaxdesc.models.encoder import Namer
from jaxdesc.models.precision import cast, check_precision
from jaxdesc.models.settings import read_config
from jaxdesc.models.source import CLIP, open_network

# Loaders by the model_type of config.json. Arguments: the folder, the preprocessing stated in place
# of the checkpoint's ("" for none), and a list for a sentence about each thing that was assumed or
# left out.
NAMERS: dict[str, Callable[[Path, str | Preprocess, list[str]], Namer]] = {"clip": clip.load}


def load_clip(
    source: str | PathLike[str],
    *,
    revision: str | None = None,
    precision: str = "float32",
    preprocess: str | Preprocess = "",
) -> Namer:
    """Read a CLIP, or another name encoder of `NAMERS`; its notes say what was assumed.

    Args:
        source: a local Hugging Face CLIP folder (`config.json`, weights, tokenizer,
            `preprocessor_config.json`), the one in a folder of sentence-transformers, or one that
            `launch.convert` wrote; a Hugging Face id such as openai/clip-vit-base-patch32; or
            "scenes", the embedded world's own. Weights are `model.safetensors` or
            `pytorch_model.bin`, whole or in shards, or `flax_model.msgpack`.
        revision: branch, tag or commit of a Hugging Face id; its main branch by default. The
            encoder's name gives the commit.
        precision: "float32", or "bfloat16" for weights and tokens; the statistics of LayerNorm,
            softmax, projections and unit features are computed in float32 all the same.
        preprocess: a name in `jaxdesc.images.preprocess.PRESETS` or a `Preprocess`, in place of
            the checkpoint's own; by default that one, or OpenAI's if there is none.

    Raises:
        InputError: a missing folder or tokenizer, a config that is not understood, tensors that
            do not fit, or another precision or preprocessing.
    """
    check_precision(precision)
    path, name, notes = open_network(source, CLIP, revision)
    model_type = read_config(path).get("model_type", "clip")
    if not isinstance(model_type, str) or model_type not in NAMERS:
        raise InputError(
            f"{path / 'config.json'} sets model_type {shown(model_type)}: expected one of "
            f"{', '.join(NAMERS)}; give a checkpoint of one of these."
        )
    namer = NAMERS[model_type](path, preprocess, notes)
    params = cast(namer.params, precision)
    return replace(namer, params=params, name=name, notes=tuple(notes))
