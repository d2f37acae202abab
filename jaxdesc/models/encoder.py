"""CLIP ready for use: weights, tokenizer and preprocessing read from one Hugging Face folder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Float32, UInt8

from jaxdesc.errors import InputError
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.models.formats import load_clip_model
from jaxdesc.models.packaging import CLIP, open_network
from jaxdesc.models.precision import cast, check_precision
from jaxdesc.models.preprocessor import clip_preprocess
from jaxdesc.models.texts import (
    Progress,
    TextBatches,
    Tokens,
    fingerprint_of,
    tokenize,
    unseen,
)
from jaxdesc.runtime import fingerprint
from jaxdesc.runtime.compiler import jit
from jaxdesc.runtime.mesh import on_each, shared_out

# How many of the texts that are too long an error names.
NAMED = 3


@dataclass(frozen=True, eq=False)
class ClipEncoder:
    """CLIP's two towers as functions of images and of texts.

    Attributes:
        params: pytree of its weights.
        graph: the module's structure (`nnx.split`).
        tokenizer: a Hugging Face tokenizer.
        length: most tokens a text may have.
        preprocess: how the image tower wants its images.
        name: for reports.
        mesh: devices that share views out; the default one where None.
        notes: what was assumed or stripped when it was read, a sentence each.
    """

    params: Any
    graph: Any
    tokenizer: Any
    length: int
    preprocess: Preprocess
    name: str = "clip"
    mesh: Mesh | None = None
    notes: tuple[str, ...] = ()

    def on(self, mesh: Mesh | None) -> "ClipEncoder":
        """Put it on each device of a mesh, which then share views out; a batch has to be even."""
        if mesh is None:
            return self
        return replace(self, params=on_each(self.params, mesh), mesh=mesh)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights, of what both towers compute, of tokenizer and preprocessing."""
        size = self.preprocess.size
        pixels = np.zeros((1, size, size, 3), np.float32)
        tokens = np.zeros((1, self.length), np.int32)
        programs = [
            fingerprint.of_function(partial(_images, self.graph), self.params, pixels),
            fingerprint.of_function(partial(_texts, self.graph), self.params, tokens),
            fingerprint_of(self.tokenizer),
        ]
        weights = fingerprint.of_weights(self.params)
        return " ".join((weights, *programs, str(self.preprocess)))

    def encode_images(
        self, pixels: Float[Array | np.ndarray, "batch size size 3"]
    ) -> Float[Array, "batch dimension"]:
        """Return unit features of normalised pixels."""
        return _images(self.graph, self.params, pixels)

    def encode_views(
        self, views: UInt8[np.ndarray, "batch size size 3"]
    ) -> Float[Array, "batch dimension"]:
        """Return unit features of views as they were cut, not yet normalised."""
        return _views(self.graph, self.preprocess, self.mesh, self.params, views)

    def encode_texts(
        self, texts: Sequence[str], progress: Progress = unseen
    ) -> Float32[np.ndarray, "text dimension"]:
        """Return unit features of texts, in their order; equal texts have the same, bit for bit.

        Args:
            texts: at least one; those that the tokenizer reads alike are encoded once.
            progress: called after each batch with its count of texts.

        Raises:
            InputError: no text, or texts that are blank or have more tokens than the text tower
                has positions.
        """
        return self.text_batches(texts).encode(progress)

    def text_batches(self, texts: Sequence[str]) -> TextBatches:
        """Lay texts out for `encode_texts`, so that what is done of them can be kept.

        Raises:
            InputError: as `encode_texts`.
        """
        tokens = tokenize(self.tokenizer, texts)
        self._check_lengths(texts, tokens)
        return TextBatches(
            tokens,
            # Padding stands behind the end token, where nothing looks: the tower is causal.
            lambda ids, _: _texts(self.graph, self.params, ids),
            longest=self.length,
            padding=self.tokenizer.eos_token_id,
        )

    def _check_lengths(self, texts: Sequence[str], tokens: Sequence[Tokens]) -> None:
        long = [place for place, own in enumerate(tokens) if len(own) > self.length]
        if long:
            named = ", ".join(
                f"{texts[place][:60]!r} with {len(tokens[place])}" for place in long[:NAMED]
            )
            raise InputError(
                f"{self.name} reads at most {self.length} tokens, but {len(long)} of {len(texts)} "
                f"texts have more: {named}{', …' if len(long) > NAMED else ''}; shorten or remove "
                "them."
            )


