import subprocess
import sys

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


def test_same_arguments_same_scene_in_any_order_and_process(scenes):
    for index in reversed(range(40)):
        again, scene = render("probe", 0, index), scenes[index]
        assert scene.pixels.shape == (HEIGHT, WIDTH, 3) == (96, 128, 3)
        np.testing.assert_array_equal(again.pixels, scene.pixels)
        assert again.contexts == scene.contexts
    there = subprocess.check_output([sys.executable, "-c", IN_ANOTHER_PROCESS], timeout=60)
    here = [render("train", 0, 5).pixels, render("probe", 3, 70, 1.0).pixels]
    assert there == b"".join(pixels.tobytes() for pixels in here)


def test_splits_worlds_and_scenes_are_disjoint():
    drawn = [
        render(split, seed, index).pixels.tobytes()
        for split in SPLITS
        for seed in (0, 1)
        for index in range(32)
    ]
    assert len(set(drawn)) == len(drawn)


def test_classes_are_balanced_and_attributes_uniform(scenes):
    assert [scene.kind for scene in scenes] == [i % len(CLASSES) for i in range(COUNT)]
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
    drawn, paste = [], world._paste

    def leave_out(canvas, *rest):
        drawn.append(1)
        return paste(canvas.copy() if len(drawn) - 1 == number else canvas, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(world, "_paste", leave_out)
        return render(*arguments)


@pytest.mark.parametrize("index", range(0, 64, 5))
def test_boxes_are_where_the_pixels_say(index, monkeypatch):
    scene = render("probe", 7, index)
    boxes = [box for _, box in scene.contexts] + [scene.box]
    for number, (left, top, right, bottom) in enumerate(boxes):
        bare = without(monkeypatch, number, "probe", 7, index)
        rows, columns = np.nonzero((scene.pixels != bare.pixels).any(axis=2))
        is_object = number == len(boxes) - 1
        if not is_object and not rows.size:
            continue  # a context thing that the others hide
        margins = (rows.min() - top, columns.min() - left)
        margins += (bottom - 1 - rows.max(), right - 1 - columns.max())
        assert min(margins) >= 0
        # The outermost row of a smoothed edge may be too faint to change a byte.
        assert not is_object or max(margins) <= 2


def test_size_and_position_of_the_object(scenes):
    boxes = np.array([s.box for s in scenes])
    low, sides, extent = boxes[:, :2], boxes[:, 2:] - boxes[:, :2], (WIDTH, HEIGHT)
    longest = sides.max(axis=1) / HEIGHT
    # 30 to 60 % of the height, then stretched by up to a tenth and turned by up to 12 degrees.
    assert longest.min() > 0.3 * 0.9
    assert longest.max() < 0.6 * 1.1 * (np.cos(np.radians(12)) + np.sin(np.radians(12)))
    assert np.mean((longest > 0.3) & (longest < 0.6)) > 0.85
    assert np.mean(longest > 0.45) == pytest.approx(0.5, abs=0.1)
    assert (low >= 0).all()
    assert (boxes[:, 2:] <= extent).all()
    free = low / (extent - sides)
    assert (stats.kstest(free, "uniform", axis=0).pvalue > 1e-3).all()
    assert stats.pearsonr(*free.T).pvalue > 1e-3


def test_class_and_context_are_tied_by_the_correlation_alone(scenes):
    of_attribute = (lambda s: s.background, lambda s: s.contexts[0][0], lambda s: s.colour)
    tables = np.zeros((3, 8, 8))
    for scene in scenes:
        for table, attribute in zip(tables, of_attribute, strict=True):
            table[scene.kind % 8, attribute(scene)] += 1
    for table in tables:
        assert stats.chi2_contingency(table).pvalue > 1e-3
        assert np.trace(table) / COUNT == pytest.approx(1 / 8, abs=0.05)

    tied = [render("probe", 0, index, 1.0) for index in range(192)]
    for scene in tied:
        assert scene.background == scene.contexts[0][0] == scene.kind % 8
    # Colour and the other things stay free.
    assert len({s.colour for s in tied if s.kind == 0}) > 2
    assert len({thing for s in tied if s.kind == 0 for thing, _ in s.contexts[1:]}) > 2
    half = [render("train", 0, index, 0.5) for index in range(320)]
    share = np.mean([s.background == s.kind % 8 for s in half])
    assert share == pytest.approx(0.5 + 0.5 / 8, abs=0.1)


def test_errors():
    with pytest.raises(InputError, match=r"^Unknown split 'test' of the scenes: expected one of"):
        render("test", 0, 0)
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(InputError, match=rf"correlation is {wrong}: expected a value in \[0"):
            render("probe", 0, 0, wrong)
