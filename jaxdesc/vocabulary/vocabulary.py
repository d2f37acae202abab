"""VOCABULARIES: the concepts that a neuron may be named by, and the prompts that CLIP reads.

By default a vocabulary holds each concept once, regardless of case, white space and Unicode form.
CLIP reads such spellings alike, so they would tie in every score and all be selected. WWW keeps
them, and so does `compat="www"`.
"""

import csv
import inspect
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxdesc.config import TEMPLATE
from jaxdesc.errors import InputError, shown
from jaxdesc.vocabulary import imagenet, wordnet
from jaxdesc.vocabulary.names import LINE_END, check_name, class_names, normalised, read_names

_CLASS_LINES = 'one class per line, its names separated by ", "'

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Vocabulary:
    """Concepts, whose order breaks ties between scores, and a name for reports."""

    concepts: tuple[str, ...]
    name: str


def _broden(path: str) -> list[str]:
    """Labels of Broden, NetDissect's data set: its label.csv, its folder, or a file of lines.

    Labels are written as in CLIP-Dissect and WWW: "art_gallery-s", a scene, is "art gallery".
    """
    file = os.path.join(path, "label.csv") if os.path.isdir(os.path.expanduser(path)) else path
    form = "one label per line, or NetDissect's label.csv"
    lines = read_names(file, "vocabulary", form, table="number,name,")
    if not lines[0].startswith("number,name,"):
        return lines
    try:
        labels = [row["name"] or "" for row in csv.DictReader(lines)]
    except csv.Error as error:
        raise InputError(
            f"vocabulary file {file} is not a table ({error}): give NetDissect's label.csv."
        ) from error
    return [label.removesuffix("-s").replace("_", " ") for label in labels]


# Reads the concepts of `kind:rest`, by kind: a function from the rest to the concepts, or without
# an argument if the kind takes no rest.
VOCABULARIES: dict[str, Callable[..., Sequence[str]]] = {
    "imagenet": lambda: [name for names in imagenet.names() for name in names],
    "wordnet": lambda: [words[0] for words in wordnet.noun_synsets().values()],
    "broden": _broden,
    "file": lambda path: read_names(path, "vocabulary", "one concept per line"),
}


def load_vocabulary(spec: str | os.PathLike[str] | Iterable[str], compat: str = "") -> Vocabulary:
    """Load a vocabulary, which is named after its file or kind.

    Concepts are normalised, as in `names.normalised`; a warning counts blank ones.

    Args:
        spec: one of

            - any iterable of strings; a set is sorted;
            - "imagenet": every name of ImageNet-1k's classes, 1,862 entries;
            - "wordnet": the first word of each noun synset of WordNet 3.0, 82,115 entries;
            - "broden:PATH": the labels of NetDissect's data set Broden, 1,197 entries;
            - "file:PATH", or a `Path`: a UTF-8 text file, one concept per line;
            - any other kind in `VOCABULARIES`.
        compat: empty keeps the first spelling of each concept, regardless of case; "www" keeps all
            as they are written, except for white space around them.

    Raises:
        InputError: an unknown kind, a file that can't be read or isn't a list of names, WordNet
            isn't installed, a concept that isn't a name, or none.
    """
    entries, name, where = spec, "list", "the vocabulary"
    kinds = f"a list of strings, or KIND or KIND:PATH, KIND one of {', '.join(VOCABULARIES)}"
    if isinstance(spec, os.PathLike):
        spec = f"file:{os.fspath(spec)}"
    if isinstance(spec, str):
        kind, _, rest = spec.partition(":")
        if kind not in VOCABULARIES:
            known = os.path.isfile(os.path.expanduser(spec))
            hint = f"{shown(f'file:{spec}')} for the file of that name" if known else kinds
            raise InputError(f"there is no vocabulary {shown(spec)}: give {hint}.")
        takes_rest = bool(inspect.signature(VOCABULARIES[kind]).parameters)
        if bool(rest) != takes_rest:
            wanted = f"{kind}:PATH" if takes_rest else kind
            raise InputError(f"there is no vocabulary {shown(spec)}: give {wanted!r}.")
        entries = VOCABULARIES[kind](*([rest] if takes_rest else []))
        name, where = Path(rest).stem if kind == "file" else kind, spec
    listed = _listed(entries, kinds)
    concepts: list[str] = []
    for number, entry in enumerate(listed, 1):
        if not isinstance(entry, str) or LINE_END.search(entry.strip()):
            raise InputError(
                f"entry {number} of {where} is {shown(entry)}: give one concept per entry, a "
                "string of one line."
            )
        if concept := entry.strip() if compat == "www" else normalised(entry):
            check_name(concept, f"entry {number} of {where}")
            concepts.append(concept)
    if blank := len(listed) - len(concepts):
        _log.warning("vocabulary %s: %d blank concepts were left out.", name, blank)
    if not concepts:
        raise InputError(f"vocabulary {name} holds no concept: give it at least one.")
    if compat != "www":
        first: dict[str, str] = {}  # first spelling of each concept
        for concept in concepts:
            first.setdefault(concept.lower(), concept)
        concepts = list(first.values())
    return Vocabulary(tuple(concepts), name)


def _listed(entries: Any, kinds: str) -> list[Any]:
    # Iterating over a dict or a data frame gives keys or heads, which are rarely the concepts.
    table = isinstance(entries, Mapping) or hasattr(entries, "columns")
    if table or not isinstance(entries, Iterable) or getattr(entries, "ndim", 1) == 0:
        raise InputError(f"the vocabulary is {shown(entries)}: give {kinds}.")
    # Python orders a set differently in every process.
    return sorted(entries, key=str) if isinstance(entries, set | frozenset) else list(entries)


def load_classes(spec: str) -> tuple[tuple[str, ...], ...]:
    """Load the names of a network's classes, for the metrics.

    `spec` is "imagenet", for the 1,000 classes by their WordNet synonyms; "file:PATH" (UTF-8 text,
    one class per line, its names separated by ", "); or "" for none. Raises `InputError` if the
    form of `spec` is unknown, WordNet isn't installed, the file is missing or isn't UTF-8, or a
    name is blank.
    """
    form, _, path = spec.partition(":")
    if not spec:
        return ()
    if spec == "imagenet":
        return imagenet.names()
    if form != "file" or not path:
        raise InputError(
            f'there are no classes {shown(spec)}: give "imagenet", "file:PATH" (UTF-8 text, '
            f"{_CLASS_LINES}) or nothing."
        )
    classes = []
    for number, line in enumerate(read_names(path, "class", _CLASS_LINES), 1):
        classes.append(class_names(line))
        if not classes[-1]:
            raise InputError(f"line {number} of {path} has a blank name: expected {_CLASS_LINES}.")
        for name in classes[-1]:
            check_name(name, f"line {number} of {path}")
    return tuple(classes)


def base_template(template: str = TEMPLATE) -> str:
    """The prompt without a concept, "A photo of a": the part that all prompts share."""
    return " ".join(template.replace("{concept}", " ").split())


def prompts(vocabulary: Vocabulary, template: str = TEMPLATE) -> list[str]:
    """The template filled with each concept, in order."""
    return [template.replace("{concept}", concept) for concept in vocabulary.concepts]
