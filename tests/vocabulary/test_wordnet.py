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


def test_each_synset_of_the_installed_file_is_at_its_byte(tmp_path, monkeypatch):
    """Debian's file if it is installed, else a made-up one."""
    monkeypatch.delenv("WNSEARCHDIR", raising=False)
    if not wordnet._DEBIAN.exists():
        made_up = noun_file.write(tmp_path / "data.noun", SYNSETS)
        monkeypatch.setattr(wordnet, "_DEBIAN", made_up)
    data = wordnet._DEBIAN.read_bytes()
    synsets = noun_synsets()
    lines = [line for line in data.decode().split("\n") if line and not line.startswith(" ")]
    for (wnid, words), line in zip(synsets.items(), lines, strict=True):
        assert data.startswith(line.encode(), int(wnid[1:]))
        fields = line.split(" ", 4 + 2 * len(words))
        assert [field.replace("_", " ") for field in fields[4 : 4 + 2 * len(words) : 2]] == [*words]
        assert int(fields[3], 16) == len(words)


def test_search_path(tmp_path, monkeypatch):
    """WNSEARCHDIR, then Debian's folder, then NLTK's: its own variable, and the home folder."""
    monkeypatch.delenv("WNSEARCHDIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NLTK_DATA", f"{tmp_path / 'none'}:{tmp_path / 'listed'}")
    monkeypatch.setattr(wordnet, "_DEBIAN", tmp_path / "debian" / "data.noun")

    def put(path, word):
        return noun_file.write(tmp_path / path, {"n00001740": (word,)})

    def first():
        return noun_synsets()["n00001740"][0]

    archive = tmp_path / "nltk_data/corpora/wordnet.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(put("packed/data.noun", "NLTK, packed"), "wordnet/data.noun")
    assert first() == "NLTK, packed"
    put("nltk_data/corpora/wordnet/data.noun", "NLTK")
    assert first() == "NLTK"
    put("listed/corpora/wordnet/data.noun", "NLTK, listed")
    assert first() == "NLTK, listed"
    put("debian/data.noun", "Debian")
    assert first() == "Debian"
    put("mine/data.noun", "mine")
    monkeypatch.setenv("WNSEARCHDIR", "~/mine")
    assert first() == "mine"


def test_no_wordnet(tmp_path, folder, monkeypatch):
    with pytest.raises(InputError, match=rf"isn't in the folder '{folder}' of WNSEARCH.*{REMEDY}"):
        noun_synsets()
    monkeypatch.delenv("WNSEARCHDIR")
    monkeypatch.setattr(wordnet, "_DEBIAN", tmp_path / "data.noun")
    monkeypatch.setattr(wordnet, "_nltk", lambda: [])
    with pytest.raises(InputError, match=rf"isn't in the folders of Debian and NLTK: {REMEDY}"):
        noun_synsets()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: whole[:-20], "ends within a line, so it was cut short"),
        (lambda whole: whole + b"00500000 04 n\n", "holds a line that is not a synset"),
        (lambda whole: whole + b"caf\xe9\n", "can't be read as WordNet"),
    ],
)
def test_damaged_files(damage, message, folder):
    file = noun_file.write(folder / "data.noun", SYNSETS)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InputError, match=f"data.noun {message}.*{REMEDY}"):
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
