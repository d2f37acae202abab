"""Discovery equals the definition for any blocks, engines, orders and storage."""

from dataclasses import replace

import jaxtyping
import numpy as np
import pytest
import tensorstore

from jaxdesc.exemplars import Slots
from jaxdesc.scoring import Selection, discover, discovery
from jaxdesc.scoring.problem import problem_of
from jaxdesc.similarity import T_VMF, Similarity
from tests.reference import scoring as reference
from tests.scoring.features import classes, listed, partly, problem, same, unit

KAPPAS = [0.0, 16.0, 1e5]
ENGINES = ["full", "screened"]


def power(cosine, base, exponent):
    """A similarity of which screening may assume nothing."""
    return ((1 + cosine) / 2) ** exponent - ((1 + base) / 2) ** exponent


POWER = Similarity(power, slope=lambda rise, exemplars, error, exponent: exponent)


def check(selection, expected_scores, alpha):
    """Compare a selection with all scores in float64, up to rounding at the threshold."""
    scale = np.abs(expected_scores).max(axis=1)
    for neuron, row in enumerate(expected_scores):
        selected = selection.of(neuron)
        wanted = [concept for concept, _ in reference.select(row[None], alpha)[0]]
        assert [concept for concept, _ in selected] == wanted
        np.testing.assert_allclose(
            [value for _, value in selected], row[wanted], rtol=1e-5, atol=1e-5 * scale[neuron]
        )
    np.testing.assert_allclose(selection.maximum, expected_scores.max(axis=1), rtol=1e-4)
    np.testing.assert_array_equal(selection.counts == 0, expected_scores.max(axis=1) <= 0)


@pytest.mark.parametrize("kappa", KAPPAS)
@pytest.mark.parametrize("alpha", [1e-6, 0.95])
def test_discover_equals_the_definition(kappa, alpha):
    arrays = problem(1)
    check(discover(*arrays, kappa, alpha, block=10), reference.scores(*arrays, kappa), alpha)


def test_any_similarity_is_scored_by_the_full_engine(monkeypatch):
    monkeypatch.setattr(discovery, "Screened", None)
    views, rows, texts, base = problem(1)
    cosines, with_base = (views @ texts.T).astype(float), (views @ base).astype(float)
    scores = power(cosines, with_base[:, None], 3.0)[rows].mean(axis=1)
    for engine in ("auto", *ENGINES):
        found = discover(views, rows, texts, base, 3.0, 0.7, 10, engine, similarity=POWER)
        check(found, scores, 0.7)


@pytest.mark.parametrize("kappa", KAPPAS)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("images", [30, 512])  # 512: all rows of a padded size are taken
def test_each_neuron_has_exemplars_of_its_own_number(kappa, engine, images):
    views, rows, texts, base = problem(4, images=images, neurons=9)
    slots = Slots(rows, np.array([6, 1, 0, 3, 6, 0, 2, 5, 6], np.int32))
    expected = reference.scores(views, listed(slots), texts, base, kappa)
    found = discover(views, slots, texts, base, kappa, 0.7, block=10, engine=engine)
    check(found, expected, 0.7)
    # And each is scored as if it were alone, bit for bit.
    for neuron in (0, 1, 7):
        alone = rows[[neuron], : slots.counts[neuron]]
        same(found.part(neuron, neuron + 1), discover(views, alone, texts, base, kappa, 0.7))
    none = Slots(rows, np.zeros(9, np.int32))
    assert not discover(views, none, texts, base, kappa, 0.7, engine=engine).counts.any()


@pytest.mark.parametrize(("limit", "value"), [("SCREENED", 5), ("_SCORES", 1), ("_SCORES", 7)])
def test_a_few_neurons_or_pairs_at_a_time_change_nothing(limit, value, monkeypatch):
    views, rows, texts, base = classes(2)
    slots = partly(rows)
    whole = discover(views, slots, texts, base, 16, 0.5, engine="screened")
    monkeypatch.setattr(discovery, limit, value)
    same(discover(views, slots, texts, base, 16, 0.5, engine="screened"), whole)


@pytest.mark.parametrize("block", [2, 3, 8])
def test_ties_are_all_selected_by_concept_index(block):
    # Features of one coordinate each, so that equal concepts score equally in every block.
    views = np.eye(4, dtype=np.float32)
    texts, base = views[[1, 0, 2, 1, 0, 1, 2, 0]], views[3]
    selection = discover(views, np.array([[0, 0], [1, 0], [3, 3]]), texts, base, 0, 0.5, block)
    assert selection.of(0) == [(1, 1.0), (4, 1.0), (7, 1.0)]
    assert selection.of(1) == [(j, 0.5) for j in (0, 1, 3, 4, 5, 7)]
    # Neuron 2 sees the base template itself: its best score is -1, and a half of that is above it.
    assert selection.of(2) == []
    np.testing.assert_array_equal(selection.counts, [3, 6, 0])
    np.testing.assert_array_equal(selection.maximum, [1.0, 0.5, -1.0])
    np.testing.assert_array_equal(selection.threshold, [0.5, 0.25, -0.5])


def test_equal_concepts_tie_however_the_product_is_rounded():
    def uneven(cosine, base, kappa):
        columns = np.arange(np.shape(cosine)[1])[None] if np.ndim(cosine) > 1 else 0
        return T_VMF.difference(cosine, base, kappa) * (1 + np.float32(1e-6) * columns)

    views, exemplars, texts, base = problem(0, concepts=11)
    rows = np.random.default_rng(0).integers(0, 11, 43)
    rounded = replace(T_VMF, difference=uneven, screened=False)
    selection = discover(views, exemplars, texts[rows], base, 0, 0.5, block=4, similarity=rounded)
    for neuron in range(len(exemplars)):
        found = dict(selection.of(neuron))
        for row in {rows[concept] for concept in found}:
            copies = np.flatnonzero(rows == row)
            assert len({found[int(copy)] for copy in copies}) == 1
    assert selection.counts.sum() > len(exemplars)


