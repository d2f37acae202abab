"""Texts at vocabulary scale: sorted by length, in batches of a few shapes, each encoded once.

Most concepts are a few tokens long, so padding every text to the longest that a network reads would
multiply the work. Sorted by length, texts are cut into batches of about equally many tokens, each
padded to the next of a few lengths, and the features put back in order. The lengths and row counts
are fixed, so that few programs are compiled, and the same ones for every vocabulary.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Array, Float32

from jaxdesc.errors import InputError
from jaxdesc.runtime import fingerprint

# Dense for the usual lengths of concepts and their prompts: of WordNet's nouns in "A photo of a
# {concept}", 59 % have up to 8 of CLIP's tokens, 35 % 9 or 10, 5 % 11 or 12, and the longest 19.
LENGTHS = (4, 6, 8, 10, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
TOKENS_AT_ONCE = 4096
# Row counts of a batch that is not full: a few texts must not cost a whole batch.
FEW_ROWS = (8, 32, 128, 512)
# A tokenizer holds much more than a text's ids until its call returns; this bounds memory.
TEXTS_TOKENIZED_AT_ONCE = 4096

Tokens = tuple[int, ...]
# From token ids [rows, length] and each row's count of tokens [rows] to features [rows, dimension].
Compute = Callable[[np.ndarray, np.ndarray], np.ndarray | Array]
# Called with the count of texts encoded since the last call, as `tqdm.update` is.
Progress = Callable[[int], object]


def unseen(count: int) -> None:
    """Show no progress."""


def load_tokenizer(
    loader: str, folder: Path, network: str, files: str, vocabulary: int, **options: Any
) -> Any:
    """Load a folder's tokenizer by transformers' class `loader`.

    `network` and `files` say in errors what the folder holds, and which files a tokenizer has;
    `vocabulary` is how many tokens the network knows. `InputError` for no tokenizer, a damaged one,
    or one of more tokens.
    """
    import transformers  # not at the top: it takes seconds

    where = f"{network} folder {str(folder)!r}"
    if not any((folder / n).exists() for n in ("tokenizer.json", "vocab.json", "vocab.txt")):
        raise InputError(
            f"The {where} has no tokenizer: expected {files}, as Hugging Face ships them."
        )
    try:
        cls = getattr(transformers, loader)
        tokenizer = cls.from_pretrained(folder, local_files_only=True, **options)
    except Exception as error:  # of no fixed type: JSON's, the tokenizers library's, an OSError
        raise InputError(
            f"The tokenizer of the {where} can't be read ({error!r}): download {files}, again."
        ) from error
    if len(tokenizer) > vocabulary:  # ids beyond the embeddings would be read as NaN
        raise InputError(
            f"The tokenizer of the {where} has {len(tokenizer)} tokens, but its "
            f"config.json sets vocab_size {vocabulary}; use the files of one checkpoint."
        )
    return tokenizer


def fingerprint_of(tokenizer: Any) -> str:
    """Hash a tokenizer, without the padding and truncation that its last call left in it."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    return fingerprint.of_text(json.dumps(content | {"padding": None, "truncation": None}))


def tokenize(tokenizer: Any, texts: Sequence[str], **options: Any) -> list[Tokens]:
    """Return each text's token ids, with the tokens that the tokenizer puts around a text.

    `options` are passed to the tokenizer. `InputError` for no text, blank ones, or anything else
    than a list of strings.
    """
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"The texts to encode are {str(texts)[:60]!r}: give a list of strings.")
    if not texts:
        raise InputError("There is no text to encode: give at least one.")
    blank = [number for number, text in enumerate(texts, 1) if not text.strip()]
    if blank:
        raise InputError(
            f"{len(blank)} of {len(texts)} texts to encode are blank (the first is number "
            f"{blank[0]}): remove them."
        )
    tokens: list[Tokens] = []
    for start in range(0, len(texts), TEXTS_TOKENIZED_AT_ONCE):
        chunk = list(texts[start : start + TEXTS_TOKENIZED_AT_ONCE])
        # Not verbose: texts that are too long are reported by the caller.
        tokens.extend(map(tuple, tokenizer(chunk, verbose=False, **options)["input_ids"]))
    return tokens


class TextBatches:
    """Texts in batches that are computed one by one, in any order, and then put together.

    Texts of equal tokens are computed once, so they have the same features, bit for bit. Each has
    at least one token and at most `longest`, followed by padding with the id `padding` to the next
    of `lengths`, or else to `longest`; how much of it must not change what `compute` returns.
    """

    def __init__(
        self,
        tokens: Sequence[Tokens],
        compute: Compute,
        *,
        longest: int,
        padding: int,
        lengths: Sequence[int] = LENGTHS,
    ):
        first: dict[Tokens, int] = {}
        for index, ids in enumerate(tokens):
            first.setdefault(ids, index)
        self._source = np.array([first[ids] for ids in tokens])
        self._indices: list[list[int]] = []
        self._rows: list[tuple[np.ndarray, np.ndarray]] = []
        # The longest come first: a batch too large for memory fails at once, and the one batch that
        # may not be full is of the shortest.
        order = sorted(first, key=len, reverse=True)
        while order:
            rows, width = _shape(len(order), len(order[0]), longest, lengths)
            batch, order = order[:rows], order[rows:]
            filled = batch + batch[-1:] * (rows - len(batch))  # rows without a text repeat the last
            padded = [ids + (padding,) * (width - len(ids)) for ids in filled]
            counts = np.array([len(ids) for ids in filled], np.int32)
            self._indices.append([first[ids] for ids in batch])
            self._rows.append((np.array(padded, np.int32), counts))
        self._compute = compute

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shapes(self) -> Counter[tuple[int, int]]:
        """Count of batches of each shape, (rows, tokens)."""
        return Counter(ids.shape for ids, _ in self._rows)

    def size(self, number: int) -> int:
        """Return the count of distinct texts in a batch."""
        return len(self._indices[number])

    def compute(self, number: int) -> Float32[np.ndarray, "row dimension"]:
        """Return the features of one batch's distinct texts."""
        return np.asarray(self._compute(*self._rows[number]))[: self.size(number)]

    def features(
        self, batches: Iterable[Float32[np.ndarray, "row dimension"]]
    ) -> Float32[np.ndarray, "text dimension"]:
        """Return each text's features, in the order of the texts, from those of all batches."""
        features = np.empty((0, 0), np.float32)
        for indices, computed in zip(self._indices, batches, strict=True):
            if not features.size:
                features = np.empty((len(self._source), computed.shape[1]), np.float32)
            features[indices] = computed
        repeated = np.flatnonzero(self._source != np.arange(len(self._source)))
        features[repeated] = features[self._source[repeated]]
        return features

    def encode(self, progress: Progress = unseen) -> Float32[np.ndarray, "text dimension"]:
        """Return each text's features; `progress` is called after each batch with its texts."""

        def computed() -> Iterator[np.ndarray]:
            for number in range(len(self)):
                yield self.compute(number)
                progress(self.size(number))

        features = self.features(computed())
        progress(len(self._source) - sum(map(len, self._indices)))
        return features


def _shape(texts: int, length: int, longest: int, lengths: Sequence[int]) -> tuple[int, int]:
    """Return the rows and tokens of the next batch of `texts` texts, the longest of `length`."""
    width = min(longest, next(n for n in (*lengths, longest) if n >= length))
    full = max(1, TOKENS_AT_ONCE // width)
    return min([full, *(rows for rows in FEW_ROWS if rows >= texts)]), width
