"""A network's classes as its checkpoint names them: timm's label names, Hugging Face's id2label."""

import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from jaxdesc.errors import InputError, printable, shown
from jaxdesc.models.files import parsed, read_config
from jaxdesc.models.settings import pretrained_cfg
from jaxdesc.vocabulary import imagenet, wordnet
from jaxdesc.vocabulary.names import class_names

# A WordNet id, alone or before its words, as in "n02123045 tabby, tabby cat".
WNID = re.compile(r"(n\d{8})(?:[\s_:,-]+(.+))?")


class Labels(NamedTuple):
    """Names and ids of a network's classes, in the order of its logits; empty if unknown.

    Attributes:
        names: of each class, the usual one first.
        wnids: WordNet's ids.
    """

    names: tuple[tuple[str, ...], ...] = ()
    wnids: tuple[str, ...] = ()


def read_labels(path: Path, logits: int, notes: list[str]) -> Labels:
    """Read the classes of a target.

    They are timm's `label_names`, whose names may be ids that `label_descriptions` explains, or
    Hugging Face's `id2label`: a list, or an object by class number. `names.class_names` splits a
    label into names. A WordNet id without a description gets the words of its synset.

    Args:
        path: the target's folder, or the file of its weights, which names no classes.
        logits: how many the network has.
        notes: gets a sentence if the classes stay without names.

    Raises:
        InputError: labels that are not texts, or not one per logit.
    """
    if path.is_file():
        return Labels()
    entries, file = read_config(path), path / "config.json"
    pretrained = parsed(pretrained_cfg, entries, path)
    where, given = _published(entries, pretrained)
    labels = _in_order(given, where, file)
    if not labels or labels == [f"LABEL_{index}" for index in range(len(labels))]:
        return Labels()  # Hugging Face's placeholders
    if len(labels) != logits:
        raise InputError(
            f"{where} in {file} names {len(labels)} classes, but the network has {logits} logits: "
            "correct it, or remove it."
        )
    descriptions = entries.get("label_descriptions") or pretrained.get("label_descriptions") or {}
    if isinstance(descriptions, list):
        raise InputError(f"label_descriptions in {file} is a list: expected an object by label.")
    _check_texts(descriptions, "label_descriptions", file)
    described = [(label, descriptions.get(label, "")) for label in labels]
    classes = [_class(label.strip(), description) for label, description in described]
    wnids = [wnid for wnid, _ in classes if wnid]
    twice = [wnid for wnid, count in Counter(wnids).items() if count > 1]
    if twice:
        raise InputError(f"{where} in {file} names {twice[0]} twice: correct it.")
    names = tuple(names for _, names in classes)
    if not all(names):
        names = _with_synsets(classes, f"{where} in {file}", notes)
    return Labels(names, tuple(wnids) if len(wnids) == len(labels) else ())


def _class(label: str, description: str) -> tuple[str, tuple[str, ...]]:
    """Return a class's WordNet id, or "", and its names; none if only the id is known."""
    found = WNID.fullmatch(label)
    if not found:
        return "", class_names(description or label)
    # timm's longer descriptions add the synset's definition.
    text = (description or found[2] or "").partition(": ")[0]
    return found[1], class_names(text)


def _published(entries: dict[str, Any], pretrained: dict[str, Any]) -> tuple[str, Any]:
    """Return a config's labels, and under which key it has them; the newer forms come first."""
    keys = ("label_names", "labels")
    places = [(key, place) for place in (entries, pretrained) for key in keys]
    return next(
        ((key, place[key]) for key, place in [*places, ("id2label", entries)] if place.get(key)),
        ("label_names", []),
    )


def _in_order(labels: Any, where: str, file: Path) -> list[str]:
    """Return the labels by class number; an object's keys are these numbers."""
    _check_texts(labels, where, file)
    if not isinstance(labels, dict):
        return list(labels)
    try:
        return [labels[str(index)] for index in range(len(labels))]
    except KeyError as error:
        raise InputError(
            f"{where} in {file} has no label for class {error}: expected a label for each of 0 to "
            f"{len(labels) - 1}."
        ) from error


def _check_texts(texts: Any, where: str, file: Path) -> None:
    listed = texts.values() if isinstance(texts, dict) else texts
    if not isinstance(texts, dict | list) or not all(isinstance(text, str) for text in listed):
        raise InputError(
            f"{where} in {file} are {str(texts)[:60]}: expected strings, one a class, several "
            "names of a class separated by a comma and a space."
        )
    for text in listed:
        if printable(text) != text or not class_names(text):  # printed beside their neurons
            raise InputError(f"{where} in {file} hold {shown(text)}, which is no name: correct it.")


def _with_synsets(
    classes: list[tuple[str, tuple[str, ...]]], where: str, notes: list[str]
) -> tuple[tuple[str, ...], ...]:
    """Name what has an id alone by its synset; if one can't be, no class has a name."""
    try:
        synsets = imagenet.synsets()
        return tuple(names or synsets[wnid] for wnid, names in classes)
    except InputError as error:
        reason = str(error)
    except KeyError as error:
        reason = f"WordNet {wordnet.RELEASE} has no {error}."
    notes.append(
        f"{where} names classes by WordNet's ids alone, and the names are missing: {reason}"
    )
    return ()