def test_the_threshold_itself_stays_out_and_a_zero_maximum_selects_nothing():
    # Orthogonal base: the score at kappa 0 is the cosine, exactly 1 and exactly a half.
    views, chosen = np.eye(5, dtype=np.float32), np.array([[0]])
    texts = np.array([[1, 0, 0, 0, 0], [0.5, 0.5, 0.5, 0.5, 0]], np.float32)
    assert discover(views, chosen, texts, views[4], 0, 0.5).of(0) == [(0, 1.0)]
    assert len(discover(views, chosen, texts, views[4], 0, 0.4999).of(0)) == 2
    selection = discover(views, chosen, views[1:2], views[2], 16, 0.95)
    assert (selection.maximum[0], selection.of(0)) == (0, [])


def test_a_view_that_is_the_base_template_is_no_nearer_than_one():
    views = unit(np.random.default_rng(0).normal(size=(3, 512))) * np.float32(1 + 4e-6)
    assert views[0] @ views[0] > 1  # though its length is near enough to 1 to be left as it is
    slots = {1: Slots.full(np.zeros((1, 1), int))}
    given = problem_of(views, slots, views[1:], views[0], [16.0], [0.9])
    assert np.asarray(given.with_base).max() == 1


def test_one_trace_for_all_blocks_and_kappas():
    traces = []

    def counted(cosine, *given):
        traces.append(not isinstance(cosine, np.ndarray))
        return T_VMF.difference(cosine, *given)

    similarity = replace(T_VMF, difference=counted, screened=False)
    for kappa in (0, 1.5, np.float32(16)):
        discover(*problem(0), kappa, 0.95, block=9, similarity=similarity)
    assert sum(traces) == 2  # all blocks' scores, and the candidates'


@pytest.mark.parametrize("faster", ENGINES)
def test_the_faster_engine_is_taken_and_selects_the_same(faster, monkeypatch):
    taken = []
    for name in ("Full", "Screened"):
        engine = getattr(discovery, name)
        monkeypatch.setattr(*(discovery, name), lambda p, e=engine, n=name: taken.append(n) or e(p))
    timed = discovery._seconds
    slower = {"full": 1e-9, "screened": 1e9}[faster]
    times = iter([lambda x: x, lambda x: x, lambda x: slower])
    monkeypatch.setattr(discovery, "_seconds", lambda run: next(times)(timed(run)))
    arrays = classes(0, concepts=2000, neurons=6, n=100)
    found = discover(*arrays, 16, 0.95, block=32)
    assert taken[-1].lower() == faster
    same(found, discover(*arrays, 16, 0.95, block=32, engine="full"))


@pytest.mark.parametrize("engine", ENGINES)
def test_concepts_are_read_from_disk(engine, tmp_path):
    views, rows, texts, base = classes(0)
    np.save(tmp_path / "texts.npy", texts)
    on_disk = np.load(tmp_path / "texts.npy", mmap_mode="r")
    store = tensorstore.open(
        {
            "driver": "zarr",
            "kvstore": {"driver": "file", "path": str(tmp_path / "texts.zarr")},
            "metadata": {"shape": texts.shape, "chunks": [64, 48], "dtype": "<f4"},
        },
        create=True,
    ).result()
    store.write(texts).result()
    expected = discover(views, rows, texts, base, 16, 0.9, block=64, engine=engine)
    for source in (on_disk, store):
        same(discover(views, rows, source, base, 16, 0.9, block=64, engine=engine), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kappa": -1}, "kappa is -1, but the concentration must be a finite number >= 0"),
        ({"alpha": 1.1}, r"alpha is 1.1, but the concept sensitivity must lie in \(0, 1\]"),
        ({"alpha": float("nan")}, "alpha is nan, but"),
        ({"block": 0}, "block is 0, but at least 1 concept"),
        ({"exemplars": np.zeros((2, 0), int)}, r"exemplars has shape \(2, 0\) of int64, but"),
        ({"exemplars": np.zeros((2, 3))}, r"exemplars has shape \(2, 3\) of float64, but integ"),
        ({"exemplars": np.array([[0, 30]])}, "exemplars holds rows 0 to 30, but .* rows 0 to 29"),
        ({"concept_features": np.zeros((0, 12))}, r"concept_features has shape \(0, 12\), but"),
    ],
)
def test_errors(change, message, monkeypatch):
    # As a user runs the library: no annotation is an assertion.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    views, exemplars, texts, base = problem(0)
    arguments = {
        "image_features": views, "exemplars": exemplars, "concept_features": texts,
        "base_feature": base, "kappa": 16, "alpha": 0.95,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        discover(**(arguments | change))


def test_a_selection_by_hand():
    selection = Selection(
        np.array([2, 0, 1]),
        np.array([5, 3, 7], np.int32),
        np.array([0.5, 0.4, 0.3], np.float32),
        np.array([0.5, -1.0, 0.3], np.float32),
        np.array([0.4, -0.9, 0.2]),
    )
    left = selection.without(np.array([True, False, False]))
    assert [left.of(i) for i in range(3)] == [[], [], selection.of(2)]
    np.testing.assert_array_equal(left.maximum, selection.maximum)
    for neuron in (-1, 3):
        with pytest.raises(IndexError, match=f"neuron {neuron} of a selection of 3 neurons"):
            selection.of(neuron)
