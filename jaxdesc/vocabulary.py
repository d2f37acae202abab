"""Vocabularies: the concepts that a neuron may be named by, and the prompts that CLIP reads.

By default a vocabulary holds each concept once, whatever its case, since CLIP lower-cases its
input: two spellings have the same feature, tie in every score and would both be selected. WWW keeps
such duplicates; `compat="www"` keeps them too.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxdesc.errors import InputError
from jaxdesc.scenes import captions

TEMPLATE = "A photo of a {concept}"

_FORMS = 'a list of strings, "file:PATH" (UTF-8 text, one concept a line) or "scenes"'

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
        spec: a sequence of strings, "file:PATH" (UTF-8 text, one concept a line), or "scenes", the
            embedded world's phrases.
        compat: None keeps the first spelling of each concept, case folded; "www" keeps all.

    Returns:
        The vocabulary; its name is the file's without suffix, "list" or "scenes".

    Raises:
        InputError: the form of `spec` or `compat` is unknown, the file is missing or isn't UTF-8,
            or no concept is left.
    """
    if compat not in (None, "www"):
        raise InputError(f'compat is {compat!r}, but it must be None or "www".')
    lines, name = _read(spec)
    stripped = [line.strip() for line in lines]
    concepts = [concept for concept in stripped if concept]
    if len(concepts) < len(stripped):
        blank = len(stripped) - len(concepts)
        _log.warning("vocabulary %s: %d blank concepts were left out.", name, blank)
    if not concepts:
        raise InputError(f"vocabulary {name} holds no concept: give it at least one.")
    return Vocabulary(tuple(concepts if compat == "www" else _distinct(concepts)), name)


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
    """The raw lines that a spec names, and the vocabulary's name."""
    if spec == "scenes":
        return list(captions.vocabulary()), "scenes"
    if isinstance(spec, str):
        form, _, path = spec.partition(":")
        if form != "file" or not path:
            raise InputError(f"there is no vocabulary {spec!r}: give {_FORMS}.")
        return _lines(Path(path)), Path(path).stem
    wrong = [entry for entry in spec if not isinstance(entry, str)]
    if wrong:
        raise InputError(f"the vocabulary holds {wrong[0]!r}, which isn't a string: give {_FORMS}.")
    return list(spec), "list"


def _lines(path: Path) -> list[str]:
    try:
        # utf-8-sig: an editor's byte order mark isn't part of the first concept.
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"vocabulary file {path} isn't UTF-8 at byte {error.start}: save it as UTF-8 text, "
            "one concept a line."
        ) from error
    except OSError as error:
        raise InputError(
            f"vocabulary file {path} can't be read ({error.strerror}): give the path of a UTF-8 "
            "text file, one concept a line."
        ) from error
    # Not splitlines, which also breaks at characters that no editor shows as a new line.
    return text.removesuffix("\n").split("\n")


def _distinct(concepts: list[str]) -> list[str]:
    """The first spelling of each concept, in order."""
    first: dict[str, str] = {}
    for concept in concepts:
        first.setdefault(concept.lower(), concept)
    return list(first.values())
