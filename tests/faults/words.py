"""Bad concepts, classes and WordNets."""

from jaxdesc.vocabulary.vocabulary import load_classes, load_vocabulary
from tests import noun_file
from tests.faults.place import Rows

case = Rows()

# How several messages end.
FORMS = (
    ": give a list of strings, or KIND or KIND:PATH, KIND one of imagenet, wordnet, broden, file, "
    "scenes."
)
PATHS = ": give the path of a UTF-8 text file, one concept per line."
ENTRY = ": give one concept per entry, a string of one line."
FILE = ": give a UTF-8 text file, one concept per line."
NOUNS = (
    ": install Debian's package (apt install wordnet-base), or NLTK's "
    "(nltk.download('wordnet')), or set WNSEARCHDIR to the folder that holds data.noun."
)


# Concepts.


def words(content, form="file"):
    def run(place):
        return load_vocabulary(f"{form}:{place.file('words.txt', content)}")

    return run


case(
    "concepts: no file",
    lambda p: load_vocabulary(f"file:{p.folder}/none.txt"),
    "vocabulary file <here>/none.txt can't be read (No such file or directory)" + PATHS,
)
case(
    "concepts: a folder",
    lambda p: load_vocabulary(f"file:{p.folder}"),
    "vocabulary file <here> can't be read (Is a directory)" + PATHS,
)
case(
    "concepts: name too long",
    lambda p: load_vocabulary("file:" + "x" * 5000),
    "vocabulary file <x> can't be read (File name too long)" + PATHS,
)
case(
    "concepts: zero byte in the name",
    lambda p: load_vocabulary("file:a\0b"),
    "vocabulary file a\\x00b can't be read (Invalid argument)" + PATHS,
)
case("concepts: empty file", words(""), "vocabulary words holds no concept: give it at least one.")
case(
    "concepts: Latin 1",
    words("sky\ncafé\n".encode("latin-1")),
    "vocabulary file <here>/words.txt isn't UTF-8 at byte 7" + FILE,
)
case(
    "concepts: zero bytes",
    words("sky\nca\0t\n"),
    "vocabulary file <here>/words.txt has a zero byte, as UTF-16 and binary files have" + FILE,
)
case(
    "concepts: escape sequence",
    words("sky\n\x1b[2Jcat\n"),
    "entry 2 of file:<here>/words.txt holds '\\x1b[2Jcat', in which '\\x1b' is not a character of "
    "a text: remove it.",
)
case(
    "concepts: huge line",
    words("x" * 10_000_000),
    "entry 1 of file:<here>/words.txt holds '<x>…', which has 10000000 characters: expected at "
    "most 1000, one concept per line; shorten or remove it.",
)
case(
    "concepts: endless",
    lambda p: load_vocabulary("file:/dev/zero"),
    "vocabulary file /dev/zero has more than 67,108,864 bytes: give a UTF-8 text file, "
    "of fewer or shorter lines.",
)
LITERAL = "part of a Python or JSON literal"
# Files that aren't lists of names, the line that shows it, and what it is.
NO_NAMES = {
    "count behind a tab": ("sky\ndog\t123", 2, "a name and a number"),
    "count behind a comma": ("sky\n\ndog,123", 3, "a name and a number"),
    "dict of counts": ("'dog': 1,", 1, "a name and a number"),
    "dict of classes": ("{0: 'tench',\n 1: 'goldfish, Carassius auratus',", 1, LITERAL),
    "JSON": ('["dog", "cat"]', 1, LITERAL),
    "JSON over several lines": ('[\n  "dog",\n  "cat"\n]', 1, LITERAL),
    "wnid": ("sky\nn01440764", 2, "a WordNet id"),
    "wnid and name": ("n01440764 tench, Tinca tinca", 1, "a WordNet id"),
    "synset": ("dog.n.01", 1, "a WordNet id"),
    "HTML": ("sky\n<li>dog</li>", 2, "HTML"),
    "comment": ("# animals\ndog", 1, "a comment, a bullet or an address"),
    "heads of a table": ("label,count\ndog,x", 1, "a row of a table"),
    "numbered": ("0 tench\n1 goldfish", 1, "a row of a table"),
    "columns": ("dog\tanimal\noak\tplant", 1, "a row of a table"),
}
REMEDIES = {
    "a name and a number": "keep the column of names alone, one name per line",
    "a row of a table": "keep the column of names alone, one name per line",
    LITERAL: "write the names alone, one per line, or pass them from Python as a list",
    "a WordNet id": 'give names, or "imagenet" for those of its classes',
    "HTML": "save the names as plain text",
    "a comment, a bullet or an address": "give names alone",
}
for name, (content, number, what) in NO_NAMES.items():
    line = content.split("\n")[number - 1]
    case(
        f"concepts: {name}",
        words(content),
        f"line {number} of <here>/words.txt is {line!r}, {what}: {REMEDIES[what]}.",
    )
