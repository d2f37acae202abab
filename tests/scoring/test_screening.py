"""Screening: the full engine's selection, bit for bit, and bounds that hold for every pair."""

import itertools

import numpy as np
import pytest
from jaxdesc.scoring.candidates import candidates

from jaxdesc.scoring import closer, discover, screening
from jaxdesc.scoring.problem import Conditions, checked
from tests.reference import scoring as reference
from tests.scoring.features import EVERY_KAPPA, MAKERS, classes, cone, listed, partly, same

BLOCK = 128


@pytest.mark.parametrize("kappa", EVERY_KAPPA)
@pytest.mark.parametrize("kind", MAKERS)
def test_screening_selects_what_the_full_engine_selects(kind, kappa):
    for seed in range(2):
        arrays = MAKERS[kind](seed)
        if seed:
            views, rows, *texts = arrays
            arrays = views, partly(rows), *texts
        for alpha in (0.3, 0.95):
            expected = discover(*arrays, kappa, alpha, block=BLOCK, engine="full")
            same(discover(*arrays, kappa, alpha, block=BLOCK, engine="screened"), expected)


@pytest.mark.parametrize("kappa", EVERY_KAPPA)
@pytest.mark.parametrize("kind", MAKERS)
def test_a_closer_look_changes_nothing(kind, kappa, monkeypatch):
    looks, one_by_one = [], screening.Screened.one_by_one
    monkeypatch.setattr(screening, "closer_pays", lambda *_: True)
    monkeypatch.setattr(
        screening.Screened, "one_by_one", lambda *a: looks.append(1) or one_by_one(*a)
    )
    for seed in range(2):
        views, rows, *texts = MAKERS[kind](seed)
        arrays = views, partly(rows) if seed else rows, *texts
        for alpha in (0.3, 0.95):
            expected = discover(*arrays, kappa, alpha, block=BLOCK, engine="full")
            same(discover(*arrays, kappa, alpha, block=BLOCK, engine="screened"), expected)
    assert len(looks) == 4


@pytest.mark.parametrize("part", [100, 1 << 17])
@pytest.mark.parametrize("kind", MAKERS)
def test_a_closer_look_bounds_the_variance_of_every_pair(kind, part, monkeypatch):
    monkeypatch.setattr(closer, "PART", part)
    views, rows, texts, base = MAKERS[kind](0)
    fewer = max(1, rows.shape[1] // 2)
    counts = tuple(sorted({fewer, rows.shape[1]}))
    _, engine = engine_for((views, rows, texts, base), 16.0, counts)
    neurons, concepts = np.indices((len(rows), len(texts)), np.int32).reshape(2, -1)
    order = np.random.default_rng(0).permutation(neurons.size)
    for place, count in enumerate(counts):
        own = listed(partly(rows[:, :count], count))
        cosines = [double(views)[few] @ double(texts).T for few in own]
        expected = np.stack([few.var(axis=0) for few in cosines]).ravel()[order]
        found = engine.single.variances(count, engine.grams[place], neurons[order], concepts[order])
        assert (found >= expected).all()
        widest = engine.extent.variance[place].max(axis=1)[neurons[order]]
        if count > 1 and kind in ("classes", "cone"):
            assert np.median(found / widest) < 0.9


def test_directions_are_orthonormal_or_nothing():
    rng = np.random.default_rng(0)
    for texts in (classes(0)[2], np.repeat(classes(0)[2][:5], 20, axis=0), rng.normal(size=(9, 3))):
        found = closer.directions(texts.astype(np.float32)).astype(np.float64)
        gram = found.T @ found
        np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-6)
        assert set(np.diag(gram).round(6)) <= {0.0, 1.0}
        assert np.diag(gram).sum().round(6) >= min(5, found.shape[1])


def engine_for(arrays, kappa, counts=(), alpha=0.95):
    """The engine for the first exemplars of each neuron; of every second one, some are missing."""
    views, rows, *texts = arrays
    slots = {count: partly(rows[:, :count], count) for count in counts or (rows.shape[1],)}
    problem = checked(views, slots, *texts)
    conditions = Conditions(np.float32([kappa]), alpha, tuple(slots))
    return problem, screening.Screened(problem, conditions, BLOCK)


