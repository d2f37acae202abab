from dataclasses import replace

import numpy as np
import pytest

from jaxdesc.errors import InputError
from jaxdesc.images.labels import Classes, Matched, match, matched
from tests.album import Album
from tests.images.test_folder import written
from tests.plain_target import parameters, plain_target

TENCH, SPANIEL = "n01440764", "n02102040"  # classes 0 and 217 of ImageNet
IMAGENET = Classes(1000)
PETS = Classes(4, (("cat", "tabby"), ("dog",), ("bird",), ("gold-fish", "Carassius auratus")))
CRANES = Classes(2, (("crane",), ("crane",)))


@pytest.mark.parametrize(
    ("categories", "classes", "expected", "how"),
    [
        ((TENCH, SPANIEL), IMAGENET, (0, 217), "by wnid"),
        ((SPANIEL, TENCH), Classes(2, wnids=(TENCH, SPANIEL)), (1, 0), "by wnid"),
        # Neither by alphabetical order nor by the set's.
        (("bird", "cat", "dog", "gold-fish"), PETS, (2, 0, 1, 3), "by class name"),
        (("DOG", "carassius_auratus"), PETS, (1, 3), "by class name"),
        (("tabby, cat", "dog"), PETS, (0, 1), "by class name"),
        (("tabby, computer",), PETS, (), "of their 1 categories, 'tabby, computer' match no"),
        (("cat, dog",), PETS, (), "of their 1 categories, 'cat, dog' match no class"),
        (("0", "1", "2", "3"), PETS, (0, 1, 2, 3), "by the order of their categories, '0', '1'"),
        (tuple(map(str, range(12))), Classes(12), tuple(range(12)), "by the order"),
        (("0", "1"), PETS, (), "of their 2 categories, '0', '1' match no class of the target, who"),
        (("cat", "horse"), PETS, (), "of their 2 categories, 'horse' match no class"),
        ((TENCH, "n99999999"), IMAGENET, (), "of their 2 categories, 'n99999999' match no class"),
        # Their order would take the dog for a cat.
        (("bird", "cat", "dog", "koi"), PETS, (), "of their 4 categories, 'koi' match no class"),
        (("crane",), CRANES, (), "of their 1 categories, 'crane' match no class"),
        (
            ("a", "b"),
            Classes(3),
            (),
            "of their 2 categories, 'a', 'b' match no class of the t",
        ),
    ],
)
def test_matches(categories, classes, expected, how):
    found = match(categories, classes)
    assert found.classes == dict(zip(categories, expected, strict=False))
    assert found.how.startswith(how)


def test_a_wnid_s_words_are_names_too(monkeypatch):
    synsets = {TENCH: ("tench", "Tinca tinca"), SPANIEL: ("English springer",)}
    monkeypatch.setattr("jaxdesc.vocabulary.wordnet.noun_synsets", lambda: synsets)
    classes = Classes(3, (("English springer",), ("fish",), ("tench",)))
    assert match((TENCH, SPANIEL), classes).classes == {TENCH: 2, SPANIEL: 0}

    def refuse():
        raise InputError("WordNet isn't installed.")

    monkeypatch.setattr("jaxdesc.vocabulary.wordnet.noun_synsets", refuse)
    assert match((TENCH, SPANIEL), classes).classes == {}


def labels(source):
    return {source.identify(i): source[i].label for i in range(len(source))}


def test_a_source_labelled_by_a_target(tmp_path):
    pets = written(tmp_path, "bird/a.png", "cat/b.png", "dog/c.png", "stray.png")
    target = plain_target(parameters(4), classes=PETS.names)
    source = matched(pets, target)
    assert isinstance(source, Matched)
    assert (source.has_labels, source.has_boxes) == (True, False)
    assert (source.spec, len(source)) == (pets.spec, 4)
    assert labels(source) == {"bird/a.png": 2, "cat/b.png": 0, "dog/c.png": 1, "stray.png": None}
    np.testing.assert_array_equal(source[0].image, pets[0].image)
    # Other classes give other labels, and another fingerprint.
    other = matched(source, replace(target, classes=PETS.names[::-1]))
    assert other[0].label == 1
    assert len({each.fingerprint() for each in (pets, source, other)}) == 3
    unknown = matched(pets, replace(target, classes=()))
    assert not unknown.has_labels
    assert unknown[0].label is None
    labelled = Album(1)  # by classes already
    assert matched(labelled, target) is labelled


def test_the_naming_that_names_classes_counts(tmp_path):
    target = plain_target(parameters(2), classes=(("dog",), ("cat",)))
    names = ("a/cat/2.png", f"a/dog/{TENCH}_3.png", "b/dog/1.png")
    source = matched(written(tmp_path, *names), target)
    assert labels(source) == dict(zip(names, (1, 0, 0), strict=True))
    unnamed = matched(source, replace(target, classes=()))  # the order of the first level
    assert labels(unnamed) == dict(zip(names, (0, 0, 1), strict=True))
