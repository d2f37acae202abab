"""Made-up results and images for the page: any number of neurons, a hostile name."""

import json
import re
from dataclasses import replace

import numpy as np
from PIL import Image

from jaxdesc.errors import UnusableImage
from jaxdesc.images.example import Example
from jaxdesc.result import UNSURE, Exemplar, Neuron, Result, Skipped
from tests.album import Album

HOSTILE = "</script><img src=x onerror=\"alert('co')\"><!-- & {{ 7 * 7 }} \u2028\u2029"
SIZES = [(160, 90), (90, 160), (64, 64), (300, 20)]


class Colours:
    """Images of one colour each, in several shapes; number `broken` can't be decoded."""

    spec = "colours"
    has_boxes = False
    has_labels = True

    def __init__(self, count, broken=-1):
        self.count, self.broken = count, broken

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index == self.broken:
            raise UnusableImage(repr(self.identify(index)), "can't be decoded")
        return Example(Image.new("RGB", SIZES[index % len(SIZES)], colour(index)), index % 3)

    def identify(self, index):
        return f"photos/colour {index}.jpg"

    def fingerprint(self):
        return f"{self.count}"


class Pictures(Colours):
    """Images of the same shapes with something to see in them."""

    def __getitem__(self, index):
        example = super().__getitem__(index)
        return replace(example, image=Album(self.count)[index].image.resize(example.image.size))


def data_of(html):
    """The data of a page's script."""
    return json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', html)[1])


def piece_of(files, number=0):
    """The data of a piece of a page."""
    text = files[f"units/{number}.js"].decode()
    assert text.startswith(f"addPiece({number},")
    return json.loads(text.removeprefix(f"addPiece({number},").removesuffix(");\n"))


def page_at(folder):
    """The data of a written page, with its first piece."""
    index = data_of((folder / "index.html").read_text("utf-8"))
    return index | {"piece": piece_of({"units/0.js": (folder / "units" / "0.js").read_bytes()})}


def rows_of(markdown):
    """Texts of the cells of a Markdown table, its heads first."""
    head, _, *lines = (line for line in markdown.splitlines() if line.startswith("|"))
    return [[text.strip() for text in line.strip("|").split("|")] for line in (head, *lines)]


def colour(index):
    """Far apart for neighbours."""
    return (37 * index % 256, 97 * index % 256, 173 * index % 256)


def layer(neurons, images, exemplars, seed=0, names=True, rankings=None):
    """A layer's result: every tenth neuron has no concept, every seventh another one's.

    `rankings` is the number of different rankings; by default one per neuron.
    """
    rng = np.random.default_rng(seed)
    ranked = [
        rng.choice(images, exemplars, replace=False).tolist() for _ in range(rankings or neurons)
    ]
    return Result(
        tuple(_neuron(unit, rng, ranked[unit % len(ranked)], names) for unit in range(neurons)),
        skipped=(Skipped("broken.jpg", HOSTILE, "colours"),),
    )


def sure(result, stability):
    """The result with this stability of each best concept, half of it of others; 4 is not sure."""
    return replace(result, neurons=tuple(map(_sure, result, stability)))


def _sure(neuron, stability):
    count, q = len(neuron.concepts), 0.5 if neuron.unit == 4 else 0.01
    flags = neuron.flags + ((UNSURE,) if neuron.unit == 4 else ())
    shares = (stability, *(stability / 2,) * (count - 1))[:count]
    return replace(neuron, stability=shares, z=(2.5,) * count, q=(q,) * count, flags=flags)


def _neuron(unit, rng, ranking, names):
    best = float(rng.uniform(0.02, 0.4))
    named = unit + 1 if unit % 7 == 3 else unit
    concepts = ((f"thing {named}", best), (f"stuff {named // 10}", 0.97 * best))
    activations = np.sort(rng.uniform(0, 20, len(ranking)))[::-1]
    return Neuron(
        layer="fc",
        unit=unit,
        concepts=() if unit % 10 == 9 else concepts,
        maximum=best,
        threshold=0.95 * best,
        exemplars=tuple(
            Exemplar(f"photos/colour {index}.jpg", float(value), box_of(index), index)
            for index, value in zip(ranking, activations, strict=True)
        ),
        flags=("dead", "no concept") if unit % 10 == 9 else (),
        names=(f"thing {unit}", f"item {unit}") if names else (),
    )


def box_of(index):
    """A square in an image's lower right corner, three quarters of its shorter side."""
    width, height = SIZES[index % len(SIZES)]
    side = 0.75 * min(width, height)
    return (width - side, height - side, float(width), float(height))
