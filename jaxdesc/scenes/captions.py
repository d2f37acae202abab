"""A closed grammar about scenes: its phrases are both captions and vocabulary.

Every phrase states for which scenes it is true. Training draws captions from the phrases that are
true of a window, and removes the others that happen to be true from its negatives; discovery uses
all phrases as the vocabulary, including compositions and near-synonyms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Int

from jaxdesc.scenes import world
from jaxdesc.scenes.world import BACKGROUNDS, CLASSES, COLOURS, CONTEXTS, PATTERNS, Box, Scene

HYPERNYMS: dict[str, tuple[str, ...]] = {
    "animal": ("fish", "cat", "rabbit", "butterfly"),
    "vehicle": ("car", "truck", "sailboat", "bicycle"),
    "plant": ("tree", "mushroom", "flower"),
    "celestial body": ("star", "moon", "sun"),
    "tool": ("key", "ladder", "hammer", "gear", "anchor"),
    "headgear": ("crown", "hat"),
    "container": ("mug", "bottle"),
    "symbol": ("heart", "ring", "cross", "arrow"),
}
# Wordings of a phrase as a caption. The bare base template is not one of them: it would be learned
# as "any image", and every score, from which it is subtracted, would become negative.
TEMPLATES = ("a photo of a {}", "{}", "a {}", "a picture of a {}")
_TEMPLATE_SHARES = (0.5, 0.2, 0.15, 0.15)

# Share of captions of each form; a form without a true phrase leaves its share to the others.
_FORM_SHARES = {
    "name": 0.34,
    "colour name": 0.2,
    "pattern name": 0.08,
    "name on background": 0.1,
    "name near context": 0.08,
    "hypernym": 0.05,
    "background": 0.06,
    "context": 0.05,
    "colour": 0.02,
    "pattern": 0.02,
}


@dataclass(frozen=True)
class Phrase:
    """A phrase and the conditions under which it is true; an empty field is not a condition."""

    text: str
    form: str
    kinds: tuple[int, ...] = ()
    colour: int | None = None
    pattern: int | None = None
    background: int | None = None
    context: int | None = None


@dataclass(frozen=True)
class Visible:
    """Visible things in a batch of windows; `kind` is -1 if no object is visible."""

    kind: Int[np.ndarray, " window"]
    colour: Int[np.ndarray, " window"]
    pattern: Int[np.ndarray, " window"]
    background: Int[np.ndarray, " window"]
    contexts: Bool[np.ndarray, "window context"]


@cache
def phrases() -> tuple[Phrase, ...]:
    """Every phrase of the grammar, in a fixed order, no text twice."""
    kinds = list(CLASSES)
    names = [(name, (k,)) for k, pair in enumerate(CLASSES.values()) for name in pair]
    said = [Phrase(name, "name", kind) for name, kind in names]
    for word, members in HYPERNYMS.items():
        said.append(Phrase(word, "hypernym", tuple(kinds.index(m) for m in members)))
    everything = tuple(range(len(kinds)))
    for c, colour in enumerate(COLOURS):
        said.append(Phrase(colour, "colour", everything, colour=c))
        said += [Phrase(f"{colour} {n}", "colour name", k, colour=c) for n, k in names]
    for p, pattern in enumerate(PATTERNS[1:], 1):
        said.append(Phrase(pattern, "pattern", everything, pattern=p))
        said += [Phrase(f"{pattern} {n}", "pattern name", k, pattern=p) for n, k in names]
    for b, ground in enumerate(BACKGROUNDS):
        said.append(Phrase(ground, "background", background=b))
        form = "name on background"
        said += [Phrase(f"{n} on {ground}", form, k, background=b) for n, k in names]
    for t, thing in enumerate(CONTEXTS):
        said.append(Phrase(thing, "context", context=t))
        said += [Phrase(f"{n} near a {thing}", "name near context", k, context=t) for n, k in names]
    return tuple(said)


def vocabulary() -> tuple[str, ...]:
    """Every phrase's text: the concepts of the embedded world."""
    return tuple(phrase.text for phrase in phrases())


