import hashlib

import numpy as np
import pytest

from jaxdesc.evaluation.metrics import (
    Estimate,
    ceilings,
    estimate,
    evaluate,
    f1,
    hit,
    mean_cosine,
)
from tests.reference import metrics as reference

WORDS = ["Tench", "tench", "goldfish", "Crane", "crane", "CRANE", "bird", "lorry", "truck", "none"]


class Encoder:
    """A unit feature for each string, and the strings that it was asked for."""

    def __init__(self, width=6):
        self.width, self.calls = width, []

    def __call__(self, strings):
        self.calls.append(strings)
        return np.stack([self.feature(string) for string in strings])

    def feature(self, string):
        seed = int.from_bytes(hashlib.sha256(string.encode()).digest()[:4], "big")
        feature = np.random.default_rng(seed).normal(size=self.width) + 0.5
        return (feature / np.linalg.norm(feature)).astype(np.float32)


def layer(seed, neurons=12, without_none=False):
    """Selected concepts, some of them none and some repeated, and each class's names."""
    rng = np.random.default_rng(seed)
    words = WORDS[:-1] if without_none else WORDS
    selected = [rng.choice(words, rng.integers(0, 5)).tolist() for _ in range(neurons)]
    names = [rng.choice(words, rng.integers(1, 4)).tolist() for _ in range(neurons)]
    return selected, names


@pytest.mark.parametrize("seed", range(4))
def test_evaluate_equals_the_definitions(seed):
    selected, names = layer(seed)
    clip, sentence = Encoder(), Encoder(7)
    metrics = evaluate(selected, names, {"clip": clip, "sentence": sentence})
    expected = {"hit": [], "f1": [], "clip_cos": [], "sentence_cos": []}
    for chosen, own in zip(selected, names, strict=True):
        expected["hit"].append(reference.hit(chosen, own))
        expected["f1"].append(reference.f1(chosen, own))
        for encoder, cap, key in ((clip, True, "clip_cos"), (sentence, False, "sentence_cos")):
            p = np.stack([encoder.feature(word.lower()) for word in chosen or ["none"]])
            g = np.stack([encoder.feature(word.lower()) for word in own])
            expected[key].append(reference.mean_cosine(p, g, cap))
    assert list(metrics.values) == list(expected)
    for key, values in expected.items():
        np.testing.assert_allclose(metrics.values[key], values, atol=1e-12)
        found = metrics.estimates[key]
        assert found.mean == pytest.approx(np.mean(values), abs=1e-12)
        assert found.error == pytest.approx(reference.standard_error(values), abs=1e-12)
        assert found.count == 12


def test_by_hand():
    assert hit(["dog", "TENCH"], ["tench", "Tinca tinca"]) == 1
    assert hit(["tinca"], ["tench", "Tinca tinca"]) == 0
    assert hit([], ["tench"]) == 0
    # Precision 1/3, the copy counts; recall 1/2: 2 · (1/6) / (5/6).
    assert f1(["tench", "Tench", "dog"], ["tench", "tinca"]) == pytest.approx(0.4)
    assert f1([], ["tench"]) == 0
    assert estimate(np.array([1.0, 3.0, 1.0, 3.0])) == Estimate(2.0, 0.5, 4)


