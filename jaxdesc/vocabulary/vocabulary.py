"""Vocabularies: the concepts that a neuron may be named by, and the prompts that CLIP reads.

By default a vocabulary holds each concept once, regardless of case, white space and Unicode form.
CLIP reads such spellings alike, so they would tie in every score and all be selected. WWW keeps
them; `compat="www"` keeps them too.
"""

import csv
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from jaxdesc.config import TEMPLATE
from jaxdesc.errors import InputError, shown
from jaxdesc.scenes import captions
from jaxdesc.vocabulary import imagenet, wordnet
from jaxdesc.vocabulary.names import (
    LINE_END,
    check_lines,
    check_name,
    class_names,
    normalised,
    read_lines,
)

_FORMS = (
    'a list of strings, "imagenet", "wordnet", "broden:PATH" (NetDissect\'s label.csv), '
    '"file:PATH" (UTF-8 text, one concept a line) or "scenes"'
)
_CONCEPT_LINES = "one concept a line"
_CLASS_LINES = 'one class a line, its names separated by ", "'
_CLASSES = f'"imagenet", "file:PATH" (UTF-8 text, {_CLASS_LINES}) or nothing'

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Vocabulary:
    """Concepts in their order, which breaks ties between scores, and a name for reports."""

    concepts: tuple[str, ...]
    name: str


def load_vocabulary(
    spec: str | os.PathLike[str] | Iterable[str], compat: str | None = None
) -> Vocabulary:
    """Load the vocabulary that `spec` names.

    Concepts are normalised before duplicates are dropped: NFC, one space for any white space, and
    no characters that can't be seen. Blank ones are left out, and a warning counts them.

    Args:
        spec: one of

            - any iterable of strings; a set is sorted, so that its order is always the same;
            - "imagenet": every name of ImageNet-1k's classes, 1,862 entries;
            - "wordnet": the first word of every noun synset of WordNet 3.0, 82,115 entries;
            - "broden:PATH": the labels of NetDissect's data set Broden, 1,197 entries, from its
              label.csv, the folder that holds it, or a text file with one a line;
            - "file:PATH", or a `Path`: a UTF-8 text file, one concept a line;
            - "scenes": the embedded world's phrases.
        compat: None keeps the first spelling of each concept, case folded; "www" keeps all as they
            are written, but for white space around them.

    Returns:
        The vocabulary; its name is the file's without suffix, "list", or the form's.

    Raises:
        InputError: the form of `spec` or `compat` is unknown, WordNet isn't installed, the file is
            missing, too large, not UTF-8 or not a list of names, a concept isn't a text or is too
            long for any CLIP, or none is left.
    """
    if compat not in (None, "www"):
        raise InputError(f'compat is {shown(compat)}, but it must be None or "www".')
    entries, name, entry, where = _read(spec)
    spelled = str.strip if compat == "www" else normalised
    concepts: list[str] = []
    for number, text in enumerate(entries, 1):
        if concept := spelled(text):
            check_name(concept, f"{entry} {number} of {where}")
            concepts.append(concept)
    if len(concepts) < len(entries):
        blank = len(entries) - len(concepts)
        _log.warning("vocabulary %s: %d blank concepts were left out.", name, blank)
    if not concepts:
        raise InputError(f"vocabulary {name} holds no concept: give it at least one.")
    return Vocabulary(tuple(concepts if compat == "www" else _distinct(concepts)), name)


def load_classes(spec: str) -> tuple[tuple[str, ...], ...]:
    """The names of a network's classes, the truth that its neurons' concepts are compared with.

    Args:
        spec: "imagenet", for the 1,000 classes by their WordNet synonyms; "file:PATH" (UTF-8 text,
            one class a line, its names separated by ", "); or "" for none.

    Returns:
        Each class's names.

    Raises:
        InputError: the form of `spec` is unknown, WordNet isn't installed, the file is missing or
            isn't UTF-8, or a name is blank.
    """
    form, _, path = spec.partition(":")
    if not spec:
        return ()
    if spec == "imagenet":
        return imagenet.names()
    if form != "file" or not path:
        raise InputError(f"there are no classes {shown(spec)}: give {_CLASSES}.")
    lines = read_lines(path, "class", _CLASS_LINES)
    check_lines(lines, path)
    return tuple(_class_names(path, number, line) for number, line in enumerate(lines, 1))


