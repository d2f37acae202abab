"""ImageNet's classes."""

import re

import pytest

from jaxdesc.vocabulary import imagenet
from tests import noun_file


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    return noun_file.write_imagenet(tmp_path / "data.noun")


def test_wnids_are_a_thousand_in_order():
    wnids = imagenet.wnids()
    assert len(set(wnids)) == 1000
    assert list(wnids) == sorted(wnids)
    assert all(re.fullmatch(r"n\d{8}", wnid) for wnid in wnids)


def test_known_classes():
    # Tench, crane (bird), crane (machine) and toilet tissue, by torchvision's numbers.
    known = {"n01440764": 0, "n02012849": 134, "n03126707": 517, "n15075141": 999}
    assert {wnid: imagenet.wnids().index(wnid) for wnid in known} == known


def test_names_are_the_words_of_each_synset(made_up):
    names = imagenet.names()
    assert len(names) == 1000
    assert names[0] == ("class 0", "kind 0")
    assert names[999] == ("class 99", "Kind 499")


def test_cranes_have_www_s_names(made_up):
    assert imagenet.names()[134] == ("crane", "bird")
    assert imagenet.names()[517] == ("crane", "machine")
    assert imagenet.names()[133] == ("class 133", "Kind 66")
