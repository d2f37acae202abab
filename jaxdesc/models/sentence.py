"""Sentence encoders of sentence-transformers: MPNet and BERT, mean-pooled and normalised.

Reimers and Gurevych, "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks", EMNLP 2019.
all-mpnet-base-v2 gives the metric that the papers call mpnet cos.
"""

import re
from collections.abc import Mapping, Sequence
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
from jaxdesc.models.bert import Bert, BertConfig, Encoder, MPNet
from jaxdesc.models.checkpoint import PYTORCH, Row, Table, _abstract, assign
from jaxdesc.models.files import parsed, read_config, read_json, read_tensors
from jaxdesc.models.packaging import SENTENCE, open_network, read_modules
from jaxdesc.models.texts import Progress, TextBatches, fingerprint_of, tokenize, unseen
from jaxdesc.runtime import fingerprint

_SHARED_ROWS = (
    Row(r"(word|position)_embeddings\.embedding", r"embeddings.\1_embeddings.weight"),
    *PYTORCH.norm_rows("norm", "embeddings.LayerNorm"),
    *PYTORCH.dense_rows(r"layers\.(\d+)\.intermediate", r"encoder.layer.\1.intermediate.dense"),
    *PYTORCH.dense_rows(r"layers\.(\d+)\.output", r"encoder.layer.\1.output.dense"),
    *PYTORCH.norm_rows(r"layers\.(\d+)\.output_norm", r"encoder.layer.\1.output.LayerNorm"),
)
_ATTENTION = r"encoder.layer.\1.attention"
BERT_ROWS = (
    *_SHARED_ROWS,
    Row(r"token_type_embeddings\.embedding", "embeddings.token_type_embeddings.weight"),
    *PYTORCH.dense_rows(r"layers\.(\d+)\.attention\.(query|key|value)", rf"{_ATTENTION}.self.\2"),
    *PYTORCH.dense_rows(r"layers\.(\d+)\.attention\.output", f"{_ATTENTION}.output.dense"),
    *PYTORCH.norm_rows(r"layers\.(\d+)\.attention_norm", f"{_ATTENTION}.output.LayerNorm"),
)
MPNET_ROWS = (
    *_SHARED_ROWS,
    Row(r"relative_attention_bias\.embedding", "encoder.relative_attention_bias.weight"),
    *PYTORCH.dense_rows(r"layers\.(\d+)\.attention\.query", f"{_ATTENTION}.attn.q"),
    *PYTORCH.dense_rows(r"layers\.(\d+)\.attention\.key", f"{_ATTENTION}.attn.k"),
    *PYTORCH.dense_rows(r"layers\.(\d+)\.attention\.value", f"{_ATTENTION}.attn.v"),
    *PYTORCH.dense_rows(r"layers\.(\d+)\.attention\.output", f"{_ATTENTION}.attn.o"),
    *PYTORCH.norm_rows(r"layers\.(\d+)\.attention_norm", f"{_ATTENTION}.LayerNorm"),
)
# What a mean over tokens does not read: the pooler, positions counted from 0, the heads of tasks.
_IGNORED = r"({prefix})?(pooler\.dense\..*|embeddings\.position_ids)|(cls|lm_head)\..*"

NETWORKS: dict[str, tuple[type[Encoder], tuple[Row, ...]]] = {
    "bert": (Bert, BERT_ROWS),
    "mpnet": (MPNet, MPNET_ROWS),
}
# What sentence-transformers may do to a text, in this order; without the last, it is done here.
MODULES = ("Transformer", "Pooling", "Normalize")


@dataclass(frozen=True, eq=False)
class SentenceEncoder:
    """A sentence encoder as a function of texts.

    Attributes:
        params: pytree of its weights.
        graph: the module's structure (`nnx.split`).
        tokenizer: a Hugging Face tokenizer.
        length: most tokens of a text that are read.
        name: for reports.
        notes: what was left out when it was read, a sentence each.
    """

    params: Any
    graph: Any
    tokenizer: Any
    length: int
    name: str = "sentence"
    notes: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights, of what the network computes, of tokenizer and length."""
        tokens, lengths = np.zeros((1, self.length), np.int32), np.ones(1, np.int32)
        program = fingerprint.of_function(partial(_texts, self.graph), self.params, tokens, lengths)
        weights = fingerprint.of_weights(self.params)
        return " ".join((weights, program, fingerprint_of(self.tokenizer), str(self.length)))

    def __call__(
        self, texts: Sequence[str], progress: Progress = unseen
    ) -> Float32[np.ndarray, "text dimension"]:
        """Return unit features of texts, in their order; more tokens than `length` are cut off.

        Args:
            texts: at least one; those that the tokenizer reads alike are encoded once.
            progress: called after each batch with its count of texts.

        Raises:
            InputError: no text, or blank ones.
        """
        return self.text_batches(texts).encode(progress)

    def text_batches(self, texts: Sequence[str]) -> TextBatches:
        """Lay texts out to be encoded, so that what is done of them can be kept.

        Raises:
            InputError: no text, or blank ones.
        """
        return TextBatches(
            tokenize(self.tokenizer, texts, truncation=True, max_length=self.length),
            partial(_texts, self.graph, self.params),
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

    Returns:
        The encoder.

    Raises:
        InputError: a missing folder or tokenizer, a config that is not understood, steps that are
            not implemented, or tensors that do not fit.
    """
    path, name, notes = open_network(source, SENTENCE, revision)
    _check_prompt(path / "config_sentence_transformers.json")
    place = _transformer_folder(path)
    kind = _kind(place)
    network, rows = NETWORKS[kind]
    config = parsed(BertConfig.from_huggingface, read_config(place), place)
    tensors = read_tensors(place, notes)
    table = _table(rows, f"{kind}.", tensors)
    model = assign(_abstract(network, config), tensors, table, place)
    tokenizer = _tokenizer(place, config)
    graph, params = nnx.split(model)
    positions = config.max_position_embeddings - network.first_position
    lengths = _longest(place) or tokenizer.model_max_length, positions
    if not all(isinstance(length, int | float) and length >= 1 for length in lengths):
        raise InputError(
            f"{place} reads texts of {shown(lengths[0])} tokens in {positions} positions: expected "
            "a positive number of both; correct model_max_length in its tokenizer_config.json and "
            "max_position_embeddings in its config.json."
        )
    return SentenceEncoder(
        params=params,
        graph=graph,
        tokenizer=tokenizer,
        length=int(min(lengths)),
        name=name,
        notes=tuple(notes),
    )


