"""Matching of a source's categories, such as folders' names, with a target's classes.

Folders have any names, so their alphabetical order says nothing about the order of a network's
logits. They are matched by wnid, or else by class name, or else by their natural order, if there
are as many of them as logits.
"""

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from jaxdesc.errors import InputError, shown
from jaxdesc.images.example import Example, Source
from jaxdesc.vocabulary import imagenet, wordnet
from jaxdesc.vocabulary.names import class_names

WNID = re.compile(r"n\d{8}")
BY_WNID, BY_NAME = "by wnid", "by class name"
IMAGENET = 1000  # logits of a network that is assumed to have ImageNet's classes in their order


class Classes(NamedTuple):
    """A target's classes: how many logits it has, and names and WordNet ids if they are known."""

    logits: int
    names: Sequence[Sequence[str]] = ()
    wnids: Sequence[str] = ()
    target: str = "the target"


class Match(NamedTuple):
    """Class index of each category, or none at all; and how they were matched, or why not."""

    classes: Mapping[str, int]
    how: str


class Matched:
    """A source whose images are labelled by the classes of a target.

    `naming` is the index into the source's `namings` of the categories that are matched.
    """

    def __init__(self, source: Source, match: Match, naming: int = 0):
        self.source, self.match, self.naming = source, match, naming
        self.spec, self.has_boxes = source.spec, source.has_boxes
        self.has_labels = bool(match.classes)
        self.passed_over = getattr(source, "passed_over", ())
        self.shows = getattr(source, "shows", None)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Example:
        """Decode image `index`."""
        example = self.source[index]
        category = example.categories[self.naming]
        return replace(example, label=self.match.classes.get(category or ""))

    def identify(self, index: int) -> str:
        """Name image `index`."""
        return self.source.identify(index)

    def fingerprint(self) -> str:
        """Hash the images and the classes that they are labelled by."""
        classes = sorted(self.match.classes.items())
        text = f"{self.source.fingerprint()} {self.naming} {classes}"
        return hashlib.sha256(text.encode()).hexdigest()


def matched(source: Source, target: Any) -> Source:
    """Label a source's images by a `Target`'s classes, if the source has categories.

    Of several namings, the first that names classes is used, or else the first. Labels that are
    class indices already are kept.
    """
    bare = source.source if isinstance(source, Matched) else source
    namings = tuple(getattr(bare, "namings", ()))
    if not any(namings):
        return bare
    classes = Classes(target.logit_count, target.classes, target.wnids, target.name)
    matches = [match(categories, classes) for categories in namings]
    named = (naming for naming, each in enumerate(matches) if each.how in (BY_WNID, BY_NAME))
    naming = next(named, 0)
    return Matched(bare, matches[naming], naming)


def match(categories: Sequence[str], classes: Classes) -> Match:
    """Find the class of each category: by wnid, else by class name, else by their order.

    Their order, natural for folders, counts if there are as many as logits and no name contradicts
    it.
    """
    wnids = classes.wnids
    if not wnids and classes.logits == IMAGENET:
        wnids = imagenet.wnids()
    by_wnid = {wnid: index for index, wnid in enumerate(wnids)}
    if by_wnid.keys() >= set(categories):
        return Match({category: by_wnid[category] for category in categories}, BY_WNID)
    by_name = _by_name(classes.names or _imagenet_names(classes.logits))
    found = {category: _named(category, by_name) for category in categories}
    named = {category: index for category, index in found.items() if index is not None}
    if len(named) == len(categories):
        return Match(named, BY_NAME)
    order = {category: index for index, category in enumerate(categories)}
    if len(order) == classes.logits and named.items() <= order.items():
        return Match(order, f"by the order of their categories, {_some(categories)}")
    target = f"which has {classes.logits} logits"
    if classes.names:
        names = [names[0] for names in classes.names]
        target = f"whose {classes.logits} classes are {_some(names)}"
    unknown = _some(sorted(set(categories) - named.keys()))
    return Match(
        {},
        f"of their {len(categories)} categories, {unknown} match no class of {classes.target}, "
        f"{target}: name each by wnid or by class",
    )


def natural(name: str) -> list[tuple[bool, int, str]]:
    """Sort key by which 'class 9' comes before 'class 10'."""
    parts = re.split(r"(\d+)", name)
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def _imagenet_names(logits: int) -> Sequence[Sequence[str]]:
    try:
        return imagenet.names() if logits == IMAGENET else ()
    except InputError:  # WordNet isn't installed
        return ()


def _by_name(names: Sequence[Sequence[str]]) -> dict[str, int | None]:
    """Class of each name; None for a name of several classes."""
    indices: dict[str, int | None] = {}
    for index, of_class in enumerate(names):
        for name in set(map(_folded, of_class)):
            indices[name] = None if name in indices else index
    return indices


def _named(category: str, by_name: dict[str, int | None]) -> int | None:
    """Class with all of a category's names, or with any of WordNet's words for its wnid.

    Hugging Face's ImageNet has categories of several names, such as "tench, Tinca tinca".
    """
    words: Sequence[str] = class_names(category)
    if WNID.fullmatch(category):
        try:
            words = wordnet.noun_synsets().get(category, ())
        except InputError:  # WordNet isn't installed
            words = ()
    elif any(_folded(word) not in by_name for word in words):
        return None
    indices = {by_name.get(_folded(word)) for word in words} - {None}
    return indices.pop() if len(indices) == 1 else None


def _folded(name: str) -> str:
    words = unicodedata.normalize("NFC", name).replace("_", " ").replace("-", " ").split()
    return " ".join(words).casefold()


def _some(names: Sequence[str]) -> str:
    few = ", ".join(shown(name) for name in names[:3])
    return f"{few} …" if len(names) > 3 else few
