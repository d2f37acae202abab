"""WordNet 3.0's noun synsets, read from its own file `data.noun` (format: wndb(5WN)).

ImageNet's ids are places in this very file: "n01440764" is the synset at byte 1440764 of WordNet
3.0's `data.noun`, so another release can't stand in for it.
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

# Debian's and Ubuntu's package wordnet-base.
_DEBIAN = Path("/usr/share/wordnet/data.noun")

_REMEDY = (
    "install Debian's package (apt install wordnet-base), or NLTK's (nltk.download('wordnet')), or "
    "set WNSEARCHDIR to the folder that holds data.noun"
)


def noun_synsets() -> Mapping[str, tuple[str, ...]]:
    """Each noun synset's words by its id, such as "n01440764": ("tench", "Tinca tinca").

    Both in the file's order, which is also NLTK's. The file is looked for in the folder that
    WordNet's own variable WNSEARCHDIR names; without it, where Debian's package and NLTK put it.

    Raises:
        InputError: no file is found, or it isn't the whole `data.noun` of WordNet 3.0.
    """
    return _synsets(_file())


def _file() -> Path:
    """`data.noun`, or the archive that NLTK leaves it in."""
    folder = os.environ.get("WNSEARCHDIR")
    places = [_in(folder)] if folder else [_DEBIAN, *_nltk()]
    for place in places:
        if os.path.isfile(place):
            return place
    where = f"folder {shown(folder)} of WNSEARCHDIR" if folder else "folders of Debian and NLTK"
    raise InputError(f"WordNet's data.noun isn't in the {where}: {_REMEDY}.")


def _in(folder: str) -> Path:
    return Path(os.path.expanduser(folder)) / "data.noun"


def _nltk() -> Iterator[Path]:
    """Where nltk.download leaves the corpus, unpacked or not; as nltk.data.path."""
    paths = os.environ.get("NLTK_DATA", "").split(os.pathsep)
    listed = [Path(os.path.expanduser(path)) for path in paths if path]
    prefix = Path(sys.prefix)
    parents = (Path.home(), prefix, prefix / "share", prefix / "lib", Path("/usr/share"))
    more = (Path("/usr/local/share"), Path("/usr/lib"), Path("/usr/local/lib"))
    for root in (*listed, *(parent / "nltk_data" for parent in (*parents, *more))):
        yield root / "corpora" / "wordnet" / "data.noun"
        yield root / "corpora" / "wordnet.zip"


@cache
def _synsets(file: Path) -> Mapping[str, tuple[str, ...]]:
    lines = _checked(file, _text(file)).splitlines()
    try:
        # The licence at the file's head is indented by two spaces.
        return dict(_synset(line) for line in lines if not line.startswith("  "))
    except ValueError as error:
        raise InputError(f"{file} holds a line that is no synset: {_REMEDY}.") from error


def _synset(line: str) -> tuple[str, tuple[str, ...]]:
    """Offset, file number, type, count of words in hex, then each word and its sense number."""
    offset, _, kind, count, rest = line.split(" ", 4)
    words = rest.split(" ", 2 * int(count, 16))[:-1:2]
    return kind + offset, tuple(word.replace("_", " ") for word in words)


def _text(file: Path) -> str:
    try:
        if file.suffix == ".zip":
            with zipfile.ZipFile(file) as archive:
                return archive.read("wordnet/data.noun").decode()
        return file.read_text(encoding="utf-8")
    except Exception as error:  # of no fixed type: damage meets zipfile's parts anywhere
        raise InputError(f"{file} can't be read as WordNet ({error}): {_REMEDY}.") from error


def _checked(file: Path, text: str) -> str:
    """Refuse another release, and a file that was cut short."""
    found = re.search(r"WordNet (\d+(?:\.\d+)*) Copyright", text[:5000])
    if not found or found[1] != RELEASE:
        what = f"WordNet {found[1]}" if found else "not WordNet's"
        raise InputError(
            f"{file} is {what}, but ImageNet's classes and the paper's vocabulary are of WordNet "
            f"{RELEASE}: {_REMEDY}."
        )
    if not text.endswith("\n"):
        raise InputError(f"{file} ends within a line, so it was cut short: {_REMEDY}.")
    return text
