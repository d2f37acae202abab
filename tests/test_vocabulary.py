import logging

import jaxtyping
import pytest

from jaxdesc.errors import InputError
from jaxdesc.vocabulary import Vocabulary, base_template, load_vocabulary, prompts


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


def test_sequence():
    assert load_vocabulary(["b", "A", "a "]) == Vocabulary(("b", "A"), "list")
    assert load_vocabulary(("b", "A", "a"), compat="www").concepts == ("b", "A", "a")


def test_file_details(tmp_path, caplog):
    path = tmp_path / "odd.name.txt"
    # A byte order mark, Windows line ends, a separator inside a concept, no last line end.
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\x0bthree\r\nfour")
    vocabulary = load_vocabulary(f"file:{path}")
    assert vocabulary == Vocabulary(("one", "two\x0bthree", "four"), "odd.name")
    assert not caplog.records


def test_prompts():
    vocabulary = load_vocabulary(["cat", "{set}"])
    assert prompts(vocabulary) == ["A photo of a cat", "A photo of a {set}"]
    assert prompts(vocabulary, "{concept}, {concept}!") == ["cat, cat!", "{set}, {set}!"]
    assert base_template() == "A photo of a"
    assert base_template("a drawing of a {concept}, in ink") == "a drawing of a , in ink"
    with pytest.raises(InputError, match=r"'{concept}' has no words beside the concept"):
        base_template("{concept}")
    with pytest.raises(InputError, match=r"the template 'a photo' has no \"{concept}\""):
        prompts(vocabulary, "a photo")


@pytest.mark.parametrize("spec", ["wordnt", "file:", "http:words", ""])
def test_unknown_form(spec):
    message = 'give a list of strings, "file:PATH" '
    with pytest.raises(InputError, match=f"there is no vocabulary '{spec}': {message}"):
        load_vocabulary(spec)


def test_bad_files(tmp_path):
    with pytest.raises(
        InputError, match=r"none.txt can't be read \(No such file.*one concept a li"
    ):
        load_vocabulary(f"file:{tmp_path / 'none.txt'}")
    with pytest.raises(InputError, match=r"can't be read \(Is a directory\)"):
        load_vocabulary(f"file:{tmp_path}")
    (tmp_path / "latin.txt").write_bytes("sky\ncaf\xe9\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.txt isn't UTF-8 at byte 7: save it as UTF-8"):
        load_vocabulary(f"file:{tmp_path / 'latin.txt'}")
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(InputError, match="vocabulary empty holds no concept: give it at least"):
        load_vocabulary(f"file:{tmp_path / 'empty.txt'}")


def test_bad_arguments():
    with pytest.raises(InputError, match="vocabulary list holds no concept"):
        load_vocabulary([])
    with pytest.raises(InputError, match="compat is 'w3', but it must be None or \"www\""):
        load_vocabulary(["a"], compat="w3")


def test_other_entries_than_strings(monkeypatch):
    # As a user runs the library: no annotation is an assertion.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(InputError, match="the vocabulary holds 3, which isn't a string: give a"):
        load_vocabulary(["a", 3])
