from collections import Counter

import numpy as np
import pytest

from jaxdesc.scenes import captions
from jaxdesc.scenes.pairs import pairs
from jaxdesc.scenes.world import CLASSES, CONTEXTS, HEIGHT, SPLITS, WIDTH, Fixed, render

PHRASES = {phrase.text: phrase for phrase in captions.phrases()}
OF_EVERY_FORM = list({phrase.form: phrase for phrase in captions.phrases()}.values())
MORE = [PHRASES[text] for text in ("animal", "red", "red cat", "star on grass", "cat near a bush")]


def true_of(phrase, scenes):
    visible, _ = captions.seen_through(scenes, np.tile([0, 0, WIDTH], (len(scenes), 1)))
    return captions.truth(visible)[:, captions.phrases().index(phrase)]


def attributes(scene):
    return {
        "kind": scene.kind,
        "colour": scene.colour,
        "pattern": scene.pattern,
        "background": scene.background,
        "context": scene.contexts[-1][0],
    }


def demands(phrase):
    others = ("colour", "pattern", "background", "context")
    asked = {name for name in others if getattr(phrase, name) is not None}
    return asked | ({"kind"} if 0 < len(phrase.kinds) < len(CLASSES) else set())


@pytest.mark.parametrize("phrase", [*OF_EVERY_FORM, *MORE], ids=lambda phrase: phrase.text)
def test_a_phrase_is_true_of_the_one_scene_alone_and_nothing_else_differs(phrase):
    found = pairs(phrase, 8)
    assert true_of(phrase, [pair.present for pair in found]).all()
    assert not true_of(phrase, [pair.absent for pair in found]).any()
    for present, absent in found:
        one, other = attributes(present), attributes(absent)
        changed = {name for name in one if one[name] != other[name]}
        assert changed
        assert changed <= demands(phrase)
        assert [thing for thing, _ in present.contexts[:-1]] == [
            thing for thing, _ in absent.contexts[:-1]
        ]
        elsewhere = outside(present, absent)
        if "background" in changed:
            assert (present.pixels != absent.pixels)[elsewhere].mean() > 0.5
        else:
            np.testing.assert_array_equal(present.pixels[elsewhere], absent.pixels[elsewhere])


def outside(*scenes):
    """Pixels that lie in no box of an object or of a foremost context thing."""
    free = np.ones((HEIGHT, WIDTH), bool)
    for scene in scenes:
        for left, top, right, bottom in (scene.box, scene.contexts[-1][1]):
            free[top:bottom, left:right] = False
    return free


def test_what_is_not_demanded_is_drawn_as_the_world_draws_it():
    """Of pairs for a colour, classes come in turn; for a class, the others come all."""
    kinds = [(pair.present.kind, pair.absent.kind) for pair in pairs(PHRASES["red"], 32)]
    assert kinds == [(kind, kind) for kind in range(32)]
    others = Counter(pair.absent.kind for pair in pairs(PHRASES["cat"], 128))
    assert len(others) > 26
    assert PHRASES["cat"].kinds[0] not in others
    animals = {pair.present.kind for pair in pairs(PHRASES["animal"], 24)}
    assert animals == set(PHRASES["animal"].kinds)


def test_pairs_are_of_other_scenes_than_all_else():
    own = [
        pair.present.pixels.tobytes()
        for text in ("cat", "red cat")
        for pair in pairs(PHRASES[text], 8)
    ]
    own += [pair.present.pixels.tobytes() for pair in pairs(PHRASES["cat"], 8, seed=1)]
    assert len(set(own)) == len(own)
    scene, _ = pairs(captions.phrases()[0], 1)[0]  # of class 0, as the split's scene 0
    assert (scene.pixels == render("pairs", 0, 0).pixels).all()
    for split in SPLITS[:-1]:
        assert (scene.pixels != render(split, 0, 0).pixels).any()


def test_a_phrase_has_scenes_for_so_many_pairs():
    with pytest.raises(
        ValueError, match=r"^32769 pairs of 'star' are asked for: there are 32768\.$"
    ):
        pairs(captions.phrases()[0], 32769)


def test_pairs_are_always_the_same():
    again = [pairs(PHRASES["red cat"], count)[1] for count in (2, 3)]
    for one, other in zip(*again, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)


def test_what_a_scene_has_drawn_may_be_fixed():
    """To what it has drawn anyway, no pixel changes."""
    for index in range(24):
        scene = render("probe", 0, index, 0.5)
        things = tuple(thing for thing, _ in reversed(scene.contexts))
        own = Fixed(scene.kind, scene.colour, scene.pattern, scene.background, things)
        again = render("probe", 0, index, 0.5, own)
        np.testing.assert_array_equal(scene.pixels, again.pixels)
        assert scene.contexts == again.contexts
        other = Fixed(contexts=tuple((thing + 1) % len(CONTEXTS) for thing in (*things, 0, 0)))
        changed = render("probe", 0, index, 0.5, other)
        assert [thing for thing, _ in changed.contexts] == [
            (thing + 1) % len(CONTEXTS) for thing, _ in scene.contexts
        ]
        assert (changed.kind, changed.colour) == (scene.kind, scene.colour)
