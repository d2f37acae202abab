"""A sweep selects what separate runs select, bit for bit."""

import numpy as np
import pytest

from jaxdesc.scoring import block, discover, screening, sweep
from tests.scoring.features import MAKERS, classes, firsts, partly, problem, same

ENGINES = ["full", "screened"]


@pytest.mark.parametrize(
    "kind",
    ["mixed", *(pytest.param(kind, marks=pytest.mark.full) for kind in ("adversarial", "cone"))],
)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_sweep_selects_what_separate_runs_select(kind, engine):
    views, rows, *texts = MAKERS[kind](3)
    kappas, alphas, counts = (0.0, 16.0, 1e5), (0.5, 0.95), (rows.shape[1], 2, 3)
    swept = sweep(views, firsts(rows, counts), *texts, kappas, alphas, block=128, engine=engine)
    assert set(swept) == {(k, a, n) for n in counts for k in kappas for a in alphas}
    for (kappa, alpha, count), found in swept.items():
        same(found, discover(views, rows[:, :count], *texts, kappa, alpha, block=128))


@pytest.mark.full
@pytest.mark.parametrize("engine", [*ENGINES, "auto"])
def test_each_number_asked_for_has_slots_of_its_own(engine):
    views, rows, texts, base = classes(5, concepts=2000)
    slots = {count: partly(rows[:, :count], count) for count in (2, 5, 8)}
    swept = sweep(views, slots, texts, base, [0.0, 16.0], [0.9], block=64, engine=engine)
    for (kappa, alpha, count), found in swept.items():
        same(found, discover(views, slots[count], texts, base, kappa, alpha))


@pytest.mark.full
def test_more_exemplars_than_are_taken_at_a_time():
    views, rows, *texts = classes(1, n=21)
    counts = (8, 9, 21)
    swept = sweep(views, firsts(rows, counts), *texts, [16.0], [0.9], engine="screened")
    for count in counts:
        same(swept[16.0, 0.9, count], discover(views, rows[:, :count], *texts, 16.0, 0.9))


@pytest.mark.parametrize(
    ("engine", "module", "name"),
    [("full", block, "score_block"), ("screened", screening, "screen_block")],
)
def test_concepts_are_looked_at_once(engine, module, name, monkeypatch):
    views, rows, *texts = classes(0)
    looks, look = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *a, **o: looks.append(1) or look(*a, **o))
    slots = firsts(rows, (4, 8))
    sweep(views, slots, *texts, [0.0, 4.0, 64.0], [0.9, 0.95], block=50, engine=engine)
    assert len(looks) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kappas": []}, "kappas or alphas is empty, but at least one of each"),
        ({"kappas": [1.0, -1.0]}, "kappa is -1.0, but the concentration"),
        ({"alphas": [0.5, 2.0]}, "alpha is 2.0, but"),
    ],
)
def test_errors(change, message):
    views, rows, *texts = problem(0)
    options = {"kappas": [1.0], "alphas": [0.5]} | change
    with pytest.raises(ValueError, match=message):
        sweep(views, firsts(rows, [2]), *texts, **options)


def test_scores_of_a_large_kappa_keep_their_digits():
    views, rows, *texts = classes(0)
    found = sweep(views, firsts(rows, [8]), *texts, [1e5, 1e6], [0.5])
    assert all(np.isfinite(one.scores).all() for one in found.values())
