"""WordNet's file of nouns."""

import zipfile

import pytest

from jaxdesc.errors import InputError
from jaxdesc.vocabulary import wordnet
from jaxdesc.vocabulary.wordnet import noun_synsets
from tests import noun_file

SYNSETS = {
    "n00001740": ("entity",),
    "n00001930": ("physical entity",),
    "n00002137": tuple(f"word {number}" for number in range(28)),  # 1c in hexadecimal
    "n00444937": ("kick-the-can", "Kick the Can"),
}
REMEDY = r"install Debian's package \(apt install wordnet-base\), or NLTK's \(nltk.download"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path / "dict"))
    return tmp_path / "dict"


def test_words_of_every_synset_in_order(folder):
    noun_file.write(folder / "data.noun", SYNSETS)
    assert list(noun_synsets().items()) == list(SYNSETS.items())


def test_offsets_of_the_made_up_file_are_right(tmp_path):
    data = noun_file.write(tmp_path / "data.noun", SYNSETS).read_bytes()
    for wnid in SYNSETS:
        assert data[int(wnid[1:]) - 1 :].startswith(b"\n" + wnid[1:].encode())


def test_each_synset_of_the_installed_file_stands_at_its_own_byte(tmp_path, monkeypatch):
    """Debian's file where it is installed, else a made-up one."""
    monkeypatch.delenv("WNSEARCHDIR", raising=False)
    if not wordnet._DEBIAN.exists():
        made_up = noun_file.write(tmp_path / "data.noun", SYNSETS)
        monkeypatch.setattr(wordnet, "_DEBIAN", made_up)
    data = wordnet._DEBIAN.read_bytes()
    found = noun_synsets()
    lines = [line for line in data.decode().split("\n") if line and not line.startswith(" ")]
    for (wnid, words), line in zip(found.items(), lines, strict=True):
        assert data.startswith(line.encode(), int(wnid[1:]))
        fields = line.split(" ", 4 + 2 * len(words))
        assert [field.replace("_", " ") for field in fields[4 : 4 + 2 * len(words) : 2]] == [*words]
        assert int(fields[3], 16) == len(words)


def test_where_it_is_looked_for(tmp_path, monkeypatch):
    """WNSEARCHDIR, then Debian's folder, then NLTK's: its own variable, and the home folder."""
    monkeypatch.delenv("WNSEARCHDIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NLTK_DATA", f"{tmp_path / 'none'}:{tmp_path / 'listed'}")
    monkeypatch.setattr(wordnet, "_DEBIAN", tmp_path / "debian" / "data.noun")

    def put(path, word):
        return noun_file.write(tmp_path / path, {"n00001740": (word,)})

    def found():
        return noun_synsets()["n00001740"][0]

    archive = tmp_path / "nltk_data/corpora/wordnet.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(put("packed/data.noun", "NLTK, packed"), "wordnet/data.noun")
    assert found() == "NLTK, packed"
    put("nltk_data/corpora/wordnet/data.noun", "NLTK")
    assert found() == "NLTK"
    put("listed/corpora/wordnet/data.noun", "NLTK, listed")
    assert found() == "NLTK, listed"
    put("debian/data.noun", "Debian")
    assert found() == "Debian"
    put("own/data.noun", "own")
    monkeypatch.setenv("WNSEARCHDIR", "~/own")
    assert found() == "own"


def test_no_wordnet(tmp_path, folder, monkeypatch):
    with pytest.raises(InputError, match=rf"isn't in the folder '{folder}' of WNSEARCH.*{REMEDY}"):
        noun_synsets()
    monkeypatch.delenv("WNSEARCHDIR")
    monkeypatch.setattr(wordnet, "_DEBIAN", tmp_path / "data.noun")
    monkeypatch.setattr(wordnet, "_nltk", lambda: [])
    with pytest.raises(InputError, match=rf"isn't in the folders of Debian and NLTK: {REMEDY}"):
        noun_synsets()


def test_bad_files(folder, monkeypatch):
    file = noun_file.write(folder / "data.noun", SYNSETS, release="3.1")
    with pytest.raises(InputError, match=r"data.noun is WordNet 3\.1, but ImageNet's classes"):
        noun_synsets()
    file.write_text("tench\ngoldfish\n")
    with pytest.raises(InputError, match=f"data.noun is not WordNet's, but.*3.0: {REMEDY}"):
        noun_synsets()
    whole = noun_file.write(file, SYNSETS).read_bytes()
    file.write_bytes(whole[:-20])
    with pytest.raises(InputError, match=f"data.noun ends within a line, so it was cut.*{REMEDY}"):
        noun_synsets()
    file.write_bytes(whole + b"00500000 04 n\n")
    with pytest.raises(InputError, match=f"data.noun holds a line that is no synset: {REMEDY}"):
        noun_synsets()
    file.write_bytes(whole + b"caf\xe9\n")
    with pytest.raises(InputError, match=f"data.noun can't be read as WordNet .*{REMEDY}"):
        noun_synsets()


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18)])
def test_bad_archives(content, tmp_path, monkeypatch):
    monkeypatch.delenv("WNSEARCHDIR", raising=False)
    monkeypatch.setattr(wordnet, "_DEBIAN", tmp_path / "data.noun")
    (tmp_path / "corpora").mkdir()
    (tmp_path / "corpora/wordnet.zip").write_bytes(content)
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    with pytest.raises(InputError, match=rf"wordnet.zip can't be read as WordNet \(.*{REMEDY}"):
        noun_synsets()