def _class_names(path: str, number: int, line: str) -> tuple[str, ...]:
    names = class_names(line)
    if not names:
        raise InputError(f"line {number} of {path} has a blank name: expected {_CLASS_LINES}.")
    for name in names:
        check_name(name, f"line {number} of {path}")
    return names


def base_template(template: str = TEMPLATE) -> str:
    """The prompt without a concept, "A photo of a": what is alike in all prompts.

    Raises:
        InputError: nothing but the concept stands in the template.
    """
    base = " ".join(template.replace("{concept}", " ").split())
    if not base:
        raise InputError(f"the template {template!r} has no words beside the concept: add some.")
    return base


def prompts(vocabulary: Vocabulary, template: str = TEMPLATE) -> list[str]:
    """The template filled with each concept, in order.

    Raises:
        InputError: the template has no place for a concept.
    """
    if "{concept}" not in template:
        raise InputError(f'the template {template!r} has no "{{concept}}": say where it goes.')
    return [template.replace("{concept}", concept) for concept in vocabulary.concepts]


class _Entries(NamedTuple):
    """The raw entries of a vocabulary, its name, and what and where each entry is, for errors."""

    entries: list[str]
    name: str
    entry: str = "entry"
    where: str = "the vocabulary"


def _read(spec: str | os.PathLike[str] | Iterable[str]) -> _Entries:
    if isinstance(spec, os.PathLike):
        spec = f"file:{os.fspath(spec)}"
    if not isinstance(spec, str):
        return _Entries(_listed(spec), "list")
    if spec in _NAMED:
        return _Entries(_NAMED[spec](), spec)
    form, _, path = spec.partition(":")
    if path and form == "broden":
        return _Entries(_broden(path), form, "label", path)
    if path and form == "file":
        lines = read_lines(path, "vocabulary", _CONCEPT_LINES)
        check_lines(lines, path)
        return _Entries(lines, Path(path).stem, "line", path)
    if os.path.isfile(os.path.expanduser(spec)):
        raise InputError(
            f"there is no vocabulary {shown(spec)}, but there is a file of that name: give "
            f"{shown(f'file:{spec}')}."
        )
    raise InputError(f"there is no vocabulary {shown(spec)}: give {_FORMS}.")


def _listed(entries: Iterable[str]) -> list[str]:
    # Iterating over a dict or a data frame gives keys or heads, which are rarely the concepts.
    table = isinstance(entries, Mapping) or hasattr(entries, "columns")
    if table or not isinstance(entries, Iterable) or getattr(entries, "ndim", 1) == 0:
        raise InputError(f"the vocabulary is {shown(entries)}: give {_FORMS}.")
    listed = list(entries)
    for number, entry in enumerate(listed, 1):
        if not isinstance(entry, str):
            raise InputError(
                f"entry {number} of the vocabulary is {shown(entry)}, which isn't a string: give "
                f"{_FORMS}."
            )
        if LINE_END.search(entry.strip()):
            raise InputError(
                f"entry {number} of the vocabulary is {shown(entry)}, which has several lines: "
                "give one concept per entry."
            )
    # Python orders a set differently in every process.
    return sorted(listed) if isinstance(entries, set | frozenset) else listed


def _imagenet() -> list[str]:
    return [name for names in imagenet.names() for name in names]


def _wordnet() -> list[str]:
    return [words[0] for words in wordnet.noun_synsets().values()]


_NAMED: dict[str, Callable[[], list[str]]] = {
    "imagenet": _imagenet,
    "wordnet": _wordnet,
    "scenes": lambda: list(captions.vocabulary()),
}


def _broden(path: str) -> list[str]:
    """Labels as CLIP-Dissect and WWW write them: "art_gallery-s", a scene, is "art gallery"."""
    file = os.path.join(path, "label.csv") if os.path.isdir(os.path.expanduser(path)) else path
    lines = read_lines(file, "vocabulary", "one label a line, or NetDissect's label.csv")
    if not lines[0].startswith("number,name,"):
        check_lines(lines, file)
        return lines
    try:
        labels = [row["name"] or "" for row in csv.DictReader(lines)]
    except csv.Error as error:
        raise InputError(
            f"vocabulary file {file} is no table ({error}): give NetDissect's label.csv."
        ) from error
    return [label.removesuffix("-s").replace("_", " ") for label in labels]


def _distinct(concepts: list[str]) -> list[str]:
    """Keep the first spelling of each concept, in order."""
    first: dict[str, str] = {}
    for concept in concepts:
        first.setdefault(concept.lower(), concept)
    return list(first.values())
