"""Linear explanations: the elastic net against a loop, the search, and what they leave out."""

import numpy as np
import pytest

from jaxdesc.evaluation import linear
from jaxdesc.evaluation.judging.presence import Sigmoid
from jaxdesc.evaluation.probe import Probe
from jaxdesc.exemplars import Slots
from tests.reference import judges as reference

IMAGES, CONCEPTS, WIDTH = 500, 60, 16
SIGMOID = Sigmoid(12.0, -0.3)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def made(terms, noise=0.05, seed=0):
    """A probe whose units are weighted sums of presences: (concept, weight) of each."""
    rng = np.random.default_rng(seed)
    images, concepts = (
        unit(rng.normal(size=(IMAGES, WIDTH))),
        unit(rng.normal(size=(CONCEPTS, WIDTH))),
    )
    presence = SIGMOID(images @ concepts.T)
    columns = [sum(weight * presence[:, concept] for concept, weight in of) for of in terms]
    activations = np.stack(columns, axis=1) + noise * rng.normal(size=(IMAGES, len(terms)))
    slots = Slots.full(np.zeros((len(terms), 1), np.int32))
    return Probe(
        activations.astype(np.float32), images, concepts, concepts[0], slots, sigmoid=SIGMOID
    )


TERMS = [[(3, 2.0), (11, 1.0)], [(20, 1.0)], [(5, 1.5), (6, 1.2), (7, 1.0)], [(9, -1.0)]]


@pytest.mark.parametrize("block", [7, 512])
def test_the_net_equals_a_loop_over_all_concepts(monkeypatch, block):
    # So few that concepts which violate their condition have to come in later.
    monkeypatch.setattr(linear, "WORKING", 24)
    probe = made(TERMS, noise=0.3)
    train = np.arange(0, IMAGES, 2)
    found = linear._ordered(probe, train, block)
    presence = SIGMOID(probe.images[train] @ probe.concepts.T).astype(float)
    presence = (presence - presence.mean(axis=0)) / presence.std(axis=0)
    for column, concepts in enumerate(found):
        target = probe.activations[train, column].astype(float)
        target = (target - target.mean()) / target.std()
        arrays = presence.tolist(), target.tolist()
        weights = np.array(reference.elastic_net(*arrays, linear.PENALTY, linear.MIXING, 60))
        order = np.argsort(-weights)
        assert concepts.tolist() == order[weights[order] > 1e-5].tolist()


def test_sums_are_found_with_their_weights():
    probe = made(TERMS)
    found = linear.explain(probe, 64)
    assert len(found) == len(TERMS)
    for of, concepts, weights in zip(TERMS[:3], found.concepts, found.weights, strict=False):
        assert concepts.tolist() == [concept for concept, _ in of]
        np.testing.assert_allclose(weights, [weight for _, weight in of], rtol=0.15)
        assert found[0].tolist() == found.concepts[0].tolist()
    assert found.held_out[:3].min() > 0.95
    # What inhibits a unit is found too, if nothing else excites it.
    assert found[3].tolist() == [9]
    assert found.weights[3] == pytest.approx(-1, rel=0.15)


def test_concepts_that_add_little_are_left_out():
    probe = made([[(3, 2.0), (11, 0.2)]], noise=0.0)
    (pool,) = linear._ordered(probe, linear._split(IMAGES).train, 64)
    assert {3, 11} <= set(pool.tolist())  # the net has both
    found = linear.explain(probe, 64)
    assert found[0].tolist() == [3]
    assert 0.97 < found.held_out[0] < 1


def test_a_constant_unit_has_no_explanation():
    probe = made(TERMS)
    activations = probe.activations.copy()
    activations[:, 1] = 2.0
    found = linear.explain(probe._replace(activations=activations), 64)
    assert len(found[1]) == 0
    assert np.isnan(found.held_out[1])
    assert len(found[0]) == 2


def test_concepts_that_hardly_vary_are_left_out():
    probe = made(TERMS)
    never = Sigmoid(12.0, -1.2)  # presences near 0
    found = linear.explain(probe._replace(sigmoid=never), 64)
    assert [len(concepts) for concepts in found.concepts] == [0, 0, 0, 0]


def test_images_are_shared_out():
    parts = linear._split(1000)
    assert [len(part) for part in parts] == [700, 100, 200]
    assert sorted(np.concatenate(parts).tolist()) == list(range(1000))
