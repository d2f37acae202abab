"""WordNet 3.0's noun synsets, read from its own file `data.noun` (format: wndb(5WN)).

ImageNet's ids are positions in this very file: "n01440764" is the synset at byte 1440764 of WordNet
3.0's `data.noun`, so no other release will do.
"""

import os
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from jaxdesc.errors import InputError, shown

RELEASE = "3.0"
HYPERNYM = ("@", "@i")  # symbols of pointers to hypernyms, the second of an instance

Nouns = tuple[Mapping[str, tuple[str, ...]], Mapping[str, tuple[str, ...]]]

# Debian's and Ubuntu's package wordnet-base.
_DEBIAN = Path("/usr/share/wordnet/data.noun")

_REMEDY = (
    "install Debian's package (apt install wordnet-base), or NLTK's (nltk.download('wordnet')), or "
    "set WNSEARCHDIR to the folder that holds data.noun"
)


def noun_synsets() -> Mapping[str, tuple[str, ...]]:
    """Each noun synset's words by its id, such as "n01440764": ("tench", "Tinca tinca").

    Ids and words are in the file's order, which is also NLTK's. The file is searched in the folder
    that WordNet's variable WNSEARCHDIR names, or else where Debian's package and NLTK put it.
    Raises `InputError` if no file is found, or it isn't the whole `data.noun` of WordNet 3.0.
    """
    return _read()[0]


def hypernyms() -> Mapping[str, tuple[str, ...]]:
    """Ids of each noun synset's hypernyms, direct ones, instances' too, by its id.

    Of the file of `noun_synsets`, and with its errors.
    """
    return _read()[1]


def _read() -> Nouns:
    folder = os.environ.get("WNSEARCHDIR")
    files = [Path(os.path.expanduser(folder)) / "data.noun"] if folder else [_DEBIAN, *_nltk()]
    for file in files:
        if os.path.isfile(file):
            return _nouns(file)
    where = f"folder {shown(folder)} of WNSEARCHDIR" if folder else "folders of Debian and NLTK"
    raise InputError(f"WordNet's data.noun isn't in the {where}: {_REMEDY}.")


def _nltk() -> Iterator[Path]:
    """Paths of the corpus, unpacked or not, in the folders of nltk.data.path."""
    paths = os.environ.get("NLTK_DATA", "").split(os.pathsep)
    listed = [Path(os.path.expanduser(path)) for path in paths if path]
    prefix = Path(sys.prefix)
    parents = (Path.home(), prefix, prefix / "share", prefix / "lib", Path("/usr/share"))
    more = (Path("/usr/local/share"), Path("/usr/lib"), Path("/usr/local/lib"))
    for root in (*listed, *(parent / "nltk_data" for parent in (*parents, *more))):
        yield root / "corpora" / "wordnet" / "data.noun"
        yield root / "corpora" / "wordnet.zip"


@cache
def _nouns(file: Path) -> Nouns:
    """Words and hypernyms of each synset."""
    try:
        if file.suffix == ".zip":
            with zipfile.ZipFile(file) as archive:
                text = archive.read("wordnet/data.noun").decode()
        else:
            text = file.read_text(encoding="utf-8")
    except Exception as error:  # of any type: damage can break any of zipfile's parts
        raise InputError(f"{file} can't be read as WordNet ({error}): {_REMEDY}.") from error
    release = re.search(r"WordNet (\d+(?:\.\d+)*) Copyright", text[:5000])
    if not release or release[1] != RELEASE:
        what = f"WordNet {release[1]}" if release else "not WordNet's"
        raise InputError(
            f"{file} is {what}, but ImageNet's classes and the paper's vocabulary are of WordNet "
            f"{RELEASE}: {_REMEDY}."
        )
    if not text.endswith("\n"):
        raise InputError(f"{file} ends within a line, so it was cut short: {_REMEDY}.")
    try:
        # The licence at the file's head is indented by two spaces.
        synsets = [_synset(line) for line in text.splitlines() if not line.startswith("  ")]
    except ValueError as error:
        raise InputError(f"{file} holds a line that is not a synset: {_REMEDY}.") from error
    return {key: words for key, words, _ in synsets}, {key: above for key, _, above in synsets}


def _synset(line: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Parse an id, its words and its hypernyms.

    A line is offset, file number, type, count of words in hex, each word and its sense, count of
    pointers, then symbol, offset, type and words of each.
    """
    offset, _, kind, count, rest = line.split(" ", 4)
    *words, rest = rest.split(" ", 2 * int(count, 16))
    pointers, rest = rest.split(" ", 1)
    fields = rest.split(" ", 4 * int(pointers))
    above = zip(fields[::4], fields[1::4], fields[2::4], strict=False)
    parents = tuple(sort + place for symbol, place, sort in above if symbol in HYPERNYM)
    return kind + offset, tuple(word.replace("_", " ") for word in words[::2]), parents
