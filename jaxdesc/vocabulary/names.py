"""Files of names, one per line: concepts, or the classes of a network.

Real files have any line end and any Unicode form, and some are not lists of names but tables, JSON,
HTML or ids. Those are refused: a concept "dog 123" would be a label that is silently wrong.
"""

import os
import re
import unicodedata

from jaxdesc.errors import SHOWN, InputError, shown

LARGEST_FILE = 2**26  # bytes; WordNet's nouns are a million
LONGEST = 1000  # characters of a name; CLIP reads 77 tokens

LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
# Control characters except white space, surrogates, and replacements for lost characters.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufffd-\uffff]")
# Soft hyphens, direction marks, zero-width spaces. Joiners change letters, so they are kept inside
# words.
_INVISIBLE = re.compile("[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
_JOINERS = "\u200c\u200d"

_NUMBER = r"['\"]?[-+]?\d[\d.,]*['\"]?"
_ONE_COLUMN = "keep the column of names alone, one name per line"
# Lines that can't be names: what they are, their pattern, and the remedy.
_REFUSED = (
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
# Most lines are words, which none of these patterns matches.
_WORDS = re.compile(r"[^\W\d_](?:[^\W\d_]|[ .'-])*")
# Names of columns; the first line of a table has only these.
_HEADS = {
    *("category", "class", "class_name", "classes", "concept", "concepts", "count", "counts"),
    *("coverage", "description", "freq", "frequency", "id", "idx", "index", "label", "labels"),
    *("name", "names", "number", "score", "synonyms", "synset", "syns", "text", "wnid", "word"),
    "words",
}


def normalised(text: str) -> str:
    """Normalise a name: NFC, one space for any white space, no invisible characters."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    return " ".join(filter(None, (word.strip(_JOINERS) for word in text.split())))


def class_names(label: str) -> tuple[str, ...]:
    """Split a class's label at each comma with a space: "tench, Tinca tinca" has two names.

    Each is normalised; underscores become spaces, as in love_heart.
    """
    names = (normalised(name.replace("_", " ")) for name in re.split(r",\s", label + " "))
    return tuple(filter(None, names))


def check_name(text: str, where: str) -> None:
    """Raise `InputError` for a name that is too long or holds control characters."""
    if len(text) > LONGEST:
        raise InputError(
            f"{where} holds {shown(text[:60])[:-1]}…', which has {len(text)} characters: expected "
            f"at most {LONGEST}, one concept per line; shorten or remove it."
        )
    if control := _CONTROL.search(text):
        raise InputError(
            f"{where} holds {shown(text)}, in which {control[0]!r} is not a character of a text: "
            "remove it."
        )


def read_names(path: str, what: str, form: str, table: str | None = None) -> list[str]:
    """Read the lines of a UTF-8 text file of names, with any line ends; `~` is the home directory.

    In errors, `what` names the kind of file and `form` its layout. The lines of a file that begins
    with `table` are not names, and are not checked. Raises `InputError` for a file that is missing,
    too large or not UTF-8; or for a table, a literal of a programming language, ids or HTML in
    place of names, with the line that shows it.
    """

    def fault(found: str, remedy: str = f"a UTF-8 text file, {form}") -> InputError:
        return InputError(f"{what} file {path[:SHOWN]} {found}: give {remedy}.")

    try:
        with open(os.path.expanduser(path), "rb") as file:
            content = file.read(LARGEST_FILE + 1)  # a device such as /dev/zero never ends
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = getattr(error, "strerror", "Invalid argument")
        remedy = f"the path of a UTF-8 text file, {form}"
        raise fault(f"can't be read ({reason})", remedy) from error
    if len(content) > LARGEST_FILE:
        remedy = "a UTF-8 text file, of fewer or shorter lines"
        raise fault(f"has more than {LARGEST_FILE:,} bytes", remedy)
    try:
        # utf-8-sig: an editor's byte order mark isn't part of the first line.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise fault(f"isn't UTF-8 at byte {error.start}") from error
    if "\0" in text:
        raise fault("has a zero byte, as UTF-16 and binary files have")
    # Not splitlines, which also breaks at characters that no editor shows as a new line.
    lines = LINE_END.split(text)
    if len(lines) > 1 and not lines[-1]:
        lines.pop()
    if table is None or not text.startswith(table):
        _check_lines(lines, path)
    return lines


def _check_lines(lines: list[str], path: str) -> None:
    filled = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    for number, line in filled:
        for what, pattern, remedy in () if _WORDS.fullmatch(line) else _REFUSED:
            if re.search(pattern, line):
                raise InputError(f"line {number} of {path} is {shown(line)}, {what}: {remedy}.")
    if filled and _is_table([line for _, line in filled]):
        number, line = filled[0]
        raise InputError(
            f"line {number} of {path} is {shown(line)}, a row of a table: {_ONE_COLUMN}."
        )


def _is_table(lines: list[str]) -> bool:
    """Recognise several columns, by their heads or by a pattern of all lines."""
    heads = re.split(r"[\t,;|]", lines[0].lower())
    if len(heads) > 1 and _HEADS.issuperset(head.strip(" '\"") for head in heads):
        return True
    if len(lines) == 1:
        return False
    numbered = [re.match(r"(\d+)[\s.):,;]+['\"]?[^\W\d_]", line) for line in lines]
    numbers = [int(match[1]) for match in numbered if match]
    first = numbers[0] if numbers else 0
    return (
        numbers == list(range(first, first + len(lines)))
        or all("\t" in line for line in lines)
        or all(re.search(rf",\s*{_NUMBER}$", line) for line in lines)
    )
