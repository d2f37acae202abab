"""Sentence encoders of sentence-transformers: MPNet and BERT, mean-pooled and normalised.

Reimers and Gurevych, "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks", EMNLP 2019.
all-mpnet-base-v2 gives the metric that the papers call mpnet cos.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float32

from jaxdesc.errors import InputError, shown
from jaxdesc.models.bert import NETWORKS, BertConfig, table_of
from jaxdesc.models.checkpoint import abstract, read_model
from jaxdesc.models.settings import parsed, read_config, read_object
from jaxdesc.models.source import SENTENCE, open_network, read_modules
from jaxdesc.models.texts import (
    Progress,
    TextBatches,
    fingerprint_of,
    load_tokenizer,
    tokenize,
    unseen,
)
from jaxdesc.runtime import fingerprint

# Steps of sentence-transformers, in this order; the last is always done, even if it is not listed.
MODULES = ("Transformer", "Pooling", "Normalize")


@dataclass(frozen=True, eq=False)
class SentenceEncoder:
    """A sentence encoder as a function of texts.

    It is an NNX module, split into its weights and its structure, and a Hugging Face tokenizer;
    `length` is the most tokens of a text that are read. `notes` says what was left out when it was
    read, a sentence each.
    """

    params: Any
    graph: Any
    tokenizer: Any
    length: int
    name: str = "sentence"
    notes: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights, of the network's program, of tokenizer and length."""
        tokens, lengths = np.zeros((1, self.length), np.int32), np.ones(1, np.int32)
        program = fingerprint.of_function(partial(_texts, self.graph), self.params, tokens, lengths)
        weights = fingerprint.of_weights(self.params)
        return " ".join((weights, program, fingerprint_of(self.tokenizer), str(self.length)))

    def __call__(
        self, texts: Sequence[str], progress: Progress = unseen
    ) -> Float32[np.ndarray, "text dimension"]:
        """Return unit features of texts, in their order; more tokens than `length` are cut off.

        Texts that the tokenizer reads alike are encoded once; `progress` gets each batch's count of
        texts. `InputError` for no text, or blank ones.
        """
        return self.text_batches(texts).encode(progress)

    @property
    def reading(self) -> partial[Any]:
        """The program of a batch of texts, which takes token ids and each text's number of them."""
        return partial(_texts, self.graph, self.params)

    def text_batches(self, texts: Sequence[str]) -> TextBatches:
        """Lay texts out to be encoded, so that finished batches can be kept."""
        return TextBatches(
            tokenize(self.tokenizer, texts, truncation=True, max_length=self.length),
            self.reading,
            longest=self.length,
            padding=self.tokenizer.pad_token_id,
        )


@partial(jax.jit, static_argnums=0)
def _texts(graph: Any, params: Any, tokens: Array, lengths: Array) -> Array:
    mask = jnp.arange(tokens.shape[1])[None] < lengths[:, None]
    return nnx.merge(graph, params).encode(tokens, mask)


def load_sentence_encoder(
    source: str | PathLike[str], *, revision: str | None = None
) -> SentenceEncoder:
    """Read a sentence encoder, such as all-mpnet-base-v2 or all-MiniLM-L6-v2.

    Args:
        source: a local sentence-transformers folder (`modules.json`, `config.json`,
            `model.safetensors`, tokenizer, `1_Pooling/config.json`); or a Hugging Face folder of a
            BERT or an MPNet, whose tokens are then averaged; or a Hugging Face id of either.
        revision: branch, tag or commit of a Hugging Face id; its main branch by default.

    Raises:
        InputError: a missing folder or tokenizer, a config that is not understood, steps that are
            not implemented, or tensors that do not fit.
    """
    path, name, notes = open_network(source, SENTENCE, revision)
    folder = _transformer_folder(path)
    entries = read_config(folder)
    kind = entries.get("model_type")
    if kind not in NETWORKS:
        raise InputError(
            f"{folder / 'config.json'} sets model_type {kind!r}, but only "
            f"{' and '.join(NETWORKS)} are implemented; use an encoder built on one of these, such "
            "as all-mpnet-base-v2 or all-MiniLM-L6-v2."
        )
    network = NETWORKS[kind]
    config = parsed(BertConfig.from_huggingface, entries, folder)
    model = read_model(abstract(network, config), folder, partial(table_of, kind), notes)
    files, options = "tokenizer.json, or vocab.txt", {"trust_remote_code": False}
    tokenizer = load_tokenizer(
        "AutoTokenizer", folder, "sentence encoder", files, config.vocab_size, **options
    )
    if tokenizer.pad_token_id is None:
        raise InputError(
            f"The tokenizer of {str(folder)!r} has no pad_token: set it in tokenizer_config.json."
        )
    graph, params = nnx.split(model)
    return SentenceEncoder(
        params=params,
        graph=graph,
        tokenizer=tokenizer,
        length=_length(folder, tokenizer, config.max_position_embeddings - network.first_position),
        name=name,
        notes=tuple(notes),
    )


