import numpy as np
import pytest

from jaxdesc.scenes import captions
from jaxdesc.scenes.pairs import pairs
from jaxdesc.scenes.world import CLASSES, CONTEXTS, HEIGHT, SPLITS, WIDTH, Fixed, render

PHRASES = {phrase.text: phrase for phrase in captions.phrases()}
OF_EVERY_FORM = list({phrase.form: phrase for phrase in captions.phrases()}.values())
MORE = [PHRASES[text] for text in ("animal", "red", "red cat", "star on grass", "cat near a bush")]
ATTRIBUTES = ("colour", "pattern", "background", "context")


def true_of(phrase, scenes):
    visible, _ = captions.seen_through(scenes, np.tile([0, 0, WIDTH], (len(scenes), 1)))
    return captions.truth(visible)[:, captions.phrases().index(phrase)]


def attributes(scene):
    values = (scene.colour, scene.pattern, scene.background, scene.contexts[-1][0], scene.kind)
    return dict(zip((*ATTRIBUTES, "kind"), values, strict=True))


@pytest.mark.parametrize("phrase", [*OF_EVERY_FORM, *MORE], ids=lambda phrase: phrase.text)
def test_a_phrase_is_true_of_the_one_scene_alone_and_nothing_else_differs(phrase):
    found = pairs(phrase, 8)
    assert true_of(phrase, [pair.present for pair in found]).all()
    assert not true_of(phrase, [pair.absent for pair in found]).any()
    asked = {name for name in ATTRIBUTES if getattr(phrase, name) is not None}
    asked |= {"kind"} if 0 < len(phrase.kinds) < len(CLASSES) else set()
    for scenes in found:
        values, others = map(attributes, scenes)
        changed = {name for name in values if values[name] != others[name]}
        assert changed
        assert changed <= asked
        behind = [[thing for thing, _ in scene.contexts[:-1]] for scene in scenes]
        assert behind[0] == behind[1]
        differs = (scenes.present.pixels != scenes.absent.pixels)[outside(scenes)].mean()
        assert differs > 0.5 if "background" in changed else differs == 0


def outside(scenes):
    """Pixels that lie in no box of an object or of a foremost context thing."""
    free = np.ones((HEIGHT, WIDTH), bool)
    for scene in scenes:
        for left, top, right, bottom in (scene.box, scene.contexts[-1][1]):
            free[top:bottom, left:right] = False
    return free


def test_what_is_not_demanded_is_drawn_as_the_world_draws_it():
    """Pairs for a colour take the classes in turn; pairs for a class, all other classes."""
    kinds = [(pair.present.kind, pair.absent.kind) for pair in pairs(PHRASES["red"], 32)]
    assert kinds == [(kind, kind) for kind in range(32)]
    others = {pair.absent.kind for pair in pairs(PHRASES["cat"], 128)}
    assert len(others) > 26
    assert PHRASES["cat"].kinds[0] not in others
    animals = {pair.present.kind for pair in pairs(PHRASES["animal"], 24)}
    assert animals == set(PHRASES["animal"].kinds)


def test_pairs_are_of_other_scenes_than_all_else_and_always_the_same():
    drawn = [*pairs(PHRASES["cat"], 8), *pairs(PHRASES["red cat"], 8)]
    drawn += pairs(PHRASES["cat"], 8, seed=1)
    assert len({pair.present.pixels.tobytes() for pair in drawn}) == len(drawn)
    for again, before in zip(pairs(PHRASES["red cat"], 2)[1], drawn[9], strict=True):
        np.testing.assert_array_equal(again.pixels, before.pixels)
    scene, _ = pairs(captions.phrases()[0], 1)[0]  # of class 0, as the split's scene 0
    assert (scene.pixels == render("pairs", 0, 0).pixels).all()
    for split in SPLITS[:-1]:
        assert (scene.pixels != render(split, 0, 0).pixels).any()
    message = r"^32769 pairs of 'star' are asked for: there are 32768\.$"
    with pytest.raises(ValueError, match=message):
        pairs(captions.phrases()[0], 32769)


def test_what_a_scene_has_drawn_may_be_fixed():
    """Fixing what a scene draws anyway changes no pixel."""
    for index in range(24):
        scene = render("probe", 0, index, 0.5)
        things = tuple(thing for thing, _ in reversed(scene.contexts))
        fixed = Fixed(scene.kind, scene.colour, scene.pattern, scene.background, things)
        again = render("probe", 0, index, 0.5, fixed)
        np.testing.assert_array_equal(scene.pixels, again.pixels)
        assert scene.contexts == again.contexts
        others = tuple((thing + 1) % len(CONTEXTS) for thing in things)
        changed = render("probe", 0, index, 0.5, Fixed(contexts=(*others, 0, 0)))
        assert tuple(thing for thing, _ in reversed(changed.contexts)) == others
        assert (changed.kind, changed.colour) == (scene.kind, scene.colour)
