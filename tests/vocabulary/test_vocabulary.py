import logging

import numpy as np
import pytest

from jaxdesc.errors import InputError
from jaxdesc.vocabulary.vocabulary import (
    VOCABULARIES,
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


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("Sky\n crane \n\nsky\ncafé\n\t\nCrane\n", encoding="utf-8")
    return path


def test_file_keeps_first_spellings(labels, caplog):
    with caplog.at_level(logging.WARNING):
        vocabulary = load_vocabulary(f"file:{labels}")
    assert vocabulary == Vocabulary(("Sky", "crane", "café"), "labels")
    assert [record.getMessage() for record in caplog.records] == [
        "vocabulary labels: 2 blank concepts were left out."
    ]


def test_www_keeps_duplicates(labels):
    vocabulary = load_vocabulary(f"file:{labels}", compat="www")
    assert vocabulary.concepts == ("Sky", "crane", "sky", "café", "Crane")


def test_a_sequence():
    assert load_vocabulary(["b", "A", "a "]) == Vocabulary(("b", "A"), "list")
    assert load_vocabulary(("b", "A", "a"), compat="www").concepts == ("b", "A", "a")


@pytest.mark.parametrize("end", ["\r", "\x85", "\u2028", "\u2029"])
def test_any_line_end(tmp_path, end):
    path = tmp_path / "words.txt"
    path.write_bytes(end.join(["dog", "cat", "bird", ""]).encode())
    assert load_vocabulary(f"file:{path}").concepts == ("dog", "cat", "bird")


def test_file_details(tmp_path, caplog):
    path = tmp_path / "odd.name.txt"
    # A byte order mark, Windows line ends, a separator inside a concept, no last line end.
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\x0bthree\r\nfour")
    vocabulary = load_vocabulary(f"file:{path}")
    assert vocabulary == Vocabulary(("one", "two three", "four"), "odd.name")
    assert load_vocabulary(path) == vocabulary
    assert load_vocabulary(f"file:{path}", "www").concepts == ("one", "two\x0bthree", "four")
    assert not caplog.records


# Spellings of one concept, the normal one first.
SPELLINGS = [
    [
        "red car",
        "red  car",
        "red\tcar",
        "red\u00a0car",
        "Red Car",
        "\u3000red car",
        "red\u200b car",
    ],
    ["café", "cafe\u0301", "\ufeffcafé", "ca\u00adfé", "ca\u2060fé", "CAFÉ\u200e"],
    ["می\u200cخواهم", "می\u200cخواهم\u200c", "\u200dمی\u200cخواهم"],  # joined, and not, inside
]


def test_spellings_are_one_concept():
    every = [spelling for spellings in SPELLINGS for spelling in spellings]
    assert load_vocabulary(every).concepts == tuple(first for first, *_ in SPELLINGS)
    assert load_vocabulary(every, "www").concepts == tuple(text.strip() for text in every)


REAL = """\
2,4-D
2,4,5-T
1,2-dichloroethane
N,N-dimethyl
no. 7
3:10 to Yuma
John 3:16
Boeing 747
1,000
he/she
n
'n'
rock 'n' roll
'tis
crane, bird
a "white" cat
the "x"
AT&T
C++
#1
x > y
<3
=1+1
-ing
(a) thing
[sic]
{set}
24: Legacy
1. FC Köln
St. Louis
label
red\tcar
semi; colon
"""


def test_real_concepts_are_not_refused(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text(REAL, encoding="utf-8")
    expected = tuple(REAL.replace("\t", " ").splitlines())
    assert load_vocabulary(f"file:{path}").concepts == expected


def test_any_iterable_of_strings():
    words = ["bird", "ant", "cat", "ant"]
    expected = Vocabulary(("bird", "ant", "cat"), "list")
    for spec in (iter(words), tuple(words), np.array(words), dict.fromkeys(words).keys()):
        assert load_vocabulary(spec) == expected
    for spec in (set(words), frozenset(words)):
        assert load_vocabulary(spec).concepts == ("ant", "bird", "cat")
    assert {type(concept) for concept in load_vocabulary(np.array(words)).concepts} == {str}


def test_prompts():
    vocabulary = load_vocabulary(["cat", "{set}"])
    assert prompts(vocabulary) == ["A photo of a cat", "A photo of a {set}"]
    assert prompts(vocabulary, "{concept}, {concept}!") == ["cat, cat!", "{set}, {set}!"]
    assert base_template() == "A photo of a"
    assert base_template("a drawing of a {concept}, in ink") == "a drawing of a , in ink"


@pytest.fixture
def wordnet_is_real(tmp_path, monkeypatch):
    """WordNet's own file where Debian's package is installed, else a made-up one."""
    monkeypatch.delenv("WNSEARCHDIR", raising=False)
    if wordnet._DEBIAN.exists():
        return True
    made_up = noun_file.write_imagenet(tmp_path / "data.noun")
    monkeypatch.setattr(wordnet, "_DEBIAN", made_up)
    return False


def counts(spec):
    """Entries, distinct ones, and those distinct regardless of case."""
    every, kept = load_vocabulary(spec, compat="www"), load_vocabulary(spec)
    assert every.name == kept.name == spec.partition(":")[0]
    lowered = [concept.lower() for concept in kept.concepts]
    assert len(set(lowered)) == len(lowered)
    return len(every.concepts), len(set(every.concepts)), len(lowered)


def test_imagenet_and_wordnet(wordnet_is_real):
    # The made-up ones are in noun_file; two of each name are lost to the cranes, which have three.
    made_up = (2000, 898 + 998 + 3, 898 + 500 + 3)
    assert counts("imagenet") == ((1862, 1844, 1843) if wordnet_is_real else made_up)
    assert counts("wordnet") == ((82115, 67893, 67186) if wordnet_is_real else (1000, 900, 900))


def test_wordnet_lists_first_words(tmp_path, monkeypatch):
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    synsets = {
        "n00000600": ("physical entity", "thing"),
        "n00000700": ("Tom",),
        "n00000800": ("tom",),
    }
    noun_file.write(tmp_path / "data.noun", synsets)
    assert load_vocabulary("wordnet", compat="www").concepts == ("physical entity", "Tom", "tom")
    assert load_vocabulary("wordnet").concepts == ("physical entity", "Tom")


def test_broden(tmp_path):
    file = tmp_path / "label.csv"
    file.write_text(LABEL_CSV)
    labels = ("bridge", "bridge", "art gallery", "theater-indoor procenium", "red-c", "fabric")
    for path in (file, tmp_path):
        assert load_vocabulary(f"broden:{path}", compat="www") == Vocabulary(labels, "broden")
    assert load_vocabulary(f"broden:{file}").concepts == labels[1:]


def test_broden_as_a_list_of_labels(tmp_path):
    """The list of CLIP-Dissect and WWW, if it is available."""
    made_up = tmp_path / "labels.txt"
    made_up.write_text("bridge\ndog-s\nbridge\na_b")
    assert load_vocabulary(f"broden:{made_up}").concepts == ("bridge", "dog-s", "a_b")
    expected = (1197, 1153, 1153) if BRODEN.exists() else (4, 3, 3)
    assert counts(f"broden:{BRODEN if BRODEN.exists() else made_up}") == expected


def test_classes_of_a_file(tmp_path):
    file = tmp_path / "classes.txt"
    file.write_text("tench, Tinca tinca\n crane,bird \ncafé, \nfire_truck\n", encoding="utf-8")
    classes = (("tench", "Tinca tinca"), ("crane,bird",), ("café",), ("fire truck",))
    assert load_classes(f"file:{file}") == classes
    assert load_classes("") == ()


def test_a_registered_vocabulary(monkeypatch):
    monkeypatch.setitem(VOCABULARIES, "mine", lambda rest: rest.split("+"))
    assert load_vocabulary("mine:cat+dog") == Vocabulary(("cat", "dog"), "mine")


@pytest.mark.parametrize(
    ("spec", "remedy"),
    [
        ("wordnt", "give a list of strings, or KIND or KIND:PATH, KIND one of imagenet, "),
        ("", "give a list of strings"),
        ("wordnet:a", "give 'wordnet'"),
        ("broden", "give 'broden:PATH'"),
    ],
)
def test_unknown_form(spec, remedy):
    with pytest.raises(InputError, match=f"there is no vocabulary '{spec}': {remedy}"):
        load_vocabulary(spec)
