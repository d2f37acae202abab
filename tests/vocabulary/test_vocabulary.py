import logging

import numpy as np
import pytest

from jaxdesc.errors import InputError
from jaxdesc.vocabulary.vocabulary import (
    Vocabulary,
    base_template,
    load_classes,
    load_vocabulary,
    prompts,
    wordnet,
)
from tests import noun_file
from tests.conftest import ROOT

BRODEN = ROOT.parent / "shared" / "data" / "broden_labels.txt"
# NetDissect's form: an object, a scene of the same name, other scenes, a colour, two kinds.
LABEL_CSV = """\
number,name,category,frequency,coverage,syns
1,bridge,object(304),304,30.1,
2,bridge-s,scene(51),51,51.0,
3,art_gallery-s,scene(76),76,76.0,
4,theater-indoor_procenium-s,scene(23),23,23.0,
10,red-c,color(289),289,9.140027,
21,fabric,material(36);object(3),39,4.225474,"cloth, textile"
"""
# Spellings of one concept, the normal one first.
SPELLINGS = [
    ["red car", "red  car", "red\tcar", "red\u00a0car", "Red Car", "\u3000red car"],
    ["café", "cafe\u0301", "\ufeffcafé", "ca\u00adfé", "ca\u2060fé", "CAFÉ\u200e"],
    ["می\u200cخواهم", "می\u200cخواهم\u200c", "\u200dمی\u200cخواهم"],  # joined, and not, inside
]
# Real concepts, which look like something else.
REAL = r"""
2,4-D|2,4,5-T|1,2-dichloroethane|N,N-dimethyl|no. 7|3:10 to Yuma|John 3:16|Boeing 747|1,000|he/she
n|'n'|rock 'n' roll|'tis|crane, bird|a "white" cat|the "x"|AT&T|C++|#1|x > y|<3|=1+1|-ing|(a) thing
[sic]|{set}|24: Legacy|1. FC Köln|St. Louis|label|semi; colon
"""


def words(tmp_path, content, name="words.txt"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "expected", "www"),
    [
        ("Sky\n crane \n\nsky\n\t\nCrane\n", "Sky|crane", "Sky|crane|sky|Crane"),
        # A byte order mark, Windows line ends, a separator inside a concept, no last line end.
        (b"\xef\xbb\xbfone\r\ntwo\x0bthree\r\nfour", "one|two three|four", "one|two\x0bthree|four"),
        *((end.join(["dog", "cat", ""]), "dog|cat", "dog|cat") for end in "\r\x85\u2028\u2029"),
        (REAL.replace("|", "\n"), REAL.strip().replace("\n", "|"), None),
    ],
)
def test_a_file(tmp_path, content, expected, www):
    """The first spelling of each concept is kept; in WWW's way, every one."""
    path = words(tmp_path, content, "odd.name.txt")
    vocabulary = load_vocabulary(f"file:{path}")
    assert vocabulary == load_vocabulary(path) == Vocabulary(tuple(expected.split("|")), "odd.name")
    found = load_vocabulary(path, compat="www").concepts
    assert found == tuple((www or expected).split("|"))


def test_blank_concepts_are_counted(tmp_path, caplog):
    path = words(tmp_path, "Sky\n crane \n\n\t\n", "labels.txt")
    with caplog.at_level(logging.WARNING):
        load_vocabulary(path)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["vocabulary labels: 2 blank concepts were left out."]


def test_spellings_are_one_concept():
    every = [spelling for spellings in SPELLINGS for spelling in spellings]
    assert load_vocabulary(every).concepts == tuple(first for first, *_ in SPELLINGS)
    assert load_vocabulary(every, "www").concepts == tuple(text.strip() for text in every)


