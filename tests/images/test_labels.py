from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from jaxdesc.errors import InputError
from jaxdesc.images.example import Example
from jaxdesc.images.folder import Folder
from jaxdesc.images.labels import Classes, Matched, match, matched
from tests.plain_target import parameters, plain_target

TENCH, SPANIEL = "n01440764", "n02102040"  # classes 0 and 217 of ImageNet
IMAGENET = Classes(1000)
PETS = Classes(4, (("cat", "tabby"), ("dog",), ("bird",), ("gold-fish", "Carassius auratus")))


def classes_of(categories, classes):
    return tuple(match(categories, classes).classes[category] for category in categories)


@pytest.mark.parametrize(
    ("categories", "classes", "expected", "how"),
    [
        ((TENCH, SPANIEL), IMAGENET, (0, 217), "by wnid"),
        ((SPANIEL, TENCH), Classes(2, wnids=(TENCH, SPANIEL)), (1, 0), "by wnid"),
        # Neither by alphabetical order nor by the set's.
        (("bird", "cat", "dog", "goldfish".replace("f", "-f")), PETS, (2, 0, 1, 3), "by class nam"),
        (("DOG", "Tabby"), PETS, (1, 0), "by class name"),
        (("carassius_auratus",), PETS, (3,), "by class name"),
        (("0", "1", "2", "3"), PETS, (0, 1, 2, 3), "by the order of their categories, '0', '1'"),
        (tuple(map(str, range(12))), Classes(12), tuple(range(12)), "by the order"),
    ],
)
def test_matches(categories, classes, expected, how):
    assert classes_of(categories, classes) == expected
    assert match(categories, classes).how.startswith(how)


@pytest.mark.parametrize(
    ("categories", "classes", "message"),
    [
        (("0", "1"), PETS, "of their 2 categories, '0', '1' match no class of the target"),
        (("cat", "horse"), PETS, "of their 2 categories, 'horse' match no class"),
        ((TENCH, "n99999999"), IMAGENET, "'n99999999' match no class of the target, which"),
        # Their order would take the dog for a cat.
        (("bird", "cat", "dog", "koi"), PETS, "of their 4 categories, 'koi' match no class"),
        # Two classes of one name.
        (("crane",), Classes(2, (("crane",), ("crane",))), "'crane' match no class"),
        (("a", "b"), Classes(3), "which has 3 logits: name each by wnid or by class"),
    ],
)
def test_unmatched_categories_are_unlabelled_with_a_reason(categories, classes, message):
    found = match(categories, classes)
    assert found.classes == {}
    assert message in found.how


def test_a_wnid_s_words_are_names_too(monkeypatch):
    """If WordNet is installed."""
    synsets = {TENCH: ("tench", "Tinca tinca"), SPANIEL: ("English springer",)}
    monkeypatch.setattr("jaxdesc.vocabulary.wordnet.noun_synsets", lambda: synsets)
    classes = Classes(3, (("English springer",), ("fish",), ("tench",)))
    assert classes_of((TENCH, SPANIEL), classes) == (2, 0)

    def refuse():
        raise InputError("WordNet isn't installed.")

    monkeypatch.setattr("jaxdesc.vocabulary.wordnet.noun_synsets", refuse)
    assert match((TENCH, SPANIEL), classes).classes == {}


@pytest.fixture
def pets(tmp_path):
    for name in ("bird/a.png", "cat/b.png", "dog/c.png", "stray.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    return Folder(str(tmp_path))


def test_a_source_labelled_by_a_target(pets):
    target = plain_target(parameters(4), classes=PETS.names)
    source = matched(pets, target)
    assert isinstance(source, Matched)
    assert source.has_labels
    assert not source.has_boxes
    assert (source.spec, len(source)) == (pets.spec, 4)
    labels = {source.identify(i): source[i].label for i in range(4)}
    assert labels == {"bird/a.png": 2, "cat/b.png": 0, "dog/c.png": 1, "stray.png": None}
    np.testing.assert_array_equal(source[0].image, pets[0].image)
    # Other classes give other labels, and another fingerprint.
    other = matched(source, replace(target, classes=PETS.names[::-1]))
    assert other[0].label == 1
    assert len({each.fingerprint() for each in (pets, source, other)}) == 3
    unknown = matched(pets, replace(target, classes=()))
    assert not unknown.has_labels
    assert unknown[0].label is None


def test_the_naming_that_names_classes_counts(tmp_path):
    target = plain_target(parameters(2), classes=(("dog",), ("cat",)))
    for name in ("b/dog/1.png", "a/cat/2.png", f"a/dog/{TENCH}_3.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    source = matched(Folder(str(tmp_path)), target)
    labels = {source.identify(i): source[i].label for i in range(3)}
    assert labels == {"a/cat/2.png": 1, "b/dog/1.png": 0, f"a/dog/{TENCH}_3.png": 0}
    unnamed = matched(source, replace(target, classes=()))  # the order of the first level
    assert [unnamed[i].label for i in range(3)] == [0, 0, 1]


def test_labels_that_are_classes_already_stay():
    class Labelled:
        spec, has_boxes, has_labels = "labelled", False, True

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return Example(Image.new("RGB", (8, 8)), label=3)

        def identify(self, index):
            return "one"

        def fingerprint(self):
            return "labelled"

    source = Labelled()
    assert matched(source, plain_target()) is source