def test_only_clip_is_capped():
    # Rounding makes the square of a unit feature a little larger than 1.
    long = np.float32(1) + np.float32(1e-6)
    values = evaluate([["a"]], [["a"]], dict.fromkeys(["clip", "sentence"], lambda s: [[long]]))
    assert values.values["clip_cos"][0] == 1
    assert values.values["sentence_cos"][0] == np.float64(long) ** 2
    pair = np.array([[1.5, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    assert mean_cosine(*pair, largest=1.0) == 0.5
    assert mean_cosine(*pair) == 0.75


def test_each_distinct_string_is_encoded_once():
    encoder = Encoder()
    evaluate([["Cat", "cat", "dog"], []], [["CAT"], ["dog", "cow"]], {"clip": encoder})
    assert encoder.calls == [["cat", "dog", "none", "cow"]]
    encoder = Encoder()
    ceilings(["Cat", "cat", "dog"], [["CAT"], ["dog", "cow"]], {"clip": encoder})
    assert encoder.calls == [["cat", "dog", "none", "cow"]]


@pytest.mark.parametrize("seed", range(6))
def test_ceilings_equal_brute_force(seed):
    vocabulary = np.random.default_rng(seed).choice(WORDS[:-1], 7).tolist()
    _, names = layer(seed)
    encoder = Encoder()
    found = ceilings(vocabulary, names, {"clip": encoder, "sentence": encoder})
    hits, f1s = reference.ceilings(vocabulary, names)
    np.testing.assert_array_equal(found.values["hit"], hits)
    np.testing.assert_allclose(found.values["f1"], f1s, atol=1e-12)
    for key, cap in (("clip_cos", True), ("sentence_cos", False)):
        for value, own in zip(found.values[key], names, strict=True):
            g = np.stack([encoder.feature(word.lower()) for word in own])
            best = max(
                reference.mean_cosine(encoder.feature(word.lower())[None], g, cap)
                for word in [*vocabulary, "none"]
            )
            assert value == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_no_selection_is_above_the_ceiling(seed):
    encoders = {"clip": Encoder(), "sentence": Encoder()}
    selected, names = layer(seed, neurons=30)
    # Without repeated entries, since a selection takes all copies of a string.
    selected = [list({word.lower(): word for word in chosen}.values()) for chosen in selected]
    vocabulary = list({word.lower(): word for word in WORDS}.values())
    found, best = evaluate(selected, names, encoders), ceilings(vocabulary, names, encoders)
    for key in found.values:
        assert np.all(found.values[key] <= best.values[key] + 1e-12)


def test_repeated_entries_lower_the_f1_ceiling():
    names = [["crane", "bird"], ["crane"]]
    distinct = ceilings(["crane", "bird"], names, {})
    np.testing.assert_allclose(distinct.values["f1"], [1, 1])
    # Three cranes: with the bird 2 · 2 / (4 + 2), the bird alone 2 · 1 / (1 + 2), equal; four: the
    # bird alone is better than 2 · 2 / (5 + 2).
    cranes = ["crane", "Crane", "CRANE", "crane"]
    for copies in (3, 4):
        repeated = ceilings([*cranes[:copies], "bird"], names, {})
        np.testing.assert_allclose(repeated.values["f1"], [2 / 3, 2 / (copies + 1)])
        np.testing.assert_array_equal(repeated.values["hit"], 1)


def test_blocks_of_the_vocabulary_change_nothing(monkeypatch):
    vocabulary, (_, names) = [f"word {k}" for k in range(23)], layer(0)
    whole = ceilings(vocabulary, names, {"clip": Encoder()}).values["clip_cos"]
    monkeypatch.setattr("jaxdesc.evaluation.metrics._BLOCK", 5)
    parts = ceilings(vocabulary, names, {"clip": Encoder()}).values["clip_cos"]
    np.testing.assert_allclose(parts, whole, atol=1e-12)


def test_errors():
    with pytest.raises(ValueError, match="2 neurons have concepts, but 1 have names"):
        evaluate([["a"], ["b"]], [["a"]], {})
    with pytest.raises(ValueError, match="the class of neuron 1 has no name to compare with"):
        evaluate([["a"], ["b"]], [["a"], []], {})
    with pytest.raises(ValueError, match="the class has no name to compare with"):
        f1(["a"], [])
    with pytest.raises(ValueError, match="no encoder 'mpnet': choose from clip, sentence"):
        evaluate([["a"]], [["a"]], {"mpnet": Encoder()})
    with pytest.raises(ValueError, match=r"'clip' returned shape \(1, 1\) for 2 strings, but one"):
        evaluate([["a"]], [["b"]], {"clip": lambda strings: np.ones((1, 1))})
    for length in (2.0, np.nan):
        with pytest.raises(ValueError, match=f"of length {length:.4g} for 'a', but unit length"):
            evaluate([["a"]], [["A"]], {"clip": lambda s, length=length: np.full((1, 1), length)})
    with pytest.raises(ValueError, match="a list of strings, but got the single string 'cat'"):
        evaluate(["cat"], [["cat"]], {})
    with pytest.raises(ValueError, match="an empty vocabulary has no ceiling"):
        ceilings([], [["a"]], {})
    with pytest.raises(ValueError, match="a mean over no neurons doesn't exist"):
        estimate(np.zeros(0))
