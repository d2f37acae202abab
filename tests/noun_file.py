"""Made-up WordNets in the exact format of `data.noun`, wndb(5WN), if the real one is missing."""

from jaxdesc.vocabulary import imagenet

LICENCE = [
    "This software and database is being provided to you, the LICENSEE, by",
    "Princeton University under the following license.",
    "",
    "WordNet {release} Copyright 2006 by Princeton University.  All rights reserved.",
]


def write(path, synsets, release="3.0", parents=None):
    """Write a file in which each synset is at the byte that its wnid names.

    `synsets` holds the words of each wnid, such as {"n00001740": ("entity",)}; wnids ascending.
    `parents` holds the hypernyms of some, by default n00001740.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        f"  {number} {text.format(release=release)}  " for number, text in enumerate(LICENCE, 1)
    ]
    data = bytearray("\n".join(lines).encode())
    for wnid, words in synsets.items():
        # The line before, the licence's or a gloss, is filled up with spaces to this synset.
        gap = int(wnid[1:]) - len(data) - 1
        assert gap >= 0, f"{wnid} is inside the line before"
        listed = " ".join(f"{word.replace(' ', '_')} {i % 16:x}" for i, word in enumerate(words))
        above = (parents or {}).get(wnid, ("n00001740",))
        others = ("~ 00000042 n 0000",) if parents else ()
        pointers = [*(f"@ {parent[1:]} n 0000" for parent in above), *others]
        pointers = " ".join([f"{len(pointers):03d}", *pointers])
        line = f"{wnid[1:]} 03 n {len(words):02x} {listed} {pointers} | gloss  "
        data += b" " * gap + b"\n" + line.encode()
    path.write_bytes(data + b"\n")
    return path


def write_imagenet(path):
    """A file of ImageNet's 1,000 classes alone, whose names repeat each other, also but for case.

    Class k is "class k % 900" and "kind k // 2", which odd classes write with a capital letter.
    """
    names = [(f"class {k % 900}", f"{'Kind' if k % 2 else 'kind'} {k // 2}") for k in range(1000)]
    return write(path, dict(zip(imagenet.wnids(), names, strict=True)))