def test_any_iterable_of_strings():
    given = ["bird", "ant", "cat", "ant"]
    expected = Vocabulary(("bird", "ant", "cat"), "list")
    for spec in (iter(given), tuple(given), np.array(given), dict.fromkeys(given).keys()):
        assert load_vocabulary(spec) == expected
    for spec in (set(given), frozenset(given)):
        assert load_vocabulary(spec).concepts == ("ant", "bird", "cat")
    assert {type(concept) for concept in load_vocabulary(np.array(given)).concepts} == {str}


def test_prompts():
    vocabulary = load_vocabulary(["cat", "{set}"])
    assert prompts(vocabulary) == ["A photo of a cat", "A photo of a {set}"]
    assert prompts(vocabulary, "{concept}, {concept}!") == ["cat, cat!", "{set}, {set}!"]
    assert base_template() == "A photo of a"
    assert base_template("a drawing of a {concept}, in ink") == "a drawing of a , in ink"


def counts(spec):
    """Entries, distinct ones, and those distinct regardless of case."""
    every, kept = load_vocabulary(spec, compat="www"), load_vocabulary(spec)
    assert every.name == kept.name == spec.partition(":")[0]
    assert len({concept.lower() for concept in kept.concepts}) == len(kept.concepts)
    return len(every.concepts), len(set(every.concepts)), len(kept.concepts)


def test_imagenet_and_wordnet(tmp_path, monkeypatch):
    """WordNet's own file if Debian's package is installed, and a made-up one."""
    monkeypatch.delenv("WNSEARCHDIR", raising=False)
    if wordnet._DEBIAN.exists():
        assert counts("imagenet") == (1862, 1844, 1843)
        assert counts("wordnet") == (82115, 67893, 67186)
    made_up = noun_file.write_imagenet(tmp_path / "data.noun")
    monkeypatch.setattr(wordnet, "_DEBIAN", made_up)
    # Two of each name are lost to the cranes, which have three.
    assert counts("imagenet") == (2000, 898 + 998 + 3, 898 + 500 + 3)
    assert counts("wordnet") == (1000, 900, 900)


def test_wordnet_lists_first_words(tmp_path, monkeypatch):
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    synsets = {"n00000600": ("physical entity", "thing"), "n00000700": ("Tom",)}
    noun_file.write(tmp_path / "data.noun", synsets | {"n00000800": ("tom",)})
    assert load_vocabulary("wordnet", compat="www").concepts == ("physical entity", "Tom", "tom")
    assert load_vocabulary("wordnet").concepts == ("physical entity", "Tom")


def test_broden(tmp_path):
    """NetDissect's table, or the list of CLIP-Dissect and WWW."""
    file = words(tmp_path, LABEL_CSV, "label.csv")
    labels = ("bridge", "bridge", "art gallery", "theater-indoor procenium", "red-c", "fabric")
    for path in (file, tmp_path):
        assert load_vocabulary(f"broden:{path}", compat="www") == Vocabulary(labels, "broden")
    assert load_vocabulary(f"broden:{file}").concepts == labels[1:]
    made_up = words(tmp_path, "bridge\ndog-s\nbridge\na_b")
    assert load_vocabulary(f"broden:{made_up}").concepts == ("bridge", "dog-s", "a_b")
    if BRODEN.exists():
        assert counts(f"broden:{BRODEN}") == (1197, 1153, 1153)


def test_classes_of_a_file(tmp_path):
    file = words(tmp_path, "tench, Tinca tinca\n crane,bird \ncafé, \nfire_truck\n")
    classes = (("tench", "Tinca tinca"), ("crane,bird",), ("café",), ("fire truck",))
    assert load_classes(f"file:{file}") == classes
    assert load_classes("") == ()


@pytest.mark.parametrize(
    ("spec", "remedy"),
    [
        ("", "give a list of strings"),
        ("wordnet:a", "give 'wordnet'"),
        ("broden", "give 'broden:PATH'"),
    ],
)
def test_unknown_form(spec, remedy):
    with pytest.raises(InputError, match=f"there is no vocabulary '{spec}': {remedy}"):
        load_vocabulary(spec)
