import re

import numpy as np
import pytest

from jaxdesc.scenes import captions
from jaxdesc.scenes.captions import TEMPLATES, Visible, phrases, texts, truth, vocabulary
from jaxdesc.scenes.world import BACKGROUNDS, CLASSES, COLOURS, CONTEXTS, PATTERNS, render
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
    return Visible(
        kind,
        rng.integers(len(COLOURS), size=ROWS),
        rng.integers(len(PATTERNS), size=ROWS),
        rng.integers(len(BACKGROUNDS), size=ROWS),
        rng.random((ROWS, len(CONTEXTS))) < 0.4,
    )


def is_true(text, kind, colour, pattern, place, things):
    """Whether a phrase is true, read from its words; `kind` is None where no object shows."""
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
        assert {name, f"white {name}", f"dotted {name}", f"{name} on sand"} < set(concepts)
        assert f"{name} near a cone" in concepts
    for words in (KINDS_OF, COLOURS, BACKGROUNDS, CONTEXTS, PATTERNS[1:]):
        assert set(words) < set(concepts)


def test_truth_is_what_the_words_say(visible):
    found = truth(visible)
    for index in range(ROWS):
        facts = row(visible, index)
        wanted = [is_true(text, *facts) for text in vocabulary()]
        wrong = np.flatnonzero(found[index] != wanted)
        assert not wrong.size, (vocabulary()[wrong[0]], facts)


def test_captions_are_every_phrase_in_every_template():
    every = texts()
    for index, text in enumerate(vocabulary()):
        said = every[index * len(TEMPLATES) : (index + 1) * len(TEMPLATES)]
        assert said == [template.format(text) for template in TEMPLATES]
    assert len(set(every)) == len(every)


def test_the_base_template_is_no_caption():
    said = {" ".join(text.lower().split()) for text in texts()}
    assert base_template().lower() not in said
    for template in TEMPLATES:
        assert template.format("").strip().lower() not in said


def test_drawn_captions_are_true(visible):
    true, rng = truth(visible), np.random.default_rng(0)
    for _ in range(50):
        phrase, template = captions.draw(true, rng)
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


def test_drawing_is_seeded(visible):
    true = truth(visible)
    one, other = (captions.draw(true, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_seen_through_windows():
    scene = render("probe", 0, 3)
    left, top, right, bottom = map(int, scene.box)
    windows = {
        (top, left, max(bottom - top, right - left)): 1.0,
        (bottom, left, 40): 0.0,
        (top, right, 40): 0.0,
        (top, left + (right - left + 1) // 2, 96): (right - left) // 2 / (right - left),
        (top - 90 + (bottom - top) // 2, left - 20, 90): (bottom - top) // 2 / (bottom - top),
    }
    seen, shares = captions.seen_through([scene] * len(windows), np.array(list(windows)))
    np.testing.assert_allclose(shares, list(windows.values()))
    np.testing.assert_array_equal(seen.kind, [scene.kind, -1, -1, -1, -1])
    np.testing.assert_array_equal(seen.background, [scene.background] * len(windows))


def test_what_shows_is_what_lies_inside():
    """Three quarters of the object, half of a context thing, against counted pixels."""
    scenes = [render("probe", 1, index) for index in range(48)]
    rng = np.random.default_rng(0)
    windows = np.array(
        [(rng.integers(96 - side + 1), rng.integers(128 - side + 1), side)
         for side in rng.integers(30, 97, len(scenes))]
    )  # fmt: skip
    seen, _ = captions.seen_through(scenes, windows)
    shown = 0
    for scene, (top, left, side), kind, contexts in zip(
        scenes, windows, seen.kind, seen.contexts, strict=True
    ):
        inside = np.zeros((96, 128), bool)
        inside[top : top + side, left : left + side] = True

        def share(box, inside=inside):
            x0, y0, x1, y1 = map(int, box)
            return inside[y0:y1, x0:x1].mean()

        assert kind == (scene.kind if share(scene.box) >= 0.75 else -1)
        things = {thing for thing, box in scene.contexts if share(box) >= 0.5}
        assert set(np.flatnonzero(contexts)) == things
        shown += kind >= 0
    assert 5 < shown < 43
