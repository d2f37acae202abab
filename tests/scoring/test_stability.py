"""The bootstrap over exemplars against loops."""

import numpy as np
import pytest

from jaxdesc.benchmark.features import concepts, made_up
from jaxdesc.exemplars import Slots
from jaxdesc.scoring import discover
from jaxdesc.scoring import stability as module
from jaxdesc.scoring.stability import draws, stability
from tests.reference import stability as reference
from tests.scoring.features import problem, unit


@pytest.mark.parametrize("kappa", [0.0, 16.0])
@pytest.mark.parametrize("seed", range(2))
def test_it_equals_the_definition(kappa, seed):
    arrays = problem(seed, images=20, neurons=6, n=5, concepts=19)
    if seed == 1:  # all cosines negative: padding would be nearer than any concept
        views, rows, texts, base = arrays
        arrays = views, rows, -texts, -base
    views, rows, *texts = arrays
    own = np.array([5, 5, 3, 1, 5, 4], np.int32)
    arrays = views, Slots(rows, own), *texts
    selection = discover(*arrays, kappa, 0.8)
    counts = [times[:, :count] for times, count in zip(draws(own, 5, 13, seed), own, strict=True)]
    kept = [row[:count] for row, count in zip(rows, own, strict=True)]
    expected = reference.stability(views, kept, *texts, kappa, 0.8, counts)
    for block in (4, 19, 50):
        found = stability(*arrays, kappa, 0.8, selection, resamples=13, seed=seed, block=block)
        np.testing.assert_allclose(found.top, [top for top, _ in expected], atol=1e-12)
        starts = np.cumsum(selection.counts) - selection.counts
        for neuron, (_, shares) in enumerate(expected):
            own = [concept for concept, _ in selection.of(neuron)]
            values = found.selected[starts[neuron] :][: len(own)]
            assert dict(zip(own, values, strict=True)) == pytest.approx(shares, abs=1e-12)
    assert (found.selected < 1).any()


def test_features_that_were_rounded_are_scaled_as_they_are_for_the_selection():
    views, rows, texts, base = problem(4)
    rounded = texts * np.linspace(0.993, 1.007, len(texts), dtype=np.float32)[:, None]
    selection = discover(views, rows, texts, base, 16.0, 0.9)
    expected = stability(views, rows, texts, base, 16.0, 0.9, selection)
    found = stability(views, rows, rounded, base, 16.0, 0.9, selection)
    np.testing.assert_array_equal(found.top, expected.top)
    np.testing.assert_array_equal(found.selected, expected.selected)


def test_draws_are_multinomial_and_a_neurons_own():
    found = draws(np.array([7, 7, 7, 4, 0]), 7, 4000, seed=1)
    assert [set(own) for own in found.sum(axis=2).tolist()] == [{7}, {7}, {7}, {4}, {0}]
    whole = found[:3]
    np.testing.assert_allclose(whole.mean(axis=1), 1, atol=4 * np.sqrt(6 / 7 / 4000))
    np.testing.assert_allclose(whole.var(axis=1), 6 / 7, atol=0.1)
    assert not found[3, :, 4:].any()
    np.testing.assert_array_equal(draws(np.array([7, 4]), 7, 4000, seed=1, first=2), found[2:4])
    assert not np.array_equal(found[0], found[1])


def test_a_few_neurons_at_a_time_change_nothing(monkeypatch):
    views, rows, texts, base = problem(5, neurons=7)
    slots = Slots(rows, np.array([6, 0, 3, 6, 6, 1, 5], np.int32))
    selection = discover(views, slots, texts, base, 16.0, 0.8)
    whole = stability(views, slots, texts, base, 16.0, 0.8, selection)
    monkeypatch.setattr(module, "_NEURONS", 3)
    found = stability(views, slots, texts, base, 16.0, 0.8, selection)
    np.testing.assert_array_equal(found.top, whole.top)
    np.testing.assert_array_equal(found.selected, whole.selected)


def test_a_neuron_without_a_concept_has_no_share():
    views = unit(np.eye(4)[[0, 1, 2]] + 0.1)
    texts = unit(np.eye(4)[[0, 3]] + 0.1)
    base = unit(np.array([0.1, 1.0, 1.0, 0.1]))
    rows = np.array([[0, 0], [1, 2]])
    selection = discover(views, rows, texts, base, 1.0, 0.95)
    assert selection.counts.tolist() == [1, 0]
    found = stability(views, rows, texts, base, 1.0, 0.95, selection)
    assert found.top[0] == 1
    assert np.isnan(found.top[1])
    none = selection.without(np.array([True, True]))
    found = stability(views, rows, texts, base, 1.0, 0.95, none)
    assert found.selected.shape == (0,)
    assert np.isnan(found.top).all()


def test_errors():
    arrays = problem(0)
    selection = discover(*arrays, 0.0, 0.9)
    with pytest.raises(ValueError, match="resamples is 0, but exemplars must be drawn"):
        stability(*arrays, 0.0, 0.9, selection, resamples=0)
    fewer = arrays[0], arrays[1][:3], *arrays[2:]
    with pytest.raises(ValueError, match="the selection is of 5 neurons, but exemplars are of 3"):
        stability(*fewer, 0.0, 0.9, selection)
    with pytest.raises(ValueError, match="kappa is -1"):
        stability(*arrays, -1.0, 0.9, selection)


@pytest.mark.parametrize("part", [7, 1 << 17])
def test_the_nearest_and_the_selected_concepts_alone_are_resampled(part, monkeypatch):
    """The oracle takes these concepts of each neuron as the whole vocabulary."""
    monkeypatch.setattr("jaxdesc.scoring.problem.PART", part)
    views, rows, texts, base = problem(3, images=20, neurons=6, n=5, concepts=19)
    selection = discover(views, rows, texts, base, 4.0, 0.8)
    counts = draws(np.full(6, 5), 5, 13, 0)
    starts = np.cumsum(selection.counts) - selection.counts
    for block in (4, 19):
        asked = 4.0, 0.8, selection, 13, 0, block
        found = stability(views, rows, texts, base, *asked, nearest=5)
        for neuron in range(6):
            chosen = [concept for concept, _ in selection.of(neuron)]
            cosines = texts @ views[rows[neuron]].mean(axis=0)
            kept = [*{*chosen, *np.argsort(-cosines)[:5].tolist()}]
            alone = views, rows[neuron : neuron + 1], texts[kept], base
            ((top, shares),) = reference.stability(*alone, 4.0, 0.8, counts[neuron : neuron + 1])
            assert found.top[neuron] == pytest.approx(top, nan_ok=True)
            for rank, concept in enumerate(chosen):
                share = found.selected[starts[neuron] + rank]
                assert share == pytest.approx(shares[kept.index(concept)])


def test_on_realistic_features_the_nearest_concepts_are_enough():
    arrays = made_up("mixed", *concepts(1500, 128), neurons=24, exemplars=20, images=300)
    selection = discover(*arrays, 16.0, 0.95)
    found = stability(*arrays, 16.0, 0.95, selection, nearest=64)
    exact = stability(*arrays, 16.0, 0.95, selection, nearest=1500)
    np.testing.assert_allclose(found.selected, exact.selected, atol=0.02)
    assert (exact.selected < 1).any()
