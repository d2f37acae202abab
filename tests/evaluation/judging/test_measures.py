"""The judges against NeuronEval's definitions, and their sanity tests."""

import numpy as np
import pytest

from jaxdesc.evaluation.judging.measures import JUDGES, columns, kept_alphas, measured, sanity
from tests.reference import judges as reference

IMAGES = 400


def arrays(seed):
    """A unit that is zero on many images, and presences: chances, truths, ties, constants."""
    rng = np.random.default_rng(seed)
    activations = np.maximum(rng.normal(size=IMAGES), 0).round(2).astype(np.float32)
    presence = rng.random((8, IMAGES)).astype(np.float32) ** 2
    presence[0] = activations > 1
    presence[1] = rng.random(IMAGES) < 0.2
    presence[2] = 0.3
    presence[3] = 0
    presence[4] = presence[4].round(1)
    return activations, presence


@pytest.mark.parametrize("seed", range(3))
def test_measures_equal_the_definitions(seed):
    activations, presence = arrays(seed)
    found, values = measured(activations, presence), activations.astype(float).tolist()
    assert len(found) == 2 + 3 * len(kept_alphas(IMAGES)) == 5
    for name, judge, alpha in columns(IMAGES):
        define = getattr(reference, name.partition("@")[0])
        more = (alpha,) if judge.by_alpha else ()
        expected = [define(values, row.astype(float).tolist(), *more) for row in presence]
        np.testing.assert_allclose(found[name], expected, atol=1e-9, err_msg=name)


def test_ties_at_the_threshold_are_all_active():
    activations = np.zeros(IMAGES, np.float32)
    activations[:5] = 1  # fewer than the top 5 %: all others are tied, at 0
    found = measured(activations, (activations > 0)[None].astype(np.float32))
    assert found["iou@0.05"] == 5 / IMAGES


def test_what_cannot_be_judged_is_unknown():
    activations, presence = arrays(0)
    presence[5] = np.nan
    found = measured(activations, presence, np.arange(8) == 6)
    assert all(np.isnan(scores[5]) for scores in found.values())
    for name, scores in found.items():
        assert np.isnan(scores[6]) == name.startswith(("f1", "iou"))
    assert all(np.isnan(s).all() for s in measured(np.ones(IMAGES), presence).values())


def test_few_images_leave_measures_without_alpha():
    activations, presence = arrays(1)
    found = measured(activations[:100], presence[:, :100])
    assert list(found) == ["correlation", "cosine"]
    assert kept_alphas(50_000) == (0.002, 0.005, 0.01, 0.02, 0.05)


def known(units=30, images=4000):
    """Units that fire on their concept, and the truth."""
    rng = np.random.default_rng(0)
    present = rng.random((images, units)) < 0.05
    return np.maximum(present + 0.2 * rng.normal(size=present.shape), 0), present


def test_all_measures_pass_the_sanity_tests():
    found = sanity(*known())
    assert set(found) == {name for name, *_ in columns(4000)}
    # If far fewer images count as active than show the concept, F1 and IoU take what is dropped for
    # fewer misses; NeuronEval chooses the best α for each measure too.
    assert found["f1@0.005"].missing_fell < 0.9
    for name, test in found.items():
        if "@" in name and not name.endswith("@0.05"):
            continue
        assert test.missing_fell >= 0.9, name
        assert test.extra_fell >= 0.9, name
        assert test.missing > 0.001 < test.extra


def test_a_measure_that_ignores_extra_labels_fails(monkeypatch):
    def share(activation, presence, alpha):
        top = activation.top(alpha)
        return (presence[:, top] >= 0.5).mean(axis=1)

    monkeypatch.setitem(JUDGES, "share", JUDGES["iou"]._replace(measure=share))
    found = sanity(*known())["share@0.01"]
    assert found.missing_fell > 0.9
    assert found.extra_fell < 0.5
