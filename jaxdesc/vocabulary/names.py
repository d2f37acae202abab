"""Files of names, one per line: concepts, or the classes of a network.

Real files come with any line end and any Unicode form, and some are not lists of names but tables,
JSON, HTML or ids. Those are refused: a concept "dog 123" would be a label that is silently wrong.
"""

import errno
import os
import re
import unicodedata

from jaxdesc.errors import SHOWN, InputError, shown

LARGEST_FILE = 2**26  # bytes; WordNet's nouns are a million
LONGEST = 1000  # characters of a name; CLIP reads 77 tokens

LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
# Control characters but for white space, halves of a character (surrogates), and what stands in for
# characters that were lost.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufffd-\uffff]")
# Soft hyphens, marks of direction, zero-width spaces. Joiners stay inside words, whose letters they
# change.
_INVISIBLE = re.compile("[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
_JOINERS = "\u200c\u200d"

_NUMBER = r"['\"]?[-+]?\d[\d.,]*['\"]?"
_ONE_COLUMN = "keep the column of names alone, one name per line"
# Lines that can't be names: what they are, how they are recognised, and the remedy.
_REFUSED = [
    (what, re.compile(pattern), remedy)
    for what, pattern, remedy in (
        (
            "part of a Python or JSON literal",
            r"^[\]\[(){},]+$|^[\[({]+\s*['\"]|['\"]\s*[\]},]+$|^(['\"])[^'\"]{2,}\1$|"
            r"^\{?\s*('[^']*'|\"[^\"]*\"|\d+)\s*:\s*['\"\[{]|^[\[{].*[,:].*[\]}],?$|"
            r"^\w+\s*=\s*[\[({]",
            "write the names alone, one per line, or pass them from Python as a list",
        ),
        (
            "a name and a number",
            rf"(^|[\t;|])\s*{_NUMBER}\s*[\t;|]|[\t;|]\s*{_NUMBER}$|"
            rf"[^\W\d_]['\")]?(,|\s*:\s*){_NUMBER}$",
            _ONE_COLUMN,
        ),
        (
            "a WordNet id",
            r"(?<![^\W_])n\d{8}(?![^\W_])|^\w[\w'-]*\.[nvars]\.\d\d$",
            'give names, or "imagenet" for those of its classes',
        ),
        ("HTML", r"<[a-zA-Z/!?][^>]*>|&(#\d+|[a-z]+);", "save the names as plain text"),
        ("a comment, a bullet or an address", r"^([#*•-]|//)\s|://", "give names alone"),
    )
]
# Most lines are words, which none of these patterns finds: they need no further look.
_WORDS = re.compile(r"[^\W\d_](?:[^\W\d_]|[ .'-])*")
# A table whose first line consists of these names its columns.
_HEADS = {
    *("category", "class", "class_name", "classes", "concept", "concepts", "count", "counts"),
    *("coverage", "description", "freq", "frequency", "id", "idx", "index", "label", "labels"),
    *("name", "names", "number", "score", "synonyms", "synset", "syns", "text", "wnid", "word"),
    "words",
}


def normalised(text: str) -> str:
    """Write a name as all its spellings are written: NFC, one space for any white space.

    Characters that can't be seen are removed, such as zero-width spaces and soft hyphens.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    return " ".join(filter(None, (word.strip(_JOINERS) for word in text.split())))


def class_names(label: str) -> tuple[str, ...]:
    """Split a class's label at each comma with a space: "tench, Tinca tinca" has two names.

    Each is normalised; underscores stand for spaces, as in love_heart.
    """
    names = (normalised(name.replace("_", " ")) for name in re.split(r",\s", label + " "))
    return tuple(filter(None, names))


def check_name(text: str, where: str) -> None:
    """Refuse what no tokenizer should be given, and no terminal should print.

    Raises:
        InputError: a name that is too long, or holds control characters.
    """
    if len(text) > LONGEST:
        raise InputError(
            f"{where} holds {shown(text[:60])[:-1]}…', which has {len(text)} characters: expected "
            f"at most {LONGEST}, one concept a line; shorten or remove it."
        )
    found = _CONTROL.search(text)
    if found:
        raise InputError(
            f"{where} holds {shown(text)}, in which {found[0]!r} is no character of a text: remove "
            "it."
        )


def check_lines(lines: list[str], path: str) -> None:
    """Refuse lines that can't be names.

    Raises:
        InputError: a table, a literal of a programming language, ids or HTML; it gives the line.
    """
    filled = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    for number, line in filled:
        for what, pattern, remedy in () if _WORDS.fullmatch(line) else _REFUSED:
            if pattern.search(line):
                raise InputError(f"line {number} of {path} is {shown(line)}, {what}: {remedy}.")
    if filled and _is_table([line for _, line in filled]):
        number, line = filled[0]
        raise InputError(
            f"line {number} of {path} is {shown(line)}, a row of a table: {_ONE_COLUMN}."
        )


def _is_table(lines: list[str]) -> bool:
    """Recognise several columns, by their heads or by what all lines have in common."""
    heads = re.split(r"[\t,;|]", lines[0].lower())
    if len(heads) > 1 and _HEADS.issuperset(head.strip(" '\"") for head in heads):
        return True
    if len(lines) == 1:
        return False
    numbered = [re.match(r"(\d+)[\s.):,;]+['\"]?[^\W\d_]", line) for line in lines]
    numbers = [int(found[1]) for found in numbered if found]
    first = numbers[0] if numbers else 0
    return (
        numbers == list(range(first, first + len(lines)))
        or all("\t" in line for line in lines)
        or all(re.search(rf",\s*{_NUMBER}$", line) for line in lines)
    )


def read_lines(path: str, what: str, form: str) -> list[str]:
    """Read the lines of a UTF-8 text file with any line ends.

    Args:
        path: of the file; `~` is the home directory.
        what: the file holds, for errors.
        form: that is expected of it, for errors.

    Raises:
        InputError: a file that is missing, too large or not UTF-8.
    """
    try:
        # utf-8-sig: an editor's byte order mark isn't part of the first line.
        text = _content(path, what).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{what} file {path} isn't UTF-8 at byte {error.start}: save it as UTF-8 text, {form}."
        ) from error
    except OSError as error:
        raise InputError(
            f"{what} file {path[:SHOWN]} can't be read ({error.strerror}): give the path of a "
            f"UTF-8 text file, {form}."
        ) from error
    if "\0" in text:
        raise InputError(
            f"{what} file {path} has a zero byte, as UTF-16 and binary files have: save it as "
            f"UTF-8 text, {form}."
        )
    # Not splitlines, which also breaks at characters that no editor shows as a new line.
    lines = LINE_END.split(text)
    return lines[:-1] if len(lines) > 1 and not lines[-1] else lines


def _content(path: str, what: str) -> bytes:
    """A file's bytes, up to a bound: a device such as /dev/zero never ends."""
    try:
        with open(os.path.expanduser(path), "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except ValueError as error:  # a zero byte, of which Python gives no OSError
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from error
    if len(content) > LARGEST_FILE:
        raise InputError(
            f"{what} file {path} has more than {LARGEST_FILE:,} bytes: give a UTF-8 text file, of "
            "fewer or shorter lines."
        )
    return content