case(
    "concepts: unknown form",
    lambda p: load_vocabulary("wordnt"),
    "there is no vocabulary 'wordnt'" + FORMS,
)
case(
    "concepts: empty list",
    lambda p: load_vocabulary([]),
    "vocabulary list holds no concept: give it at least one.",
)
case(
    "concepts: list of numbers",
    lambda p: load_vocabulary(["sky", 3]),
    "entry 2 of the vocabulary is 3" + ENTRY,
)
case(
    "concepts: a dict",
    lambda p: load_vocabulary({"sky": 3}),
    "the vocabulary is {'sky': 3}" + FORMS,
)
case(
    "concepts: several lines in one entry",
    lambda p: load_vocabulary(["sky", "cat\u2028dog"]),
    "entry 2 of the vocabulary is 'cat\\u2028dog'" + ENTRY,
)
case(
    "concepts: a file without its form",
    lambda p: load_vocabulary(str(p.file("words.txt", "sky"))),
    "there is no vocabulary '<here>/words.txt': give 'file:<here>/words.txt' for the file of that "
    "name.",
)
case(
    "concepts: half a character",
    lambda p: load_vocabulary(["sky", "\ud83d"]),
    "entry 2 of the vocabulary holds '\\ud83d', in which '\\ud83d' is not a character of a text: "
    "remove it.",
)
case("concepts: nothing", lambda p: load_vocabulary(None), "the vocabulary is None" + FORMS)
case(
    "concepts: Broden's table is missing",
    lambda p: load_vocabulary(f"broden:{p.folder}"),
    "vocabulary file <here>/label.csv can't be read (No such file or directory): give "
    "the path of a UTF-8 text file, one label per line, or NetDissect's label.csv.",
)
case(
    "concepts: Broden's table never closes",
    words('number,name,\n1,"' + "x\n" * 80_000, "broden"),
    "entry 1 of broden:<here>/words.txt holds '<x>…', which has 80000 characters: expected at "
    "most 1000, one concept per line; shorten or remove it.",
)
case(
    "concepts: Broden's table is empty",
    words("number,name,category", "broden"),
    "vocabulary broden holds no concept: give it at least one.",
)
case(
    "classes: unknown form",
    lambda p: load_classes("imagenet1k"),
    'there are no classes \'imagenet1k\': give "imagenet", "file:PATH" (UTF-8 text, one '
    'class per line, its names separated by ", ") or nothing.',
)
case(
    "classes: no file",
    lambda p: load_classes(f"file:{p.folder}/none.txt"),
    "class file <here>/none.txt can't be read (No such file or directory): give the path "
    'of a UTF-8 text file, one class per line, its names separated by ", ".',
)
case(
    "classes: a dict",
    lambda p: load_classes(f"file:{p.file('c.txt', '{0: ' + repr('tench') + ',')}"),
    "line 1 of <here>/c.txt is \"{0: 'tench',\", part of a Python or JSON literal: write the names "
    "alone, one per line, or pass them from Python as a list.",
)
case(
    "classes: blank line",
    lambda p: load_classes(f"file:{p.file('c.txt', 'a, b' + chr(10) * 2)}"),
    "line 2 of <here>/c.txt has a blank name: expected one class per line, its names "
    'separated by ", ".',
)
case(
    "classes: escape sequence",
    lambda p: load_classes(f"file:{p.file('c.txt', 'a, ' + chr(27))}"),
    "line 1 of <here>/c.txt holds '\\x1b', in which '\\x1b' is not a character of a text: remove "
    "it.",
)


def noun(content=None, **written):
    def run(place):
        place.patch.setenv("WNSEARCHDIR", str(place.folder))
        if content is not None:
            place.file("data.noun", content)
        if written:
            noun_file.write(place.folder / "data.noun", {"n00001740": ("entity",)}, **written)
        load_vocabulary("imagenet")

    return run


case(
    "WordNet: missing",
    noun(),
    "WordNet's data.noun isn't in the folder '<here>' of WNSEARCHDIR" + NOUNS,
)
case(
    "WordNet: another file",
    noun("entity\n"),
    (
        "<here>/data.noun is not WordNet's, but ImageNet's classes and the paper's "
        "vocabulary are of WordNet 3.0"
    )
    + NOUNS,
)
case(
    "WordNet: another release",
    noun(release="3.1"),
    (
        "<here>/data.noun is WordNet 3.1, but ImageNet's classes and the paper's vocabulary "
        "are of WordNet 3.0"
    )
    + NOUNS,
)
case(
    "WordNet: classes missing",
    noun(release="3.0"),
    "WordNet's data.noun lacks n01440764 and 997 more of ImageNet's 1,000 classes: reinstall it.",
)