@partial(jit, static=("graph",))
def _images(graph: Any, params: Any, pixels: Any) -> Array:
    return nnx.merge(graph, params).encode_images(pixels)


@partial(jit, static=("graph", "preprocess", "mesh"))
def _views(graph: Any, preprocess: Preprocess, mesh: Mesh | None, params: Any, views: Any) -> Array:
    def encode(params: Any, views: Array) -> Array:
        return nnx.merge(graph, params).encode_images(preprocess.normalise(views))

    return shared_out(encode, mesh, params, views)


@partial(jit, static=("graph",))
def _texts(graph: Any, params: Any, tokens: Any) -> Array:
    return nnx.merge(graph, params).encode_texts(tokens)


def load_clip(
    source: str | PathLike[str],
    *,
    revision: str | None = None,
    precision: str = "float32",
    preprocess: str | Preprocess = "",
) -> ClipEncoder:
    """Read a CLIP.

    Args:
        source: a local Hugging Face CLIP folder (`config.json`, weights, tokenizer,
            `preprocessor_config.json`), the one in a folder of sentence-transformers, or one that
            `launch.convert` wrote; a Hugging Face id such as openai/clip-vit-base-patch32; or
            "scenes", the embedded world's own. Weights are `model.safetensors` or
            `pytorch_model.bin`, whole or in shards, or `flax_model.msgpack`.
        revision: branch, tag or commit of a Hugging Face id; its main branch by default. The
            encoder's name tells the commit.
        precision: "float32", or "bfloat16" for weights and tokens; the statistics of LayerNorm,
            softmax, projections and unit features are computed in float32 all the same.
        preprocess: a name in `jaxdesc.images.preprocess.PRESETS` or a `Preprocess`, in place of
            the checkpoint's own; by default that one, or OpenAI's if there is none.

    Returns:
        The encoder; its notes say what was assumed or left out.

    Raises:
        InputError: a missing folder or tokenizer, a config that is not understood, tensors that
            do not fit, or another precision or preprocessing.
    """
    check_precision(precision)
    path, name, notes = open_network(source, CLIP, revision)
    model = load_clip_model(path, notes)
    image_size = model.config.vision.image_size
    own_preprocess = clip_preprocess(path, image_size, preprocess, notes)
    graph, params = nnx.split(model)
    return ClipEncoder(
        params=cast(params, precision),
        graph=graph,
        tokenizer=_tokenizer(path, model.config.text.vocab_size),
        length=model.config.text.max_position_embeddings,
        preprocess=own_preprocess,
        name=name,
        notes=tuple(notes),
    )


def _tokenizer(path: Path, vocabulary: int) -> Any:
    from transformers import CLIPTokenizer  # seconds to import, and needed only here

    if not any((path / name).exists() for name in ("tokenizer.json", "vocab.json")):
        raise InputError(
            f"The CLIP folder {str(path)!r} has no tokenizer: expected tokenizer.json, or "
            "vocab.json and merges.txt, as Hugging Face ships them."
        )
    try:
        tokenizer = CLIPTokenizer.from_pretrained(path, local_files_only=True)
    except Exception as error:  # of no fixed type: JSON's, the tokenizers library's, an OSError
        raise InputError(
            f"The tokenizer of the CLIP folder {str(path)!r} can't be read ({error!r}): download "
            "tokenizer.json, or vocab.json and merges.txt, again."
        ) from error
    if len(tokenizer) > vocabulary:  # what lies beyond the embeddings would be read as NaN
        raise InputError(
            f"The tokenizer of the CLIP folder {str(path)!r} has {len(tokenizer)} tokens, but its "
            f"config.json sets vocab_size {vocabulary}; use the files of one checkpoint."
        )
    return tokenizer