def double(features):
    """Features in float64, of unit length to its last digits."""
    features = np.asarray(features, np.float64)
    return features / np.linalg.norm(features, axis=-1, keepdims=True)


@pytest.mark.parametrize("kappa", EVERY_KAPPA)
@pytest.mark.parametrize("kind", MAKERS)
def test_bounds_hold_for_every_pair(kind, kappa):
    views, rows, texts, base = MAKERS[kind](0)
    fewer = max(1, rows.shape[1] // 2)
    counts = tuple(sorted({fewer, rows.shape[1]}))
    _, engine = engine_for((views, rows, texts, base), kappa, counts)
    views, texts, base = double(views), double(texts), double(base)
    groups = np.searchsorted(engine.edges, texts @ engine.direction.astype(np.float64), "right")
    for place, count in enumerate(counts):
        means = np.asarray(engine.means[place], np.float64) @ texts.T
        own = listed(partly(rows[:, :count], count))
        exact = reference.scores(views, own, texts, base, kappa)
        for concept, expected in enumerate(exact.T):
            cosine = np.stack([means[:, concept]] * len(counts))
            assert (engine.lower(cosine)[0, place] <= expected).all()
            every = np.broadcast_to(cosine[None, ..., None], (1, *engine.floor.shape))
            assert (
                engine.upper(every, engine.extent)[0, place, :, groups[concept]] >= expected
            ).all()


def test_bounds_rise_with_the_mean_cosine():
    for kind, kappa in itertools.product(MAKERS, EVERY_KAPPA):
        _, engine = engine_for(MAKERS[kind](0), kappa)
        shape = engine.floor.shape
        cosines = np.linspace(-1, 1, 201)
        lower = np.stack([engine.lower(np.full(shape[:2], c)) for c in cosines])
        upper = np.stack([engine.upper(np.full((1, *shape), c), engine.extent) for c in cosines])
        for values in (lower, upper):
            assert (np.diff(values, axis=0) >= -1e-12).all()


def test_any_direction_gives_the_same_selection(monkeypatch):
    rng = np.random.default_rng(0)
    arrays = classes(0)
    expected = discover(*arrays, 16, 0.9, block=BLOCK, engine="full")
    for direction in (rng.normal(size=48), -arrays[2].mean(axis=0), np.eye(48)[0]):
        unit = (direction / np.linalg.norm(direction)).astype(np.float32)
        monkeypatch.setattr(screening, "_direction", lambda texts, unit=unit: unit)
        same(discover(*arrays, 16, 0.9, block=BLOCK, engine="screened"), expected)


def test_concepts_without_a_mean_have_a_direction_too():
    views, rows, texts, base = classes(0)
    texts = np.concatenate([texts, -texts])
    expected = discover(views, rows, texts, base, 16, 0.9, block=BLOCK, engine="full")
    same(discover(views, rows, texts, base, 16, 0.9, block=BLOCK, engine="screened"), expected)


def left(arrays, kappa):
    """Share of the pairs that screening leaves."""
    problem, engine = engine_for(arrays, kappa)
    pairs = candidates(problem, engine, 512).of_count(arrays[1].shape[1])
    return len(pairs.neurons) / len(arrays[1]) / len(arrays[2])


def test_screening_leaves_few_where_exemplars_are_alike():
    arrays = classes(0, concepts=4000, width=256, neurons=30, n=10, spread=0.2)
    for kappa, share in ((0.0, 0.001), (4.0, 0.01), (16.0, 0.05)):
        assert left(arrays, kappa) < share


def test_it_leaves_fewer_where_concepts_lie_in_a_cone(monkeypatch):
    arrays = cone(0)
    with_it = left(arrays, 16.0)
    monkeypatch.setattr(screening, "_SHARES", ())  # one group, as wide as all concepts
    assert with_it < 0.7 * left(arrays, 16.0)