def _transformer_folder(path: Path) -> Path:
    """Check every step that sentence-transformers takes, and find the network's folder."""
    prompts = path / "config_sentence_transformers.json"
    prompt = _settings(prompts).get("default_prompt_name")
    if prompt is not None:  # it would be left out of every text
        raise InputError(
            f"{prompts} sets default_prompt_name {prompt!r}, but prompts are not implemented; use "
            "an encoder without one."
        )
    if (path / "modules.json").exists():
        modules = read_modules(path)
        names = tuple(name for name, _ in modules)
        if names not in (MODULES, MODULES[:2]):
            raise InputError(
                f"{path / 'modules.json'} lists the modules {', '.join(names)}, but only "
                f"{', '.join(MODULES)} are implemented, in this order; use an encoder made of "
                "these."
            )
        (_, network), (_, pooling), *_ = modules
        _check_pooling(pooling / "config.json")
        return network
    if (path.parent / "modules.json").exists() and re.match("[0-9]_", path.name):
        _transformer_folder(path.parent)  # checks the steps that follow this folder's network
    # A folder without modules.json may still hold its modules, such as 1_Pooling.
    for folder in sorted(path.glob("[0-9]_*/")):
        kind = folder.name.partition("_")[2]
        if kind == "Pooling":
            _check_pooling(folder / "config.json")
        elif kind not in MODULES:
            raise InputError(
                f"{folder} is a module {kind} of sentence-transformers, but only "
                f"{', '.join(MODULES)} are implemented; use an encoder made of these."
            )
    return path


def _check_pooling(file: Path) -> None:
    settings = read_object(file, "the pooling of a sentence encoder")
    flags = [key for key, on in settings.items() if key.startswith("pooling_mode_") and on is True]
    modes = settings.get("pooling_mode", [flag.removeprefix("pooling_mode_") for flag in flags])
    if modes not in ("mean", ["mean"], ["mean_tokens"]):
        raise InputError(
            f"{file} pools by {modes!r}, but only the mean over tokens is implemented; use an "
            "encoder that averages its tokens."
        )


def _length(folder: Path, tokenizer: Any, positions: int) -> int:
    """Return the most tokens of a text that are read."""
    file = folder / "sentence_bert_config.json"
    settings = _settings(file)
    longest = settings.get("max_seq_length")
    number = type(longest) is int and longest > 0
    if settings.get("do_lower_case") or not (longest is None or number):
        raise InputError(
            f"{file} sets {shown(settings)}, but only a number or null as max_seq_length and false "
            "as do_lower_case are implemented; use an encoder with these."
        )
    lengths = longest or tokenizer.model_max_length, positions
    if not all(isinstance(length, int | float) and length >= 1 for length in lengths):
        raise InputError(
            f"{folder} reads texts of {shown(lengths[0])} tokens in {positions} positions: "
            "expected a positive number of both; correct model_max_length in its "
            "tokenizer_config.json and max_position_embeddings in its config.json."
        )
    return int(min(lengths))


def _settings(file: Path) -> dict[str, Any]:
    return read_object(file, "settings of a sentence encoder") if file.exists() else {}
