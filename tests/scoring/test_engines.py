"""Both engines select the same, bit for bit; their bounds hold for every pair."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdesc.scoring import block, discover, screening
from jaxdesc.scoring.problem import problem_of
from tests.reference import scoring as reference
from tests.scoring.features import (
    EVERY_KAPPA,
    MAKERS,
    classes,
    cone,
    listed,
    partly,
    problem,
    same,
    unit,
)

BLOCK = 128


@pytest.mark.parametrize("kappa", EVERY_KAPPA)
@pytest.mark.parametrize("kind", MAKERS)
def test_screening_selects_what_the_full_engine_selects(kind, kappa):
    views, rows, *texts = MAKERS[kind](0)
    for exemplars, alpha in ((rows, 0.3), (partly(rows), 0.95)):
        expected = discover(views, exemplars, *texts, kappa, alpha, block=BLOCK, engine="full")
        found = discover(views, exemplars, *texts, kappa, alpha, block=BLOCK, engine="screened")
        same(found, expected)


@pytest.mark.parametrize("kappa", [0.0, 1e-3, 16.0, 1e5])
def test_the_full_engine_allows_for_rounding(kappa, monkeypatch):
    """Its product may round otherwise than the pairs program: here by as much as float32 does."""
    arrays = problem(3, neurons=1, width=64)
    cosines = arrays[0][arrays[1][0]].astype(np.float64) @ arrays[2].T.astype(np.float64)
    moved = reference.t_vmf(cosines + 4e-7, kappa).mean(0) - reference.t_vmf(cosines, kappa).mean(0)
    largest = discover(*arrays, kappa, 0.5, engine="full").maximum[0]
    (_, first), (second, value), *_ = discover(*arrays, kappa, 0.01, engine="full").of(0)
    assert first == largest
    alpha = value / float(largest) * (1 - 1e-9)  # the second best one is selected by a hair
    expected = discover(*arrays, kappa, alpha, engine="full")
    assert second in expected.concepts
    compute = block.score_block

    def rounded(*given, **options):
        look = compute(*given, **options)
        reach = np.array(look.reach)
        reach[0, 0, second] -= np.float32(moved[second])
        return look._replace(reach=jnp.asarray(reach), largest=jnp.asarray(reach.max(axis=2)))

    monkeypatch.setattr(block, "score_block", rounded)
    same(discover(*arrays, kappa, alpha, engine="full"), expected)


def engine_for(arrays, kappa, counts=()):
    """The engine for the first exemplars of each neuron; of every second one, some are missing."""
    views, rows, *texts = arrays
    slots = {count: partly(rows[:, :count], count) for count in counts or (rows.shape[1],)}
    given = problem_of(views, slots, *texts, [kappa], [0.95])
    return given, screening.Screened(given)


def upper(engine, cosine):
    """Upper bound of the scores, by count, neuron and group."""
    base = engine.base[0][:, :, None]
    kappa = float(engine.problem.kappas[0])
    return engine.missing(cosine, engine.variance, engine.furthest, base, 0.0, kappa)


def double(features):
    """Features in float64, of unit length to its last digits."""
    features = np.asarray(features, np.float64)
    return features / np.linalg.norm(features, axis=-1, keepdims=True)


@pytest.mark.parametrize("kappa", EVERY_KAPPA)
@pytest.mark.parametrize("kind", MAKERS)
def test_bounds_hold_for_every_pair(kind, kappa):
    views, rows, texts, base = MAKERS[kind](0)
    counts = tuple(sorted({max(1, rows.shape[1] // 2), rows.shape[1]}))
    _, engine = engine_for((views, rows, texts, base), kappa, counts)
    views, texts, base = double(views), double(texts), double(base)
    groups = np.searchsorted(engine.edges, texts @ engine.direction.astype(np.float64), "right")
    for place, count in enumerate(counts):
        means = np.asarray(engine.means[place], np.float64) @ texts.T
        kept = listed(partly(rows[:, :count], count))
        cosines = views @ texts.T
        gains = reference.t_vmf(cosines, kappa) - reference.t_vmf(views @ base, kappa)[:, None]
        exact = np.stack([gains[few].mean(axis=0) for few in kept])
        for concept, expected in enumerate(exact.T):
            cosine = np.stack([means[:, concept]] * len(counts))[:, :, None]
            # The oracle subtracts numbers near 1, and so is itself off by 1e-16.
            assert (engine.lower(cosine, 0)[place, :, 0] <= expected + 1e-15).all()
            assert (upper(engine, cosine)[place, :, groups[concept]] >= expected - 1e-15).all()


@pytest.mark.parametrize("direction", ["random", "against the mean", "its own, without a mean"])
def test_any_direction_gives_the_same_selection(direction, monkeypatch):
    views, rows, texts, base = classes(0)
    if direction == "its own, without a mean":
        texts = np.concatenate([texts, -texts])
    else:
        along = np.random.default_rng(0).normal(size=48)
        along = unit(along if direction == "random" else -texts.mean(axis=0))
        monkeypatch.setattr(screening, "_direction", lambda texts: along)
    given = views, rows, texts, base, 16, 0.9, BLOCK
    same(discover(*given, engine="screened"), discover(*given, engine="full"))


def left(arrays, kappa):
    """Share of the pairs that screening leaves."""
    given, engine = engine_for(arrays, kappa)
    return len(block.candidates(given, engine, 512).units) / len(arrays[1]) / len(arrays[2])


def test_screening_leaves_few_where_exemplars_are_alike():
    arrays = classes(0, concepts=4000, width=256, neurons=30, n=10, spread=0.2)
    for kappa, share in ((0.0, 0.001), (4.0, 0.01), (16.0, 0.05)):
        assert left(arrays, kappa) < share


def test_it_leaves_fewer_where_concepts_are_in_a_cone(monkeypatch):
    arrays = cone(0)
    with_it = left(arrays, 16.0)
    monkeypatch.setattr(screening, "SHARES", ())  # one group, as wide as all concepts
    assert with_it < 0.7 * left(arrays, 16.0)
