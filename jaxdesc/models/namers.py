"""NAMERS: the kinds of name encoders, and how one is loaded."""

from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from pathlib import Path

from jaxdesc.errors import InputError, shown
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.models import clip, open_clip, siglip
from jaxdesc.models.encoder import Namer
from jaxdesc.models.precision import cast, check_precision
from jaxdesc.models.settings import read_config
from jaxdesc.models.source import CLIP, is_open_clip, open_network

# Loaders by the model_type of config.json, or "open_clip" for that packaging. Arguments: the
# folder, the preprocessing stated in place of the checkpoint's ("" for none), and a list for a
# sentence about each thing that was assumed or left out.
NAMERS: dict[str, Callable[[Path, str | Preprocess, list[str]], Namer]] = {
    "clip": clip.load,
    "open_clip": open_clip.load,
    "siglip": siglip.load,
}
CLIPS = "clip", "open_clip"
NAFLEX = "siglip2"  # its images have any shape, and as many patches as fit


def load_namer(
    source: str | PathLike[str],
    *,
    revision: str | None = None,
    precision: str = "float32",
    preprocess: str | Preprocess = "",
) -> Namer:
    """Read a name encoder of `NAMERS`; its notes say what was assumed.

    Args:
        source: a local folder of a Hugging Face CLIP, SigLIP, or SigLIP 2 of fixed resolution
            (`config.json`, weights, tokenizer, `preprocessor_config.json`), a CLIP in open_clip's
            packaging (`open_clip_config.json`, `open_clip_model.safetensors`, tokenizer), a CLIP in
            a folder of sentence-transformers, or what `launch.convert` wrote; a Hugging Face id
            such as google/siglip2-base-patch16-224; or "scenes", the embedded world's own CLIP.
            Weights are `model.safetensors` or `pytorch_model.bin`, whole or in shards, or
            `flax_model.msgpack`.
        revision: branch, tag or commit of a Hugging Face id; its main branch by default. The
            encoder's name gives the commit.
        precision: "float32", or "bfloat16" for weights and tokens; the statistics of LayerNorm,
            softmax, projections and unit features are computed in float32 all the same.
        preprocess: a name in `jaxdesc.images.preprocess.PRESETS` or a `Preprocess`, in place of
            the checkpoint's own; by default that one, or the network's usual one if there is none.

    Raises:
        InputError: a missing folder or tokenizer, a config that is not understood, tensors that
            do not fit, or another precision or preprocessing.
    """
    check_precision(precision)
    path, name, notes = open_network(source, CLIP, revision)
    namer = NAMERS[_kind(path)](path, preprocess, notes)
    params = cast(namer.params, precision)
    return replace(namer, params=params, name=name, notes=tuple(notes))


def load_clip(
    source: str | PathLike[str],
    *,
    revision: str | None = None,
    precision: str = "float32",
    preprocess: str | Preprocess = "",
) -> Namer:
    """Read a CLIP as `load_namer` does; `InputError` for any other name encoder too."""
    path = open_network(source, CLIP, revision).path
    kind = _kind(path)
    if kind not in CLIPS:
        raise InputError(f"{path} is a name encoder of the kind {kind}: read it by load_namer.")
    return load_namer(source, revision=revision, precision=precision, preprocess=preprocess)


def _kind(path: Path) -> str:
    """Return the entry of `NAMERS` that reads a folder."""
    if is_open_clip(path):
        return "open_clip"
    model_type = read_config(path).get("model_type", "clip")
    if model_type == NAFLEX:
        raise InputError(
            f"{path} is a SigLIP 2 for images of any shape (NaFlex), which is not implemented: "
            "give one of fixed resolution, such as google/siglip2-base-patch16-224."
        )
    if not isinstance(model_type, str) or model_type not in NAMERS:
        raise InputError(
            f"{path / 'config.json'} sets model_type {shown(model_type)}: expected one of "
            f"{', '.join(NAMERS)}; give a checkpoint of one of these."
        )
    return model_type
