import re

import numpy as np
import pytest

from jaxdesc.scenes import captions
from jaxdesc.scenes.captions import TEMPLATES, Visible, phrases, texts, truth, vocabulary
from jaxdesc.scenes.world import (
    BACKGROUNDS,
    CLASSES,
    COLOURS,
    CONTEXTS,
    HEIGHT,
    PATTERNS,
    WIDTH,
    render,
)
from jaxdesc.vocabulary.vocabulary import base_template, load_vocabulary

ROWS = 60
# What the words mean to people, written down again here.
KINDS_OF = {
    "animal": "fish cat rabbit butterfly",
    "vehicle": "car truck sailboat bicycle",
    "plant": "tree mushroom flower",
    "celestial body": "star moon sun",
    "tool": "key ladder hammer gear anchor",
    "headgear": "crown hat",
    "container": "mug bottle",
    "symbol": "heart ring cross arrow",
}


@pytest.fixture(scope="module")
def visible():
    """Every class and no object, with random attributes."""
    rng = np.random.default_rng(1)
    kind = np.concatenate([np.arange(-1, len(CLASSES)), rng.integers(-1, len(CLASSES), ROWS - 33)])
    drawn = [rng.integers(len(names), size=ROWS) for names in (COLOURS, PATTERNS, BACKGROUNDS)]
    return Visible(kind, *drawn, rng.random((ROWS, len(CONTEXTS))) < 0.4)


def is_true(text, kind, colour, pattern, place, things):
    """Truth of a phrase, read from its words; `kind` is None if no object is visible."""
    if text in BACKGROUNDS:
        return text == place
    if text in CONTEXTS:
        return text in things
    if kind is None:
        return False
    if match := re.fullmatch("(.+) on (.+)", text):
        return is_true(match[1], kind, colour, pattern, place, things) and match[2] == place
    if match := re.fullmatch("(.+) near a (.+)", text):
        return is_true(match[1], kind, colour, pattern, place, things) and match[2] in things
    if text in KINDS_OF:
        return kind in KINDS_OF[text].split()
    if text in CLASSES[kind]:
        return True
    word, _, name = text.partition(" ")
    return word in (colour, pattern) and (not name or name in CLASSES[kind])


def row(visible, index):
    kind = visible.kind[index]
    return (
        None if kind < 0 else list(CLASSES)[kind],
        list(COLOURS)[visible.colour[index]],
        PATTERNS[visible.pattern[index]],
        BACKGROUNDS[visible.background[index]],
        [name for name, shows in zip(CONTEXTS, visible.contexts[index], strict=True) if shows],
    )


def test_every_phrase_once():
    concepts = vocabulary()
    assert len(concepts) >= 1500
    assert len({concept.casefold() for concept in concepts}) == len(concepts)
    assert load_vocabulary("scenes").concepts == concepts
    for name in [n for names in CLASSES.values() for n in names]:
        wanted = {name, f"white {name}", f"dotted {name}", f"{name} on sand", f"{name} near a cone"}
        assert wanted < set(concepts)
    for words in (KINDS_OF, COLOURS, BACKGROUNDS, CONTEXTS, PATTERNS[1:]):
        assert set(words) < set(concepts)


def test_truth_is_what_the_words_say(visible):
    found = truth(visible)
    for index in range(ROWS):
        facts = row(visible, index)
        wanted = [is_true(text, *facts) for text in vocabulary()]
        wrong = np.flatnonzero(found[index] != wanted)
        assert not wrong.size, (vocabulary()[wrong[0]], facts)


def test_captions_are_every_phrase_in_every_template_and_never_the_base():
    every = texts()
    for index, text in enumerate(vocabulary()):
        said = every[index * len(TEMPLATES) : (index + 1) * len(TEMPLATES)]
        assert said == [template.format(text) for template in TEMPLATES]
    assert len(set(every)) == len(every)
    lowered = {" ".join(text.lower().split()) for text in every}
    for bare in (base_template(), *(template.format("") for template in TEMPLATES)):
        assert bare.strip().lower() not in lowered


def test_drawn_captions_are_true_and_seeded(visible):
    true, rng = truth(visible), np.random.default_rng(3)
    first = captions.draw(true, rng)
    np.testing.assert_array_equal(first, captions.draw(true, np.random.default_rng(3)))
    for phrase, template in (first, *(captions.draw(true, rng) for _ in range(50))):
        assert true[np.arange(ROWS), phrase].all()
        assert set(template) <= set(range(len(TEMPLATES)))


def test_forms_and_templates_are_drawn_by_their_shares():
    # A red dotted cat on grass near a cone: every form has true phrases.
    one = Visible(*(np.array([v]) for v in (9, 0, 2, 0)), np.arange(8)[None] == 7)
    true = np.repeat(truth(one), 4000, axis=0)
    phrase, template = captions.draw(true, np.random.default_rng(0))
    forms = [phrases()[index].form for index in phrase]
    for form, share in captions._FORM_SHARES.items():
        assert forms.count(form) / 4000 == pytest.approx(share, abs=0.03), form
    drawn = np.bincount(template, minlength=len(TEMPLATES)) / 4000
    np.testing.assert_allclose(drawn, captions._TEMPLATE_SHARES, atol=0.03)
    names = [phrases()[index].text for index in phrase if phrases()[index].form == "name"]
    assert names.count("kitten") / len(names) == pytest.approx(0.5, abs=0.05)


def test_what_shows_is_what_lies_inside():
    """Three quarters of the object, half of a context thing, against counted pixels."""
    scenes, rng = [render("probe", 1, index) for index in range(48)], np.random.default_rng(0)
    sides = rng.integers(30, 97, len(scenes))
    windows = [(rng.integers(HEIGHT + 1 - s), rng.integers(WIDTH + 1 - s), s) for s in sides]
    seen, shares = captions.seen_through(scenes, np.array(windows))
    np.testing.assert_array_equal(seen.background, [scene.background for scene in scenes])
    for index, (scene, (top, left, side)) in enumerate(zip(scenes, windows, strict=True)):
        inside = np.zeros((HEIGHT, WIDTH), bool)
        inside[top : top + side, left : left + side] = True
        share, *of_things = (
            inside[y0:y1, x0:x1].mean()
            for x0, y0, x1, y1 in (scene.box, *(box for _, box in scene.contexts))
        )
        assert shares[index] == pytest.approx(share)
        assert seen.kind[index] == (scene.kind if share >= 0.75 else -1)
        shown = zip(scene.contexts, of_things, strict=True)
        things = {thing for (thing, _), inside in shown if inside >= 0.5}
        assert set(np.flatnonzero(seen.contexts[index])) == things
    assert 5 < (seen.kind >= 0).sum() < 43
    assert min(shares) == 0