def truth(visible: Visible) -> Bool[np.ndarray, "window phrase"]:
    """Truth of every phrase for every window."""
    kinds, colours, patterns, backgrounds, contexts = _demands()
    rows = visible.contexts.shape[0]
    needs_context = contexts >= 0
    shown = visible.contexts[:, np.where(needs_context, contexts, 0)]
    return (
        kinds[:, visible.kind].T  # kind -1, no object, reads the last column
        & _meets(colours, visible.colour)
        & _meets(patterns, visible.pattern)
        & _meets(backgrounds, visible.background)
        & (shown | np.broadcast_to(~needs_context, (rows, len(contexts))))
    )


def _meets(demanded: np.ndarray, given: np.ndarray) -> np.ndarray:
    return (demanded[None, :] < 0) | (demanded[None, :] == given[:, None])


@cache
def _demands() -> tuple[np.ndarray, ...]:
    """Every phrase's demands as arrays: kinds [P, classes + 1], the others [P], -1 for none."""
    said = phrases()
    kinds = np.zeros((len(said), len(CLASSES) + 1), bool)
    for row, phrase in zip(kinds, said, strict=True):
        row[list(phrase.kinds) or slice(None)] = True
    fields = [
        np.array([-1 if (v := getattr(phrase, field)) is None else v for phrase in said])
        for field in ("colour", "pattern", "background", "context")
    ]
    return kinds, *fields


def draw(
    true: Bool[np.ndarray, "window phrase"], rng: np.random.Generator
) -> tuple[Int[np.ndarray, " window"], Int[np.ndarray, " window"]]:
    """Draw one true phrase of `phrases()` and one of `TEMPLATES` for each window, as indices.

    A form is drawn by its share, then a phrase uniformly among the form's true ones.
    """
    forms = list(_FORM_SHARES)
    of_form = np.array([forms.index(phrase.form) for phrase in phrases()])
    membership = np.eye(len(forms), dtype=np.float32)[of_form]
    counts = true.astype(np.float32) @ membership
    shares = np.array(list(_FORM_SHARES.values()), np.float32)
    weights = true * (shares / np.maximum(counts, 1))[:, of_form]
    cumulative = np.cumsum(weights, axis=1)
    points = rng.random((len(true), 1)) * cumulative[:, -1:]
    chosen = np.argmax(cumulative > points, axis=1)
    return chosen, rng.choice(len(TEMPLATES), len(true), p=_TEMPLATE_SHARES)


def texts() -> list[str]:
    """Every phrase in every template, row-major by phrase: all captions."""
    return [template.format(text) for text in vocabulary() for template in TEMPLATES]


def seen_through(
    scenes: Sequence[Scene], windows: Int[np.ndarray, "window 3"]
) -> tuple[Visible, np.ndarray]:
    """Visible things of each scene in its window, and the share of each object's box inside it.

    Windows are (top, left, side) in pixels. The object is visible if at least 75 % of its box is
    inside, a context thing from 50 %.
    """
    shares = np.array([_inside(s.box, w) for s, w in zip(scenes, windows, strict=True)])
    contexts = np.zeros((len(scenes), len(CONTEXTS)), bool)
    for row, scene, window in zip(contexts, scenes, windows, strict=True):
        for thing, box in scene.contexts:
            row[thing] |= _inside(box, window) >= 0.5
    fields = ((scene.kind, scene.colour, scene.pattern, scene.background) for scene in scenes)
    kind, colour, pattern, ground = np.array([*fields]).reshape(-1, 4).T
    return Visible(np.where(shares >= 0.75, kind, -1), colour, pattern, ground, contexts), shares


def _inside(box: Box, window: Int[np.ndarray, "3"]) -> float:
    """Share of a box inside a window (top, left, side) and its scene."""
    top, left, side = (float(v) for v in window)
    return world.inside(box, (left, top, left + side, min(top + side, world.HEIGHT)))
