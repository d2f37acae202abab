"""Scores of several sources, the floor and the ceiling, against one label at a time."""

import numpy as np
import pytest

from jaxdesc.evaluation.judging import scores as module
from jaxdesc.evaluation.judging.labels import Label
from jaxdesc.evaluation.judging.measures import measured
from jaxdesc.evaluation.judging.presence import SCORER, Presence
from jaxdesc.evaluation.judging.scores import ceiling, random_labels, sanity_of, scores_of

IMAGES, UNITS = 300, 37
CONCEPTS = tuple(f"concept {index}" for index in range(50))
rng = np.random.default_rng(0)
ROWS = rng.random((50, IMAGES)).astype(np.float32)
ROWS[7] = np.nan
ACTIVATIONS = np.maximum(rng.normal(size=(IMAGES, UNITS)), 0).astype(np.float32)
ACTIVATIONS[:, 3] = 1.0
PRESENCE = Presence(
    SCORER, lambda texts: ROWS[[CONCEPTS.index(text) for text in texts]], np.ones(IMAGES, bool)
)


def read(units):
    return ACTIVATIONS[:, list(units)]


def test_each_label_is_scored_as_alone():
    first = random_labels(CONCEPTS, UNITS, seed=1)
    del first[5]
    total = Label((CONCEPTS[0], CONCEPTS[7], CONCEPTS[1]), (2.0, 1.0, -1.0), 0.5)
    found = scores_of(read, UNITS, PRESENCE, {"a": first, "b": {5: total, 6: Label(CONCEPTS[:1])}})
    for unit in range(UNITS):
        if unit in first:
            row = PRESENCE.of(first[unit].concepts)
            for name, (expected,) in measured(ACTIVATIONS[:, unit], row).items():
                assert found["a"][name][unit] == pytest.approx(expected, nan_ok=True), name
        else:
            assert all(np.isnan(values[unit]) for values in found["a"].values())
    # What is unknown of a sum adds nothing.
    row = 2 * ROWS[:1] - ROWS[1:2] + 0.5
    for name, (expected,) in measured(ACTIVATIONS[:, 5], row, np.array([True])).items():
        assert found["b"][name][5] == pytest.approx(expected, nan_ok=True), name
    assert np.isnan(found["a"]["correlation"][3])


@pytest.mark.parametrize("together", [7, 1000])
def test_the_ceiling_is_the_best_of_all(monkeypatch, together):
    monkeypatch.setattr(module, "CONCEPTS", together)
    found = ceiling(read, UNITS, PRESENCE, CONCEPTS)
    for unit in range(UNITS):
        every = measured(ACTIVATIONS[:, unit], ROWS)
        for name, scores in every.items():
            if unit == 3:
                assert np.isnan(found.scores[name][unit])
                continue
            best = np.nanmax(scores)
            if name.startswith("auprc"):  # among the best by other measures
                assert found.scores[name][unit] <= best + 1e-9
                concept = found.concepts[name][unit]
                assert found.scores[name][unit] == pytest.approx(scores[concept])
            else:
                assert found.scores[name][unit] == pytest.approx(best, abs=1e-5), name
                assert scores[found.concepts[name][unit]] == pytest.approx(best, abs=1e-5)


def test_sanity_tests_of_given_labels():
    shows = (ACTIVATIONS > 1).T.astype(np.float32)
    presence = Presence(
        SCORER, lambda texts: shows[[int(text) for text in texts]], np.ones(IMAGES, bool)
    )
    labels = {unit: Label((str(unit),)) for unit in range(UNITS)}
    labels |= {8: Label(("8",), (1.0,))}
    found = sanity_of(read, presence, labels)
    assert found["correlation"].missing_fell == 1
    assert found["correlation"].extra_fell == 1
    assert sanity_of(read, presence, {8: labels[8]}) == {}


def test_of_many_units_some_are_compared_with_the_vocabulary(monkeypatch):
    monkeypatch.setattr(module, "CEILED", 5)
    counted = []
    found = ceiling(read, UNITS, PRESENCE, CONCEPTS, counted.append)
    (some,) = module.groups(UNITS, IMAGES)
    assert len(some) == 5
    known = np.isfinite(found.scores["correlation"])
    assert np.flatnonzero(known).tolist() == [unit for unit in some if unit != 3]
    assert sum(counted) == len(CONCEPTS)
