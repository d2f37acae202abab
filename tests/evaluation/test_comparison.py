"""Every method on planted truth: what they are right about, and what misleads them."""

from dataclasses import replace

import numpy as np
import pytest

from jaxdesc import scoring
from jaxdesc.evaluation.accuracy import NONE
from jaxdesc.evaluation.comparison import compare
from jaxdesc.evaluation.methods import FEWEST, METHODS, discovered
from jaxdesc.evaluation.planted import Recipe, plant
from jaxdesc.evaluation.statistics import mcnemar, paired
from jaxdesc.exemplars import Slots
from tests.reference import scoring as reference

EASY = Recipe(
    images=2400,
    neurons=24,
    exemplars=16,
    shown=60,
    synonyms=0,
    hubs=0,
    distractors=40,
    cone=0.5,
    noise=0.5,
    activation_noise=0.05,
    impurity=0.0,
    polysemantic=0.0,
)


def tops(recipe, names=METHODS, seed=0):
    planted = plant(recipe, seed)
    chosen = {name: METHODS[name] for name in names}
    found = compare(planted.probe, planted.truth, chosen, next(iter(chosen)))
    return {name: line.bounds["top"].mean for name, line in found.items()}


def test_every_method_is_right_where_nothing_misleads():
    found = tops(EASY)
    # It compares neurons with each other: where one has no rival for some concepts, all of these
    # have the same score, log(neurons), up to rounding.
    assert 0.6 < found.pop("soft_wpmi") < 0.95
    assert {name for name, share in found.items() if share < 0.95} == set()


def test_no_method_is_right_where_activations_say_nothing():
    planted = plant(EASY)
    shuffled = np.random.default_rng(0).permuted(planted.probe.activations, axis=0)
    rows = np.argsort(-shuffled, axis=0)[:16].T.astype(np.int32)
    probe = planted.probe._replace(activations=shuffled, exemplars=Slots.full(rows))
    found = compare(probe, planted.truth)
    assert max(line.bounds["top"].mean for line in found.values()) < 0.15


def test_what_misleads():
    """Strange exemplars mislead the cosine more than t-vMF; hubs and noise mislead it too."""
    names = ("WWW", "t-vMF")
    easy = tops(EASY, names)
    mixed = tops(replace(EASY, impurity=0.6, cone=1.0, noise=1.5), names)
    assert mixed["WWW"] + 0.1 < mixed["t-vMF"] < easy["t-vMF"]
    hubs = tops(replace(EASY, hubs=10, hub_pull=3.0, cone=2.5), names)
    assert hubs["WWW"] < easy["WWW"] - 0.5


def test_the_table_is_what_its_parts_say():
    planted = plant(replace(EASY, impurity=0.5, noise=2.0, polysemantic=0.5))
    found = compare(planted.probe, planted.truth, confidence=0.9)
    assert list(found) == list(METHODS)
    other = found["t-vMF"].accuracy
    for line in found.values():
        assert line.bounds == line.accuracy.bounds(0.9)
        assert line.test == mcnemar(line.accuracy.top, other.top)
        assert line.differences["f1"] == paired(line.accuracy.f1, other.f1, 0.9)
        assert line.differences["top"].mean == pytest.approx(
            line.bounds["top"].mean - found["t-vMF"].bounds["top"].mean
        )
    assert set(found["t-vMF"].differences["jaccard"]) == {0.0}


@pytest.mark.parametrize("kappa", [0.0, 16.0])
def test_discovered_is_the_definition(kappa):
    probe = plant(replace(EASY, images=200, neurons=6, exemplars=5)).probe
    found = discovered(probe, kappa, alpha=0.8)
    rows = probe.exemplars.rows
    scores = reference.scores(probe.images, rows, probe.concepts, probe.base, kappa)
    selected = reference.select(scores, 0.8)
    assert [own.tolist() for own in found.selected] == [[c for c, _ in own] for own in selected]
    np.testing.assert_array_equal(found.concepts, scores.argmax(axis=1))
    np.testing.assert_allclose(found.scores, scores.max(axis=1), rtol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_a_dead_neuron_has_no_concept(name):
    probe = plant(EASY).probe
    activations = probe.activations.copy()
    activations[:, [0, 5]] = [[0.0, 0.25]]
    found = METHODS[name](probe._replace(activations=activations))
    assert np.flatnonzero(found.concepts == NONE).tolist() == [0, 5]
    assert np.isneginf(found.scores[[0, 5]]).all()
    assert [len(own) > 0 for own in found.selected] == [i not in (0, 5) for i in range(24)]


@pytest.mark.parametrize(("name", "fewest"), FEWEST.items())
def test_the_fewest_images_of_a_method_are_enough_and_no_fewer(name, fewest):
    probe = plant(EASY).probe

    def found(count):
        few = {"activations": probe.activations[:count], "images": probe.images[:count]}
        return METHODS[name](probe._replace(**few))

    assert len(found(fewest).concepts) == probe.activations.shape[1]
    with pytest.raises(ValueError, match="more"):
        found(fewest - 1)


def test_no_positive_score_is_no_concept(monkeypatch):
    probe = plant(EASY).probe
    found = METHODS["WWW"](probe._replace(concepts=-probe.concepts))
    kept = scoring.discover(probe.images, probe.exemplars, -probe.concepts, probe.base, 0.0, 0.95)
    np.testing.assert_array_equal(found.concepts == NONE, kept.maximum <= 0)
    assert (found.concepts == NONE).any()


def test_unknown_method():
    planted = plant(EASY)
    with pytest.raises(ValueError, match=r"compared with 'no', which isn't one of them: .* INVERT"):
        compare(planted.probe, planted.truth, against="no")
