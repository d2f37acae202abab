"""New pairs of scenes that differ only in the truth of a phrase.

They test a neuron's name on images that were not used for naming it. CoSy (Kopf et al., "CoSy:
Evaluating Textual Explanations of Neurons", NeurIPS 2024) has a diffusion model draw the concept;
here the renderer draws it, and the truth of both scenes is known.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from jaxdesc.scenes.captions import Phrase, phrases
from jaxdesc.scenes.world import (
    BACKGROUNDS,
    CLASSES,
    COLOURS,
    CONTEXTS,
    PATTERNS,
    SPLITS,
    Fixed,
    Scene,
    render,
)

SPLIT = "pairs"
# Attributes that are drawn evenly, in that order.
EVEN: dict[str, Collection[str]] = {"kind": CLASSES, "colour": COLOURS, "background": BACKGROUNDS}
# Scenes reserved for each phrase, a whole number of rounds of the classes.
_EACH = 1024 * len(CLASSES)


class Pair(NamedTuple):
    """Scenes with and without a phrase that differ only in the attributes that it names."""

    present: Scene
    absent: Scene


def pairs(phrase: Phrase, count: int, seed: int = 0) -> list[Pair]:
    """Render pairs of scenes for a phrase, each pair from a different scene.

    The first scene gets the attributes that the phrase names. In the second these are drawn again,
    as the world draws them, until the phrase is false: next to "red star" it mostly shows a thing
    of another class and colour, now and then a blue star or a red cat. So a neuron has to
    distinguish the phrase from everything else in the world, not only one part of it.

    A class is drawn from those of a hypernym. The phrase's context thing is in front; those behind
    it are others in both scenes. The object, drawn last, may hide a part of it. `seed` is the world
    of the split "pairs", on which no network was trained.

    Raises:
        ValueError: more pairs than a phrase has scenes for, 32,768.
    """
    if count > _EACH:
        raise ValueError(f"{count} pairs of {phrase.text!r} are asked for: there are {_EACH}.")
    first = phrases().index(phrase) * _EACH
    return [_pair(phrase, seed, first + index) for index in range(count)]


def _pair(phrase: Phrase, seed: int, index: int) -> Pair:
    rng = np.random.default_rng([SPLITS.index(SPLIT), seed, index, 1])
    kind = int(rng.choice(phrase.kinds)) if 0 < len(phrase.kinds) < len(CLASSES) else None
    contexts: tuple[int, ...] = ()
    if phrase.context is not None:  # in front of two others
        others = [thing for thing in range(len(CONTEXTS)) if thing != phrase.context]
        contexts = (phrase.context, *map(int, rng.choice(others, 2)))
    present = Fixed(kind, phrase.colour, phrase.pattern, phrase.background, contexts)
    absent = _redrawn(phrase, present, rng)
    return Pair(*(render(SPLIT, seed, index, fixed=fixed) for fixed in (present, absent)))


def _redrawn(phrase: Phrase, present: Fixed, rng: np.random.Generator) -> Fixed:
    """Draw the attributes that the phrase names, and no others, until the phrase is false."""
    named: dict[str, tuple[int, ...]] = {} if present.kind is None else {"kind": phrase.kinds}
    for name in ("colour", "pattern", "background", "context"):
        if getattr(phrase, name) is not None:
            named[name] = (getattr(phrase, name),)
    while True:
        drawn = {name: int(rng.integers(len(values))) for name, values in EVEN.items()}
        drawn["pattern"] = 0 if rng.random() < 0.8 else int(rng.integers(1, len(PATTERNS)))
        drawn["context"] = int(rng.integers(len(CONTEXTS)))
        if any(drawn[name] not in true for name, true in named.items()):
            contexts = (drawn["context"], *present.contexts[1:]) if present.contexts else ()
            chosen = {name: drawn[name] for name in named if name != "context"}
            return Fixed(**chosen, contexts=contexts)