def _table(rows: Sequence[Row], prefix: str, tensors: Mapping[str, np.ndarray]) -> Table:
    """A task's checkpoint names its encoder's tensors with the prefix, an encoder's without."""
    present = prefix if any(name.startswith(prefix) for name in tensors) else ""
    named = tuple(row._replace(tensor=present + row.tensor) for row in rows)
    return Table(named, _IGNORED.format(prefix=re.escape(prefix)))


def _kind(place: Path) -> str:
    kind = read_config(place).get("model_type")
    if kind not in NETWORKS:
        raise InputError(
            f"{place / 'config.json'} sets model_type {kind!r}, but only "
            f"{' and '.join(NETWORKS)} are implemented; use an encoder built on one of these, such "
            "as all-mpnet-base-v2 or all-MiniLM-L6-v2."
        )
    return kind


def _transformer_folder(path: Path) -> Path:
    """Check what `modules.json` lets sentence-transformers do, and find the network's folder."""
    if not (path / "modules.json").exists():
        if (path.parent / "modules.json").exists() and re.match("[0-9]_", path.name):
            _transformer_folder(path.parent)  # what it does with this one's output
        _check_loose_modules(path)
        return path
    modules = read_modules(path)
    names = tuple(module.kind for module in modules)
    if names not in (MODULES, MODULES[:2]):
        raise InputError(
            f"{path / 'modules.json'} lists the modules {', '.join(names)}, but only "
            f"{', '.join(MODULES)} are implemented, in this order; use an encoder made of these."
        )
    _check_pooling(modules[1].folder / "config.json")
    return modules[0].folder


def _check_loose_modules(path: Path) -> None:
    """Check the modules of a folder whose `modules.json` was lost, such as `1_Pooling`."""
    for folder in sorted(path.glob("[0-9]_*/")):
        kind = folder.name.partition("_")[2]
        if kind == "Pooling":
            _check_pooling(folder / "config.json")
        elif kind not in MODULES:
            raise InputError(
                f"{folder} is a module {kind} of sentence-transformers, but only "
                f"{', '.join(MODULES)} are implemented; use an encoder made of these."
            )


def _check_pooling(file: Path) -> None:
    settings = _settings(file)
    flags = [key for key, on in settings.items() if key.startswith("pooling_mode_") and on is True]
    modes = settings.get("pooling_mode", [flag.removeprefix("pooling_mode_") for flag in flags])
    if modes not in ("mean", ["mean"], ["mean_tokens"]):
        raise InputError(
            f"{file} pools by {modes!r}, but only the mean over tokens is implemented; use an "
            "encoder that averages its tokens."
        )


def _check_prompt(file: Path) -> None:
    """What stood before every text by default would be silently left out."""
    prompt = _settings(file).get("default_prompt_name") if file.exists() else None
    if prompt is not None:
        raise InputError(
            f"{file} sets default_prompt_name {prompt!r}, but prompts are not implemented; use an "
            "encoder without one."
        )


def _longest(place: Path) -> int | None:
    """Return `max_seq_length`, where it is set."""
    file = place / "sentence_bert_config.json"
    settings = _settings(file) if file.exists() else {}
    longest = settings.get("max_seq_length")
    number = type(longest) is int and longest > 0
    if settings.get("do_lower_case") or not (longest is None or number):
        raise InputError(
            f"{file} sets {shown(settings)}, but only a number or null as max_seq_length and false "
            "as do_lower_case are implemented; use an encoder with these."
        )
    return longest


def _tokenizer(place: Path, config: BertConfig) -> Any:
    from transformers import AutoTokenizer  # seconds to import, and needed only here

    if not any((place / name).exists() for name in ("tokenizer.json", "vocab.txt")):
        raise InputError(
            f"The sentence encoder folder {str(place)!r} has no tokenizer: expected tokenizer.json "
            "or vocab.txt, as Hugging Face ships them."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            place, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # of no fixed type: JSON's, the tokenizers library's, an OSError
        raise InputError(
            f"The tokenizer of the sentence encoder folder {str(place)!r} can't be read "
            f"({error!r}): download tokenizer.json, or vocab.txt, again."
        ) from error
    if tokenizer.pad_token_id is None:
        raise InputError(
            f"The tokenizer of {str(place)!r} has no pad_token: set it in tokenizer_config.json."
        )
    if len(tokenizer) > config.vocab_size:
        raise InputError(
            f"The tokenizer of {str(place)!r} has {len(tokenizer)} tokens, but its config.json "
            f"sets vocab_size {config.vocab_size}; use the files of one checkpoint."
        )
    return tokenizer


def _settings(file: Path) -> dict[str, Any]:
    settings = _read(file)
    if not isinstance(settings, dict):
        raise InputError(
            f"{file} holds a JSON {type(settings).__name__}, expected an object of settings; "
            "download the checkpoint again."
        )
    return settings


def _read(file: Path) -> Any:
    try:
        return read_json(file)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} can't be read as JSON ({error}); download the checkpoint again."
        ) from error
