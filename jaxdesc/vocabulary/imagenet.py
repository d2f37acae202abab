"""ImageNet-1k's classes and their names, in the order of every ImageNet network's logits."""

import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jaxdesc.errors import InputError
from jaxdesc.vocabulary import wordnet

_LABELS = "datasets/imagenet2012/labels.txt"

# WordNet calls both "crane". WWW's list has the lines "crane, bird" and "crane, machine", which are
# split at ", ", so that each class has two names.
_CRANES = {"n02012849": ("crane", "bird"), "n03126707": ("crane", "machine")}


@cache
def wnids() -> tuple[str, ...]:
    """The 1,000 WordNet ids such as "n01440764", sorted, as TFDS's package lists them.

    Its file is read without importing the package, which takes seconds.
    """
    package = importlib.util.find_spec("tensorflow_datasets")
    assert package is not None
    assert package.origin is not None  # a declared dependency
    return tuple((Path(package.origin).parent / _LABELS).read_text(encoding="ascii").split())


def synsets() -> Mapping[str, tuple[str, ...]]:
    """Words of each WordNet id, as WWW lists them."""
    return {**wordnet.noun_synsets(), **_CRANES}


def names() -> tuple[tuple[str, ...], ...]:
    """Each class's names, 1,862 in all: the words of its WordNet synset, as WWW lists them.

    WWW's metrics compare with them; together they are its vocabulary "ImageNet". Raises
    `InputError` if WordNet 3.0 isn't installed, or lacks a class.
    """
    words = synsets()
    missing = [wnid for wnid in wnids() if wnid not in words]
    if missing:
        raise InputError(
            f"WordNet's data.noun lacks {missing[0]} and {len(missing) - 1} more of ImageNet's "
            "1,000 classes: reinstall it."
        )
    return tuple(words[wnid] for wnid in wnids())
