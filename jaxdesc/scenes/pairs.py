"""New pairs of scenes that differ only in the truth of a phrase.

They test a neuron's name on images that were not used for naming it. CoSy (Kopf et al., "CoSy:
Evaluating Textual Explanations of Neurons", NeurIPS 2024) has a diffusion model draw the concept;
here the renderer draws it, and the truth of both scenes is known.
"""

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
# Scenes reserved for each phrase, a whole number of rounds of the classes.
_EACH = 1024 * len(CLASSES)


class Pair(NamedTuple):
    """Two scenes that differ only in the attributes that a phrase names.

    Attributes:
        present: scene with the phrase.
        absent: scene without it.
    """

    present: Scene
    absent: Scene


def pairs(phrase: Phrase, count: int, seed: int = 0) -> list[Pair]:
    """Render pairs of scenes for a phrase, each pair from a different scene.

    The first scene gets the attributes that the phrase names. In the second these are drawn again,
    as the world draws them, until the phrase is false: next to "red star" it mostly shows a thing
    of another class and colour, now and then a blue star or a red cat. So a neuron has to
    distinguish the phrase from everything else in the world, not only one part of it.

    A class is drawn from those of a hypernym. The phrase's context thing is in front; those behind
    it are others in both scenes. The object, drawn last, may hide a part of it.

    Args:
        phrase: one of `captions.phrases()`.
        count: number of pairs, at most 32,768.
        seed: world of the split "pairs", on which no network was trained.

    Returns:
        The pairs.

    Raises:
        ValueError: more pairs than a phrase has scenes for.
    """
    if count > _EACH:
        raise ValueError(f"{count} pairs of {phrase.text!r} are asked for: there are {_EACH}.")
    first = phrases().index(phrase) * _EACH
    return [_pair(phrase, seed, first + index) for index in range(count)]


def _pair(phrase: Phrase, seed: int, index: int) -> Pair:
    rng = np.random.default_rng([SPLITS.index(SPLIT), seed, index, 1])
    kind = int(rng.choice(phrase.kinds)) if _names_kinds(phrase) else None
    contexts: tuple[int, ...] = ()
    if phrase.context is not None:  # in front of two others
        others = [thing for thing in range(len(CONTEXTS)) if thing != phrase.context]
        contexts = (phrase.context, *map(int, rng.choice(others, 2)))
    present = Fixed(kind, phrase.colour, phrase.pattern, phrase.background, contexts)
    absent = _redrawn(phrase, present, rng)
    return Pair(*(render(SPLIT, seed, index, fixed=fixed) for fixed in (present, absent)))


def _names_kinds(phrase: Phrase) -> bool:
    return 0 < len(phrase.kinds) < len(CLASSES)


def _redrawn(phrase: Phrase, present: Fixed, rng: np.random.Generator) -> Fixed:
    """Draw the attributes that the phrase names, and no others, until the phrase is false."""
    while True:
        kind = int(rng.integers(len(CLASSES)))
        colour, ground = int(rng.integers(len(COLOURS))), int(rng.integers(len(BACKGROUNDS)))
        pattern = 0 if rng.random() < 0.8 else int(rng.integers(1, len(PATTERNS)))
        thing = int(rng.integers(len(CONTEXTS)))
        absent = Fixed(
            kind if present.kind is not None else None,
            colour if present.colour is not None else None,
            pattern if present.pattern is not None else None,
            ground if present.background is not None else None,
            (thing, *present.contexts[1:]) if present.contexts else (),
        )
        if not _meets(absent, phrase):
            return absent


def _meets(fixed: Fixed, phrase: Phrase) -> bool:
    return (
        (not _names_kinds(phrase) or fixed.kind in phrase.kinds)
        and fixed.colour == phrase.colour
        and fixed.pattern == phrase.pattern
        and fixed.background == phrase.background
        and (fixed.contexts[0] if fixed.contexts else None) == phrase.context
    )
