"""Texts at vocabulary scale: sorted by length, in batches of a few shapes, each encoded once.

Most concepts are a few tokens long, so padding every text to the longest that a network reads would
multiply the work. Sorted by length, texts are cut into batches of about equally many tokens, each
padded to the next of a few lengths, and the features put back in order. The lengths and row counts
are fixed, so that few programs are compiled, and the same ones for every vocabulary.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice, repeat
from typing import Any

import numpy as np
from jaxtyping import Array, Float32

from jaxdesc.errors import InputError
from jaxdesc.runtime import fingerprint

# Dense where concepts and their prompts lie: of WordNet's nouns in "A photo of a {concept}", 59 %
# have up to 8 of CLIP's tokens, 35 % 9 or 10, 5 % 11 or 12, and the longest 19.
LENGTHS = (4, 6, 8, 10, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
TOKENS_AT_ONCE = 4096
# Row counts of a batch that is not full: a few texts must not cost a whole batch.
FEW_ROWS = (8, 32, 128, 512)
# Tokenizers keep much about a text beside its ids, until its batch is done.
TEXTS_TOKENIZED_AT_ONCE = 4096

Tokens = tuple[int, ...]
# From token ids [rows, length] and each row's count of tokens [rows] to features [rows, dimension].
Compute = Callable[[np.ndarray, np.ndarray], np.ndarray | Array]
# Called with how many texts have been encoded since the last call, as `tqdm.update` is.
Progress = Callable[[int], object]


def unseen(count: int) -> None:
    """Show no progress."""


def tokenize(tokenizer: Any, texts: Sequence[str], **options: Any) -> list[Tokens]:
    """Return each text's token ids, with the tokens that the tokenizer puts around a text.

    Args:
        tokenizer: Hugging Face's.
        texts: at least one, none of them blank.
        options: of the tokenizer's call, such as truncation.

    Raises:
        InputError: no list of strings, no text, or blank ones.
    """
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"The texts to encode are {str(texts)[:60]!r}: give a list of strings.")
    if not texts:
        raise InputError("There is no text to encode: give at least one.")
    blank = [place for place, text in enumerate(texts, 1) if not text.strip()]
    if blank:
        raise InputError(
            f"{len(blank)} of {len(texts)} texts to encode are blank (the first is number "
            f"{blank[0]}): remove them."
        )
    tokens: list[Tokens] = []
    for start in range(0, len(texts), TEXTS_TOKENIZED_AT_ONCE):
        chunk = list(texts[start : start + TEXTS_TOKENIZED_AT_ONCE])
        # Not verbose: what is too long is the caller's to say.
        tokens.extend(map(tuple, tokenizer(chunk, verbose=False, **options)["input_ids"]))
    return tokens


class TextBatches:
    """Texts in batches that are computed one by one, in any order, and then put together.

    Texts of equal tokens are computed once, so they have the same features, bit for bit.

    Args:
        tokens: of each text, at least one and at most `longest`.
        compute: the network, which must not look beyond a row's own tokens.
        longest: most tokens that the network reads.
        padding: token id behind a row's own tokens.
    """

    def __init__(self, tokens: Sequence[Tokens], compute: Compute, *, longest: int, padding: int):
        first: dict[Tokens, int] = {}
        for place, own in enumerate(tokens):
            first.setdefault(own, place)
        self._source = np.array([first[own] for own in tokens])
        self._places: list[list[int]] = []
        self._rows: list[tuple[np.ndarray, np.ndarray]] = []
        for batch, ids, lengths in _batches(list(first), longest, padding):
            self._places.append([first[own] for own in batch])
            self._rows.append((ids, lengths))
        self._compute = compute

    def __len__(self) -> int:
        return len(self._rows)

    def size(self, number: int) -> int:
        """How many distinct texts a batch has."""
        return len(self._places[number])

    def compute(self, number: int) -> Float32[np.ndarray, "row dimension"]:
        """Return the features of one batch's distinct texts."""
        return np.asarray(self._compute(*self._rows[number]))[: len(self._places[number])]

    def features(
        self, each: Iterable[Float32[np.ndarray, "row dimension"]]
    ) -> Float32[np.ndarray, "text dimension"]:
        """Return each text's features, in the order of the texts, from those of all batches."""
        features = np.empty((0, 0), np.float32)
        for places, found in zip(self._places, each, strict=True):
            if not features.size:
                features = np.empty((len(self._source), found.shape[1]), np.float32)
            features[places] = found
        repeated = np.flatnonzero(self._source != np.arange(len(self._source)))
        features[repeated] = features[self._source[repeated]]
        return features

    def encode(self, progress: Progress = unseen) -> Float32[np.ndarray, "text dimension"]:
        """Return each text's features; `progress` is called after each batch with its texts."""

        def told() -> Iterator[np.ndarray]:
            for number, places in enumerate(self._places):
                yield self.compute(number)
                progress(len(places))

        features = self.features(told())
        progress(len(self._source) - sum(map(len, self._places)))
        return features


def _batches(
    distinct: list[Tokens], longest: int, padding: int
) -> Iterator[tuple[list[Tokens], np.ndarray, np.ndarray]]:
    """Yield texts, their padded ids and their lengths; rows of no text repeat the last one's.

    The longest come first: what does not fit into memory fails at once, and the one batch that may
    not be full is of the shortest.
    """
    order = sorted(distinct, key=len, reverse=True)
    start = 0
    while start < len(order):
        rows, width = _shape(len(order) - start, len(order[start]), longest)
        batch = order[start : start + rows]
        ids = np.full((rows, width), padding, np.int32)
        lengths = np.empty(rows, np.int32)
        for row, own in enumerate(islice(chain(batch, repeat(batch[-1])), rows)):
            ids[row, : len(own)], lengths[row] = own, len(own)
        yield batch, ids, lengths
        start += rows


def _shape(texts: int, length: int, longest: int) -> tuple[int, int]:
    """Return how many rows and tokens the next batch has: of `texts`, the first has `length`."""
    width = min(longest, next(n for n in (*LENGTHS, longest) if n >= length))
    full = max(1, TOKENS_AT_ONCE // width)
    return min([full, *(rows for rows in FEW_ROWS if rows >= texts)]), width


def fingerprint_of(tokenizer: Any) -> str:
    """Hash what a tokenizer is; how its last call padded and cut is a state, and no part of it."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    return fingerprint.of_text(json.dumps(content | {"padding": None, "truncation": None}))
