"""A name encoder: two functions that map images and texts into one space."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Float32, UInt8

from jaxdesc.errors import InputError
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.models.taps import Apply
from jaxdesc.models.texts import LENGTHS, Progress, TextBatches, fingerprint_of, tokenize, unseen
from jaxdesc.runtime import fingerprint
from jaxdesc.runtime.compiler import jit
from jaxdesc.runtime.mesh import on_each, shared_out

NAMED = 3  # texts that are too long, in an error

# From weights and a batch of pixels [B, size, size, 3] or token ids [B, L] to unit features [B, d].
Encode = Callable[[Any, Any], Array]


@dataclass(frozen=True)
class Tower:
    """A method of an NNX module, by its structure (`nnx.split`) and the method's name.

    It is a function of the weights and the method's arguments. Towers of equal structure are equal,
    so that networks of one architecture share programs.
    """

    graph: Any
    method: str = "__call__"

    def __call__(self, params: Any, *arguments: Any) -> Any:
        """Call the method."""
        return getattr(nnx.merge(self.graph, params), self.method)(*arguments)


@dataclass(frozen=True, eq=False)
class Namer:
    """An encoder of images and texts, such as CLIP.

    Attributes:
        params: pytree of all its weights.
        images: (params, normalised pixels [B, size, size, 3]) -> unit features [B, d], float32.
        texts: (params, token ids [B, L]) -> unit features [B, d], float32. L is at most `length`;
            what follows a text's own tokens is padding and must not change its features, unless
            the encoder reads padding.
        tokenizer: a Hugging Face tokenizer.
        length: most tokens a text may have.
        padding: token id behind a text's own tokens.
        preprocess: preprocessing that `images` expects.
        reads_padding: every text is padded to `length`, as SigLIP's have to be.
        logit_scale, logit_bias: a logit is the cosine of an image and a text times the scale, plus
            the bias. The sigmoid of a logit with a bias is the probability that a text fits
            (SigLIP); CLIP's have no bias. None if the encoder has none.
        apply: (params, normalised pixels, tap) -> what `images` gives, its image tower's layers
            handed to the tap as a `Target`'s are; None if they can't be looked at.
        attention, prefix: of that tower, as a `Target`'s.
        name: for reports.
        mesh: devices among which a batch is split; the default device if None.
        notes: what was assumed or stripped when it was read, a sentence each.
    """

    params: Any
    images: Encode
    texts: Encode
    tokenizer: Any
    length: int
    padding: int
    preprocess: Preprocess
    reads_padding: bool = False
    logit_scale: float | None = None
    logit_bias: float | None = None
    apply: Apply | None = None
    attention: str = ""
    prefix: int = 0
    name: str = "clip"
    mesh: Mesh | None = None
    notes: tuple[str, ...] = ()

    def on(self, mesh: Mesh | None) -> "Namer":
        """Copy the weights to each device of a mesh; a batch must split evenly among them."""
        if mesh is None:
            return self
        return replace(self, params=on_each(self.params, mesh), mesh=mesh)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights, of what both functions compute, of tokenizer and preprocessing."""
        size = self.preprocess.size
        pixels = np.zeros((1, size, size, 3), np.float32)
        tokens = np.zeros((1, self.length), np.int32)
        images = fingerprint.of_function(self.images, self.params, pixels)
        texts = fingerprint.of_function(self.texts, self.params, tokens)
        hashes = fingerprint.of_weights(self.params), images, texts, fingerprint_of(self.tokenizer)
        padding = self.padding if self.reads_padding else None
        return " ".join((*hashes, str(self.preprocess), str(padding)))

    def encode_images(
        self, pixels: Float[Array | np.ndarray, "batch size size 3"]
    ) -> Float[Array, "batch dimension"]:
        """Return unit features of normalised pixels."""
        return _images(self.images, self.params, pixels)

    def encode_views(
        self, views: UInt8[np.ndarray, "batch size size 3"]
    ) -> Float[Array, "batch dimension"]:
        """Return unit features of views as they were cut, not yet normalised."""
        features: Array = self.viewing(views)
        return features

    @property
    def viewing(self) -> partial[Any]:
        """The program of `encode_views`."""
        return partial(_views, self.images, self.preprocess, self.mesh, self.params)

    @property
    def reading(self) -> partial[Any]:
        """The program of a batch of texts, which takes token ids and each text's number of them."""
        return partial(_texts, self.texts, self.params)

    def encode_texts(
        self, texts: Sequence[str], progress: Progress = unseen
    ) -> Float32[np.ndarray, "text dimension"]:
        """Return unit features of texts, in their order.

        Texts that the tokenizer reads alike are encoded once; `progress` gets each batch's count of
        texts. `InputError` for no text, or texts that are blank or have more tokens than `length`.
        """
        return self.text_batches(texts).encode(progress)

    def text_batches(self, texts: Sequence[str]) -> TextBatches:
        """Lay texts out for `encode_texts`, so that finished batches can be kept."""
        tokens = tokenize(self.tokenizer, texts)
        counts = zip(texts, map(len, tokens), strict=True)
        long = [(text, count) for text, count in counts if count > self.length]
        if long:
            named = ", ".join(f"{text[:60]!r} with {count}" for text, count in long[:NAMED])
            raise InputError(
                f"{self.name} reads at most {self.length} tokens, but {len(long)} of {len(texts)} "
                f"texts have more: {named}{', …' if len(long) > NAMED else ''}; shorten or remove "
                "them."
            )
        return TextBatches(
            tokens,
            self.reading,
            longest=self.length,
            padding=self.padding,
            lengths=() if self.reads_padding else LENGTHS,
        )


@partial(jit, static=("images",))
def _images(images: Encode, params: Any, pixels: Any) -> Array:
    return images(params, pixels)


@partial(jit, static=("images", "preprocess", "mesh"))
def _views(
    images: Encode, preprocess: Preprocess, mesh: Mesh | None, params: Any, views: Any
) -> Array:
    def encode(params: Any, views: Array) -> Array:
        return images(params, preprocess.normalise(views))

    return shared_out(encode, mesh, params, views)


@partial(jit, static=("texts",))
def _texts(texts: Encode, params: Any, ids: Any, lengths: Any) -> Array:
    del lengths  # a text ends with its end-of-text token
    return texts(params, ids)
