"""Bad concepts, classes and WordNets, by the message that each gives."""

from jaxdesc.vocabulary.vocabulary import load_classes, load_vocabulary
from tests import noun_file
from tests.faults.place import rows


def words(spec, content=None, load=load_vocabulary):
    """Load a vocabulary, or classes; in a text, <here>/words.txt is a file of this content."""

    def run(place):
        if content is not None:
            place.file("words.txt", content)
        load(spec.replace("<here>", str(place.folder)) if isinstance(spec, str) else spec)

    return run


def file(content):
    return words("file:<here>/words.txt", content)


def classes(content):
    return words("file:<here>/words.txt", content, load_classes)


def noun(content=None, **written):
    """Load ImageNet's classes by this data.noun."""

    def run(place):
        place.patch.setenv("WNSEARCHDIR", str(place.folder))
        if content is not None:
            place.file("data.noun", content)
        if written:
            noun_file.write(place.folder / "data.noun", {"n00001740": ("entity",)}, **written)
        load_vocabulary("imagenet")

    return run


ROWS = {
    # Concepts from files.
    "vocabulary file <here>/none.txt can't be read (No such file or directory): give the path of "
    "a UTF-8 text file, one concept per line.": words("file:<here>/none.txt"),
    "vocabulary file <here> can't be read (Is a directory): give": words("file:<here>"),
    "vocabulary file xxx... can't be read (File name too long): give": words("file:" + "x" * 5000),
    "vocabulary file a\\x00b can't be read (Invalid argument): give": words("file:a\0b"),
    "vocabulary file /dev/zero has more than 67,108,864 bytes: give": words("file:/dev/zero"),
    "vocabulary file <here>/words.txt isn't UTF-8 at byte 7: give": file(b"sky\ncaf\xe9\n"),
    "vocabulary file <here>/words.txt has a zero byte, ...: give a UTF-8": file("sky\nca\0t\n"),
    "vocabulary words holds no concept: give it at least one.": file(""),
    "entry 2 of file:<here>/words.txt holds '\\x1b[2Jcat', in which '\\x1b' is not a character of "
    "a text: remove it.": file("sky\n\x1b[2Jcat\n"),
    "entry 1 of file:<here>/words.txt holds 'xxx...…', which has 100000 characters: expected at "
    "most 1000, one concept per line; shorten": file("x" * 100_000),
    # Files that are not lists of names.
    **rows(
        "line ",
        file,
        {
            "2 of <here>/words.txt is 'dog\\t123', a name and a number: keep": "sky\ndog\t123",
            "3 of <here>/words.txt is 'dog,123', a name and a number:": "sky\n\ndog,123",
            "1 of <here>/words.txt is ... 1,..., a name and a number:": "'dog': 1,",
            "1 of <here>/words.txt is ..., part of a Python or JSON literal: write": "{0: 'tench',",
            '1 of <here>/words.txt is \'["dog"..., part of a Python or JSON': '["dog", "cat"]',
            "1 of <here>/words.txt is '[', part of a Python or JSON literal:": "[\n",
            "2 of <here>/words.txt is 'n01440764', a WordNet id: give": "sky\nn01440764",
            "1 of <here>/words.txt is 'dog.n.01', a WordNet id:": "dog.n.01",
            "1 of <here>/words.txt is '<li>dog</li>', HTML: save": "<li>dog</li>",
            "1 of <here>/words.txt is '# animals', a comment, a bullet or an address:": "# animals",
            "1 of <here>/words.txt is 'label,count', a row of a table: keep": "label,count\ndog,x",
            "1 of <here>/words.txt is '0 tench', a row of a table:": "0 tench\n1 hen",
            "1 of <here>/words.txt is 'a\\tb', a row of a table:": "a\tb\nc\td",
        },
    ),
    # Broden.
    "vocabulary file <here>/label.csv can't be read (...): ... or NetDissect's": words(
        "broden:<here>"
    ),
    "vocabulary file <here>/words.txt is not a table (field larger ...): give NetDissect's": words(
        "broden:<here>/words.txt", 'number,name,\n1,"' + "xx\n" * 80_000
    ),
    "vocabulary broden holds no concept: give it at least one.": words(
        "broden:<here>/words.txt", "number,name,category"
    ),
    # Concepts from Python.
    "there is no vocabulary 'wordnt': give a list of strings, or KIND or KIND:PATH, KIND one of": (
        words("wordnt")
    ),
    "there is no vocabulary '<here>/words.txt': give 'file:<here>/words.txt' for": words(
        "<here>/words.txt", "sky"
    ),
    "entry 2 of the vocabulary is 3: give one concept per entry, a string": words(["sky", 3]),
    "entry 2 of the vocabulary is 'cat\\u2028dog': give": words(["sky", "cat\u2028dog"]),
    "entry 2 of the vocabulary holds '\\ud83d', in which '\\ud83d' is not": words(["a", "\ud83d"]),
    "the vocabulary is {'sky': 3}: give a list of strings, or": words({"sky": 3}),
    "the vocabulary is None: give a list of strings, or": words(None),
    # Classes.
    "there are no classes 'imagenet1k': give \"imagenet\"": words("imagenet1k", load=load_classes),
    "class file <here>/none.txt can't be read ...: give the path of ... one class per line": words(
        "file:<here>/none.txt", load=load_classes
    ),
    "line 2 of <here>/words.txt has a blank name: expected one class per line": classes("a, b\n\n"),
    "line 1 of <here>/words.txt holds '\\x1b', in which": classes("a, \x1b"),
    # WordNet.
    "WordNet's data.noun isn't in the folder '<here>' of WNSEARCHDIR: install": noun(),
    "<here>/data.noun is not WordNet's, but ImageNet's classes ... of WordNet 3.0: install": noun(
        "entity\n"
    ),
    "<here>/data.noun is WordNet 3.1, but ImageNet's classes ... of WordNet 3.0: install": noun(
        release="3.1"
    ),
    "WordNet's data.noun lacks n01440764 and 997 more of ...: reinstall it.": noun(release="3.0"),
}
