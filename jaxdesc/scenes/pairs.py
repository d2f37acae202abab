"""Fresh pairs of scenes, with and without a phrase of the vocabulary, and all else the same.

Whether a neuron has been named rightly is asked of images that had no part in naming it: CoSy (Kopf
et al., "CoSy: Evaluating Textual Explanations of Neurons", NeurIPS 2024) has a diffusion model draw
its concept. Here the renderer draws it, and the truth of both scenes is known.
"""

from dataclasses import replace
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
# Scenes from which each phrase takes its own, a whole number of rounds of the classes.
_EACH = 1024 * len(CLASSES)


class Pair(NamedTuple):
    """Two scenes that differ in what a phrase demands, and in nothing else.

    Attributes:
        present: of which the phrase is true.
        absent: of which it is false.
    """

    present: Scene
    absent: Scene


def pairs(phrase: Phrase, count: int, seed: int = 0) -> list[Pair]:
    """Render pairs of scenes for a phrase, each from a scene of its own.

    The one scene gets what the phrase demands. In the other, all that it demands is drawn again, as
    the world draws it, until the phrase is false: beside "red star" stands mostly a thing of
    another class and colour, now and then a blue star or a red cat. So it is asked whether a neuron
    tells a phrase from what the world shows else, not which part of the phrase it goes by.

    A class is one of those of a hypernym. A context thing is the foremost; those behind it are
    others than the phrase's in both scenes. The object, drawn last, may hide a part of it.

    Args:
        phrase: one of `captions.phrases()`.
        count: of pairs, at most 32,768.
        seed: world of the split "pairs", which no network has seen.

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
    own = _behind(_demanded(phrase, rng), phrase, rng)
    other = _redrawn(phrase, own, rng)
    return Pair(*(render(SPLIT, seed, index, fixed=fixed) for fixed in (own, other)))


def _demanded(phrase: Phrase, rng: np.random.Generator) -> Fixed:
    return Fixed(
        int(rng.choice(phrase.kinds)) if _names_kinds(phrase) else None,
        phrase.colour,
        phrase.pattern,
        phrase.background,
    )


def _names_kinds(phrase: Phrase) -> bool:
    return 0 < len(phrase.kinds) < len(CLASSES)


def _behind(fixed: Fixed, phrase: Phrase, rng: np.random.Generator) -> Fixed:
    """Put the phrase's context thing in front of others."""
    if phrase.context is None:
        return fixed
    others = [thing for thing in range(len(CONTEXTS)) if thing != phrase.context]
    return replace(fixed, contexts=(phrase.context, *map(int, rng.choice(others, 2))))


def _redrawn(phrase: Phrase, own: Fixed, rng: np.random.Generator) -> Fixed:
    """Draw what the phrase demands, and nothing else, until it is no longer met."""
    while True:
        kind = int(rng.integers(len(CLASSES)))
        colour, place = int(rng.integers(len(COLOURS))), int(rng.integers(len(BACKGROUNDS)))
        pattern = 0 if rng.random() < 0.8 else int(rng.integers(1, len(PATTERNS)))
        thing = int(rng.integers(len(CONTEXTS)))
        other = Fixed(
            kind if own.kind is not None else None,
            colour if own.colour is not None else None,
            pattern if own.pattern is not None else None,
            place if own.background is not None else None,
            (thing, *own.contexts[1:]) if own.contexts else (),
        )
        if not _meets(other, phrase):
            return other


def _meets(fixed: Fixed, phrase: Phrase) -> bool:
    return (
        (not _names_kinds(phrase) or fixed.kind in phrase.kinds)
        and fixed.colour == phrase.colour
        and fixed.pattern == phrase.pattern
        and fixed.background == phrase.background
        and (fixed.contexts[0] if fixed.contexts else None) == phrase.context
    )
