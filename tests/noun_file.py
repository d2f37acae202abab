"""Made-up WordNets: `data.noun` in the exact format of wndb(5WN), for where the real one isn't."""

from jaxdesc.vocabulary import imagenet

LICENCE = [
    "This software and database is being provided to you, the LICENSEE, by",
    "Princeton University under the following license.",
    "",
    "WordNet {release} Copyright 2006 by Princeton University.  All rights reserved.",
]


def write(path, synsets, release="3.0"):
    """Write a file in which each synset stands at the byte that its wnid names.

    Args:
        path: of the file.
        synsets: the words of each wnid, such as {"n00001740": ("entity",)}; wnids ascending.
        release: what the licence says.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for number, text in enumerate(LICENCE, 1):
            file.write(f"  {number} {text.format(release=release)}  \n".encode())
        for wnid, words in synsets.items():
            # The line before, the licence's or a gloss, is filled up with spaces to this synset.
            gap = int(wnid[1:]) - file.tell()
            assert gap >= 0, f"{wnid} lies inside the line before"
            file.seek(-1, 1)
            file.write(b" " * gap + b"\n")
            file.write(_line(wnid, words).encode())
    return path


def _line(wnid, words):
    listed = " ".join(
        f"{word.replace(' ', '_')} {place % 16:x}" for place, word in enumerate(words)
    )
    return f"{wnid[1:]} 03 n {len(words):02x} {listed} 001 @ 00001740 n 0000 | gloss  \n"


def write_imagenet(path):
    """A file of ImageNet's 1,000 classes alone, whose names repeat each other, also but for case.

    Class k is "class k % 900" and "kind k // 2", which odd classes write with a capital letter.
    """
    return write(
        path,
        {
            wnid: (f"class {k % 900}", f"{'Kind' if k % 2 else 'kind'} {k // 2}")
            for k, wnid in enumerate(imagenet.wnids())
        },
    )
