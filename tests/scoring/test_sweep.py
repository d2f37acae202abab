"""A sweep selects what separate runs select, bit for bit."""

import numpy as np
import pytest

from jaxdesc.scoring import candidates, discover, screening, sweep
from tests.scoring.features import EVERY_KAPPA, MAKERS, classes, partly, problem, same


@pytest.mark.parametrize("kind", ["classes", "mixed", "adversarial", "cone"])
@pytest.mark.parametrize("engine", ["full", "screened"])
def test_a_sweep_selects_what_separate_runs_select(kind, engine):
    views, rows, texts, base = MAKERS[kind](3)
    kappas, alphas, counts = (0.0, 16.0, 1e5), (0.5, 0.95), (rows.shape[1], 2, 3)
    swept = sweep(views, rows, texts, base, kappas, alphas, counts, block=128, engine=engine)
    assert set(swept) == {(k, a, n) for n in counts for k in kappas for a in alphas}
    for (kappa, alpha, count), found in swept.items():
        same(found, discover(views, rows[:, :count], texts, base, kappa, alpha, block=128))
    assert list(sweep(views, rows, texts, base, [4.0], [0.9])) == [(4.0, 0.9, rows.shape[1])]


@pytest.mark.parametrize("kind", MAKERS)
def test_a_sweep_that_looks_closer_selects_the_same(kind, monkeypatch):
    views, rows, texts, base = MAKERS[kind](4)
    counts = tuple(sorted({1, -(-rows.shape[1] // 2), rows.shape[1]}))
    options = {"kappas": EVERY_KAPPA, "alphas": (0.3, 0.95), "counts": counts, "block": 128}
    expected = sweep(views, rows, texts, base, **options, engine="full")
    monkeypatch.setattr(screening, "closer_pays", lambda *_: True)
    looks, one_by_one = [], screening.Screened.one_by_one
    monkeypatch.setattr(
        screening.Screened, "one_by_one", lambda *a: looks.append(a[1]) or one_by_one(*a)
    )
    swept = sweep(views, rows, texts, base, **options, engine="screened")
    assert tuple(looks) == counts
    for key, found in swept.items():
        same(found, expected[key])


@pytest.mark.parametrize("engine", ["full", "screened", "auto"])
def test_each_number_asked_for_has_slots_of_its_own(engine):
    views, rows, texts, base = classes(5, concepts=2000)
    slots = {count: partly(rows[:, :count], count) for count in (2, 5, 8)}
    swept = sweep(views, slots, texts, base, [0.0, 16.0], [0.9], block=64, engine=engine)
    assert set(swept) == {(kappa, 0.9, count) for kappa in (0.0, 16.0) for count in slots}
    for (kappa, alpha, count), found in swept.items():
        same(found, discover(views, slots[count], texts, base, kappa, alpha))


def test_more_exemplars_than_are_taken_at_a_time():
    views, rows, texts, base = classes(1, n=21)
    counts = (7, 8, 9, 16, 21)
    swept = sweep(views, rows, texts, base, [16.0], [0.9], counts, engine="screened")
    for count in counts:
        expected = discover(views, rows[:, :count], texts, base, 16.0, 0.9)
        same(swept[16.0, 0.9, count], expected)


@pytest.mark.parametrize("engine", ["full", "screened"])
def test_concepts_are_looked_at_once(engine, monkeypatch):
    views, rows, texts, base = classes(0)
    looks, look = [], candidates.look
    monkeypatch.setattr(candidates, "look", lambda *a: looks.append(1) or look(*a))
    sweep(views, rows, texts, base, [0.0, 4.0, 64.0], [0.9, 0.95], (4, 8), block=50, engine=engine)
    assert len(looks) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kappas": []}, "kappas or alphas is empty, but at least one of each"),
        ({"alphas": []}, "kappas or alphas is empty, but at least one of each"),
        ({"kappas": [1.0, -1.0]}, "kappa is -1.0, but the concentration"),
        ({"alphas": [0.5, 2.0]}, "alpha is 2.0, but"),
        ({"counts": [7]}, "counts holds 7, but there are 1 to 6 exemplars to take"),
        ({"counts": [0]}, "counts holds 0, but there are 1 to 6 exemplars to take"),
    ],
)
def test_errors(change, message):
    options = {"kappas": [1.0], "alphas": [0.5], "counts": [2]} | change
    with pytest.raises(ValueError, match=message):
        sweep(*problem(0), **options)


def test_scores_of_a_large_kappa_keep_their_digits():
    views, rows, texts, base = classes(0)
    found = sweep(views, rows, texts, base, [1e5, 1e6], [0.5])
    assert all(np.isfinite(one.scores).all() for one in found.values())
