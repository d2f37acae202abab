"""Vocabularies: the concepts that a neuron may be named by, and the prompts that CLIP reads.

By default a vocabulary holds each concept once, whatever its case, since CLIP lower-cases its
input: two spellings have the same feature, tie in every score and would both be selected. WWW keeps
such duplicates; `compat="www"` keeps them too.
"""

import csv
import errno
import logging
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxdesc import imagenet, wordnet
from jaxdesc.errors import SHOWN, InputError, shown
from jaxdesc.scenes import captions

TEMPLATE = "A photo of a {concept}"
LARGEST_FILE = 2**26  # bytes; WordNet's nouns are a million
LONGEST = 1000  # characters of a concept; CLIP reads 77 tokens

_FORMS = (
    'a list of strings, "imagenet", "wordnet", "broden:PATH" (NetDissect\'s label.csv), '
    '"file:PATH" (UTF-8 text, one concept a line) or "scenes"'
)
_CONCEPT_LINES = "one concept a line"
_CLASS_LINES = 'one class a line, its names separated by ", "'
_CLASSES = f'"imagenet", "file:PATH" (UTF-8 text, {_CLASS_LINES}) or nothing'
# Control characters but for white space, and halves of a character (surrogates).
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff]")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Vocabulary:
    """Concepts in their order, which breaks ties between scores, and a name for reports."""

    concepts: tuple[str, ...]
    name: str


def load_vocabulary(spec: str | Sequence[str], compat: str | None = None) -> Vocabulary:
    """The vocabulary that `spec` names.

    White space around a concept is dropped. Blank concepts are left out, and a warning counts them.

    Args:
        spec: one of

            - a sequence of strings;
            - "imagenet": every name of ImageNet-1k's classes, 1,862 entries;
            - "wordnet": the first word of every noun synset of WordNet 3.0, 82,115 entries;
            - "broden:PATH": the labels of NetDissect's data set Broden, 1,197 entries, from its
              label.csv, the folder that holds it, or a text file with one a line;
            - "file:PATH": a UTF-8 text file, one concept a line;
            - "scenes": the embedded world's phrases.
        compat: None keeps the first spelling of each concept, case folded; "www" keeps all.

    Returns:
        The vocabulary; its name is the file's without suffix, "list", or the form's.

    Raises:
        InputError: the form of `spec` or `compat` is unknown, WordNet isn't installed, the file is
            missing, too large or isn't UTF-8, a concept is no text or too long for any CLIP, or
            none is left.
    """
    if compat not in (None, "www"):
        raise InputError(f'compat is {shown(compat)}, but it must be None or "www".')
    lines, name = _read(spec)
    stripped = [line.strip() for line in lines]
    concepts = [concept for concept in stripped if concept]
    if len(concepts) < len(stripped):
        blank = len(stripped) - len(concepts)
        _log.warning("vocabulary %s: %d blank concepts were left out.", name, blank)
    if not concepts:
        raise InputError(f"vocabulary {name} holds no concept: give it at least one.")
    for concept in concepts:
        _check_text(concept, f"vocabulary {name}")
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
    lines = _lines(path, "class", _CLASS_LINES)
    return tuple(_class_names(path, number, line) for number, line in enumerate(lines, 1))


def _class_names(path: str, number: int, line: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in line.split(", "))
    if not all(names):
        raise InputError(f"line {number} of {path} has a blank name: expected {_CLASS_LINES}.")
    for name in names:
        _check_text(name, f"line {number} of {path}")
    return names


def _check_text(text: str, where: str) -> None:
    """Refuse what no tokenizer should be given, and no terminal should print."""
    if len(text) > LONGEST:
        raise InputError(
            f"{where} holds {shown(text[:60])[:-1]}…', which has {len(text)} characters: expected "
            f"at most {LONGEST}, one concept a line; shorten or remove it."
        )
    found = _CONTROL.search(text)
    if found:
        raise InputError(
            f"{where} holds {shown(text)}, in which {found[0]!r} is no character of a text: remove "
            "it."
        )


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


def _read(spec: str | Sequence[str]) -> tuple[list[str], str]:
    """The raw entries that a spec names, and the vocabulary's name."""
    if not isinstance(spec, str):
        return _listed(spec), "list"
    if spec in _NAMED:
        return _NAMED[spec](), spec
    form, _, path = spec.partition(":")
    if path and form == "broden":
        return _broden(path), form
    if path and form == "file":
        return _lines(path, "vocabulary", _CONCEPT_LINES), Path(path).stem
    raise InputError(f"there is no vocabulary {shown(spec)}: give {_FORMS}.")


def _listed(entries: Sequence[str]) -> list[str]:
    if not isinstance(entries, Iterable):
        raise InputError(f"the vocabulary is {shown(entries)}: give {_FORMS}.")
    listed = list(entries)
    wrong = [entry for entry in listed if not isinstance(entry, str)]
    if wrong:
        raise InputError(
            f"the vocabulary holds {shown(wrong[0])}, which isn't a string: give {_FORMS}."
        )
    return listed


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
    lines = _lines(file, "vocabulary", "one label a line, or NetDissect's label.csv")
    if not lines[0].startswith("number,name,"):
        return lines
    try:
        labels = [row["name"] or "" for row in csv.DictReader(lines)]
    except csv.Error as error:
        raise InputError(
            f"vocabulary file {file} is no table ({error}): give NetDissect's label.csv."
        ) from error
    return [label.removesuffix("-s").replace("_", " ") for label in labels]


def _lines(path: str, what: str, form: str) -> list[str]:
    try:
        # utf-8-sig: an editor's byte order mark isn't part of the first line.
        text = _content(path, what).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{what} file {path} isn't UTF-8 at byte {error.start}: save it as UTF-8 text, {form}."
        ) from error
    except OSError as error:
        raise InputError(
            f"{what} file {path[:SHOWN]} can't be read ({error.strerror}): give the path of a "
            f"UTF-8 text file, {form}."
        ) from error
    # Not splitlines, which also breaks at characters that no editor shows as a new line.
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


def _content(path: str, what: str) -> bytes:
    """A file's bytes, up to a bound: a device such as /dev/zero never ends."""
    try:
        with open(os.path.expanduser(path), "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except ValueError as error:  # a zero byte, of which Python gives no OSError
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from error
    if len(content) > LARGEST_FILE:
        raise InputError(
            f"{what} file {path} has more than {LARGEST_FILE:,} bytes: give a UTF-8 text file, of "
            "fewer or shorter lines."
        )
    return content


def _distinct(concepts: list[str]) -> list[str]:
    """The first spelling of each concept, in order."""
    first: dict[str, str] = {}
    for concept in concepts:
        first.setdefault(concept.lower(), concept)
    return list(first.values())
