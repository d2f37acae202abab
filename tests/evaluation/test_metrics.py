import hashlib

import numpy as np
import pytest

from jaxdesc.evaluation import metrics
from jaxdesc.evaluation.metrics import METRICS, ceilings, evaluate
from tests.reference import metrics as reference

WORDS = ["Tench", "tench", "goldfish", "Crane", "crane", "CRANE", "bird", "lorry", "truck", "none"]
CAPPED = {"clip_cos": True, "sentence_cos": False}


def encoder(width):
    """Unit features that depend on the text alone."""

    def encode(texts):
        seeds = [int.from_bytes(hashlib.sha256(t.encode()).digest()[:4], "big") for t in texts]
        rows = np.stack([np.random.default_rng(seed).normal(size=width) + 0.5 for seed in seeds])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    return encode


ENCODERS = {"clip": encoder(6), "sentence": encoder(7)}


def layer(seed, neurons=12):
    """Selected concepts, some of them none and some repeated, and each class's names."""
    rng = np.random.default_rng(seed)
    selected = [rng.choice(WORDS, rng.integers(0, 5)).tolist() for _ in range(neurons)]
    names = [rng.choice(WORDS, rng.integers(1, 4)).tolist() for _ in range(neurons)]
    return selected, names


def cosine(metric, concepts, names):
    encode = ENCODERS[METRICS[metric].encoder]
    features = (encode([text.lower() for text in texts]) for texts in (concepts or ["none"], names))
    return reference.mean_cosine(*features, CAPPED[metric])


@pytest.mark.parametrize("seed", range(4))
def test_evaluate_equals_the_definitions(seed):
    selected, names = layer(seed)
    found = evaluate(selected, names, ENCODERS)
    pairs = list(zip(selected, names, strict=True))
    expected = {
        "hit": [reference.hit(p, g) for p, g in pairs],
        "f1": [reference.f1(p, g) for p, g in pairs],
        **{metric: [cosine(metric, p, g) for p, g in pairs] for metric in CAPPED},
    }
    assert list(found.values) == list(expected) == list(METRICS)
    for name, values in expected.items():
        np.testing.assert_allclose(found.values[name], values, atol=1e-12)
        mean, error = np.mean(values), reference.standard_error(values)
        assert tuple(vars(found.estimates[name]).values()) == pytest.approx((mean, error, 12))
    assert list(evaluate(selected, names, {}).values) == ["hit", "f1"]


def test_only_clip_is_capped():
    # Rounding makes the square of a unit feature a little larger than 1.
    long = np.float32(1) + np.float32(1e-6)
    found = evaluate(
        [["a"]], [["a"]], dict.fromkeys(["clip", "sentence"], lambda s: np.array([[long]]))
    )
    assert found.values["clip_cos"][0] == 1
    assert found.values["sentence_cos"][0] == np.float64(long) ** 2


@pytest.mark.parametrize("seed", range(4))
def test_ceilings_equal_brute_force(seed, monkeypatch):
    vocabulary = np.random.default_rng(seed).choice(WORDS[:-1], 7).tolist()
    _, names = layer(seed)
    if seed % 2:  # blocks of the vocabulary change nothing
        monkeypatch.setattr(metrics, "BLOCK", 2)
    found = ceilings(vocabulary, names, ENCODERS)
    hits, f1s = reference.ceilings(vocabulary, names)
    none = ["none" in [name.lower() for name in of_unit] for of_unit in names]
    np.testing.assert_array_equal(found.values["hit"], np.logical_or(hits, none))
    best = [max(f1, reference.f1([], g)) for f1, g in zip(f1s, names, strict=True)]
    np.testing.assert_allclose(found.values["f1"], best, atol=1e-12)
    for metric in CAPPED:
        best = [max(cosine(metric, [w], g) for w in [*vocabulary, "none"]) for g in names]
        np.testing.assert_allclose(found.values[metric], best, atol=1e-12)


def test_repeated_entries_lower_the_f1_ceiling():
    names = [["crane", "bird"], ["crane"]]
    np.testing.assert_allclose(ceilings(["crane", "bird"], names, {}).values["f1"], [1, 1])
    # Three cranes: with the bird 2 · 2 / (4 + 2), the bird alone 2 · 1 / (1 + 2), equal; four: the
    # bird alone is better than 2 · 2 / (5 + 2).
    cranes = ["crane", "Crane", "CRANE", "crane"]
    for copies in (3, 4):
        repeated = ceilings([*cranes[:copies], "bird"], names, {})
        np.testing.assert_allclose(repeated.values["f1"], [2 / 3, 2 / (copies + 1)])
        np.testing.assert_array_equal(repeated.values["hit"], 1)
