"""WordNet's file of nouns, and ImageNet's classes in it."""

import re
import zipfile

import pytest

from jaxdesc.errors import InputError
from jaxdesc.vocabulary import imagenet, wordnet
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


@pytest.fixture
def not_installed(tmp_path, monkeypatch):
    monkeypatch.delenv("WNSEARCHDIR", raising=False)
    monkeypatch.setattr(wordnet, "_DEBIAN", tmp_path / "debian/data.noun")


def test_words_of_every_synset_in_order(folder):
    noun_file.write(folder / "data.noun", SYNSETS)
    assert list(noun_synsets().items()) == list(SYNSETS.items())


def test_hypernyms(folder, monkeypatch):
    parents = {"n00001740": (), "n00002137": ("n00001740", "n00001930")}
    noun_file.write(folder / "data.noun", SYNSETS, parents=parents)
    found = wordnet.hypernyms()
    assert found == {wnid: parents.get(wnid, ("n00001740",)) for wnid in SYNSETS}
    monkeypatch.delenv("WNSEARCHDIR")
    if wordnet._DEBIAN.exists():
        assert wordnet.hypernyms()["n01440764"] == ("n01439121",)  # tench, cyprinid


def test_each_synset_is_at_its_byte(tmp_path, monkeypatch):
    """In Debian's file if it is installed, and in a made-up one."""
    monkeypatch.delenv("WNSEARCHDIR", raising=False)
    made_up = noun_file.write(tmp_path / "data.noun", SYNSETS)
    for file in {made_up, *filter(lambda file: file.exists(), [wordnet._DEBIAN])}:
        monkeypatch.setattr(wordnet, "_DEBIAN", file)
        data = file.read_bytes()
        lines = [line for line in data.decode().split("\n") if line and not line.startswith(" ")]
        for (wnid, words), line in zip(noun_synsets().items(), lines, strict=True):
            assert data.startswith(b"\n" + line.encode(), int(wnid[1:]) - 1)
            fields = line.split(" ", 4 + 2 * len(words))
            assert int(fields[3], 16) == len(words)
            assert tuple(f.replace("_", " ") for f in fields[4 : 4 + 2 * len(words) : 2]) == words


def test_search_path(tmp_path, monkeypatch, not_installed):
    """WNSEARCHDIR, then Debian's folder, then NLTK's: its own variable, and the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NLTK_DATA", f"{tmp_path / 'none'}:{tmp_path / 'listed'}")

    def put(path):
        return noun_file.write(tmp_path / path, {"n00001740": (path,)})

    archive = tmp_path / "nltk_data/corpora/wordnet.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(put("packed/data.noun"), "wordnet/data.noun")
    assert noun_synsets()["n00001740"] == ("packed/data.noun",)
    for path in ("nltk_data/corpora/wordnet", "listed/corpora/wordnet", "debian", "mine"):
        put(f"{path}/data.noun")
        if path == "mine":
            monkeypatch.setenv("WNSEARCHDIR", "~/mine")
        assert noun_synsets()["n00001740"] == (f"{path}/data.noun".replace("_", " "),)


def test_no_wordnet(monkeypatch, not_installed):
    monkeypatch.setattr(wordnet, "_nltk", lambda: [])
    with pytest.raises(InputError, match=rf"isn't in the folders of Debian and NLTK: {REMEDY}"):
        noun_synsets()


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("wordnet/data.noun", lambda whole: whole[:-20], "ends within a line, so it was cut short"),
        ("wordnet/data.noun", lambda whole: whole + b"0 04 n\n", "holds a line that is not a syn"),
        ("wordnet/data.noun", lambda whole: whole + b"caf\xe9\n", "can't be read as WordNet"),
        ("wordnet.zip", lambda whole: b"", "can't be read as WordNet"),
        ("wordnet.zip", lambda whole: b"PK\x05\x06" + bytes(18), "can't be read as WordNet"),
    ],
)
def test_damaged_files(file, damage, message, tmp_path, monkeypatch, not_installed):
    whole = noun_file.write(tmp_path / "corpora/wordnet/whole", SYNSETS).read_bytes()
    (tmp_path / "corpora" / file).write_bytes(damage(whole))
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    with pytest.raises(InputError, match=rf"{file} {message}.*{REMEDY}"):
        noun_synsets()


def test_imagenet_s_wnids_are_a_thousand_in_order():
    wnids = imagenet.wnids()
    assert list(wnids) == sorted(set(wnids))
    assert len(wnids) == 1000
    assert all(re.fullmatch(r"n\d{8}", wnid) for wnid in wnids)
    # Tench, crane (bird), crane (machine) and toilet tissue, by torchvision's numbers.
    known = {"n01440764": 0, "n02012849": 134, "n03126707": 517, "n15075141": 999}
    assert {wnid: wnids.index(wnid) for wnid in known} == known


def test_imagenet_s_names_are_the_words_of_each_synset_and_www_s_cranes(folder):
    noun_file.write_imagenet(folder / "data.noun")
    names = imagenet.names()
    assert len(names) == 1000
    expected = {0: ("class 0", "kind 0"), 133: ("class 133", "Kind 66"), 134: ("crane", "bird")}
    expected |= {517: ("crane", "machine"), 999: ("class 99", "Kind 499")}
    assert {k: names[k] for k in expected} == expected
