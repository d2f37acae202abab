import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from jaxdesc.errors import InputError
from jaxdesc.scenes import world
from jaxdesc.scenes.world import (
    BACKGROUNDS,
    CLASSES,
    COLOURS,
    CONTEXTS,
    HEIGHT,
    PATTERNS,
    SPLITS,
    WIDTH,
    render,
)

COUNT = 480

IN_ANOTHER_PROCESS = """
import sys
from jaxdesc.scenes.world import render
for split, seed, index, correlation in (("train", 0, 5, 0.0), ("probe", 3, 70, 1.0)):
    sys.stdout.buffer.write(render(split, seed, index, correlation).pixels.tobytes())
"""


@pytest.fixture(scope="module")
def scenes():
    return [render("probe", 0, index) for index in range(COUNT)]


@pytest.fixture(scope="module")
def correlated():
    return [render("probe", 0, index, 1.0) for index in range(192)]


def same(one, other):
    return np.array_equal(one.pixels, other.pixels) and one.contexts == other.contexts


def test_pixels(scenes):
    for scene in scenes[:32]:
        assert scene.pixels.shape == (HEIGHT, WIDTH, 3) == (96, 128, 3)
        assert scene.pixels.dtype == np.uint8
        assert scene.pixels.std() > 10


def test_same_arguments_same_scene(scenes):
    again = [render("probe", 0, index) for index in reversed(range(40))][::-1]
    assert all(same(one, other) for one, other in zip(scenes, again, strict=False))


def test_same_pixels_in_another_process():
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS]
    drawn = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    here = [render("train", 0, 5).pixels, render("probe", 3, 70, 1.0).pixels]
    assert drawn == b"".join(pixels.tobytes() for pixels in here)


def test_splits_worlds_and_scenes_are_disjoint():
    drawn = [
        render(split, seed, index).pixels.tobytes()
        for split in SPLITS
        for seed in (0, 1)
        for index in range(32)
    ]
    assert len(set(drawn)) == len(drawn)


def test_classes_are_balanced(scenes):
    assert [scene.kind for scene in scenes] == [i % len(CLASSES) for i in range(COUNT)]


def test_attributes_are_uniform(scenes):
    for values, count in (
        ([s.colour for s in scenes], len(COLOURS)),
        ([s.background for s in scenes], len(BACKGROUNDS)),
        ([thing for s in scenes for thing, _ in s.contexts], len(CONTEXTS)),
        ([s.pattern - 1 for s in scenes if s.pattern], len(PATTERNS) - 1),
        ([len(s.contexts) - 1 for s in scenes], 3),
    ):
        assert stats.chisquare(np.bincount(values, minlength=count)).pvalue > 1e-3
    assert np.mean([s.pattern == 0 for s in scenes]) == pytest.approx(0.8, abs=0.05)


def without(monkeypatch, number, *arguments):
    """The scene as it would be without the `number`-th thing drawn, all else the same."""
    drawn = []
    paste = world._paste

    def leave_out(canvas, *rest):
        drawn.append(1)
        return paste(canvas.copy() if len(drawn) - 1 == number else canvas, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(world, "_paste", leave_out)
        return render(*arguments)


@pytest.mark.parametrize("index", range(0, 64, 3))
def test_boxes_are_where_the_pixels_say(index, monkeypatch):
    scene = render("probe", 7, index)
    boxes = [box for _, box in scene.contexts] + [scene.box]
    for number, (left, top, right, bottom) in enumerate(boxes):
        bare = without(monkeypatch, number, "probe", 7, index)
        rows, columns = np.nonzero((scene.pixels != bare.pixels).any(axis=2))
        if number < len(boxes) - 1 and not rows.size:
            continue  # a context thing that the others hide
        assert rows.min() >= top
        assert rows.max() < bottom
        assert columns.min() >= left
        assert columns.max() < right
        if number == len(boxes) - 1:
            # The outermost row of a smoothed edge may be too faint to change a byte.
            assert rows.min() <= top + 2
            assert rows.max() >= bottom - 3
            assert columns.min() <= left + 2
            assert columns.max() >= right - 3


def test_the_object_is_drawn_last_and_bright(scenes):
    """Of its painted pixels most have its colour: nothing lies upon it."""
    for scene in [s for s in scenes if s.pattern == 0][:64]:
        left, top, right, bottom = map(int, scene.box)
        paint = np.array(list(COLOURS.values())[scene.colour], np.float32)
        inside = scene.pixels[top:bottom, left:right].astype(np.float32)
        shaded = paint * (1 - 0.15 * np.linspace(0, 1, bottom - top))[:, None, None]
        near = np.abs(inside - shaded).max(axis=2) < 14 + 5 * 4  # jitter and noise
        assert near.mean() > 0.08  # the share that the thinnest shape covers


def test_object_size(scenes):
    wide, high = (
        np.array([(s.box[2] - s.box[0], s.box[3] - s.box[1]) for s in scenes], float).T / HEIGHT
    )
    longest = np.maximum(wide, high)
    # 30 to 60 % of the height, then stretched by up to a tenth and turned by up to 12 degrees.
    assert longest.min() > 0.3 * 0.9
    assert longest.max() < 0.6 * 1.1 * (np.cos(np.radians(12)) + np.sin(np.radians(12)))
    assert np.mean((longest > 0.3) & (longest < 0.6)) > 0.85
    assert np.mean(longest > 0.45) == pytest.approx(0.5, abs=0.1)


def test_position_is_uniform(scenes):
    boxes = np.array([s.box for s in scenes])
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2] <= WIDTH).all()
    assert (boxes[:, 3] <= HEIGHT).all()
    free_x = boxes[:, 0] / (WIDTH - (boxes[:, 2] - boxes[:, 0]))
    free_y = boxes[:, 1] / (HEIGHT - (boxes[:, 3] - boxes[:, 1]))
    for free in (free_x, free_y):
        assert stats.kstest(free, "uniform").pvalue > 1e-3
    assert stats.pearsonr(free_x, free_y).pvalue > 1e-3


def first_context(scene):
    return scene.contexts[0][0]


def test_no_tie_between_class_and_context(scenes):
    for attribute in (lambda s: s.background, first_context, lambda s: s.colour):
        table = np.zeros((8, 8))
        for scene in scenes:
            table[scene.kind % 8, attribute(scene)] += 1
        assert stats.chi2_contingency(table).pvalue > 1e-3
        assert np.trace(table) / COUNT == pytest.approx(1 / 8, abs=0.05)


def test_full_correlation(correlated):
    for scene in correlated:
        assert scene.background == scene.kind % len(BACKGROUNDS)
        assert first_context(scene) == scene.kind % len(CONTEXTS)
    # Colour and the other things stay free.
    assert len(Counter(s.colour for s in correlated if s.kind == 0)) > 2
    assert len(Counter(t for s in correlated if s.kind == 0 for t, _ in s.contexts[1:])) > 2


def test_half_correlation():
    scenes = [render("train", 0, index, 0.5) for index in range(320)]
    own = np.mean([s.background == s.kind % 8 for s in scenes])
    assert own == pytest.approx(0.5 + 0.5 / 8, abs=0.1)


def test_errors():
    with pytest.raises(
        InputError, match=r"^Unknown split 'test' of the scenes: expected one of \('train', 'val"
    ):
        render("test", 0, 0)
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(InputError, match=rf"correlation is {wrong}: expected a value in \[0"):
            render("probe", 0, 0, wrong)
